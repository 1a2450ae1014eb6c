/* answers.h - walks over the sets of workers that may answer a round: every one of them, or a
 * random sample when there are too many. For analysis and for choosing codes, not for rounds.
 *
 *     cog_answers answers;
 *     COG_TRY(cog_answers_open(code, &answers));
 *     cog_answers_begin(&answers, n_answers, 1000);
 *     while (cog_answers_next(&answers)) ... cog_code_decode(code, &answers.arrivals, ...)
 *     cog_answers_close(&answers);
 *
 * A code that draws its coefficients anew in every round is looked at in a new round with each set;
 * where the sets are few, all of them are visited several times.
 */
#ifndef COG_HOST_ANSWERS_H
#define COG_HOST_ANSWERS_H

#include "code.h"
#include "rng.h"

/* Up to this many workers every set is visited: at most 924 of one size. */
enum { COG_ANSWERS_ALL_UP_TO = 12 };

typedef struct cog_answers {
    cog_arrivals arrivals; /* the current set; all messages of the others are declined */
    cog_decoding decoding; /* room for its decoding */
    bool complete;         /* every set of this size is visited */
    int64_t n_sets;        /* visited so far, the current one included */

    const cog_plan *plan;
    bool redraws;
    int n_answers;
    int64_t max_sets, n_all; /* n_all: sets of this size, when complete */
    uint8_t *worker;         /* [n_workers] 1 when it answers */
    uint8_t *arrived;        /* [n_messages] */
    cog_rng rng;
} cog_answers;

cog_status cog_answers_open(const cog_code *code, cog_answers *out);
void cog_answers_close(cog_answers *answers); /* accepts a zeroed struct */

/* Sets of n_answers workers: all of them up to COG_ANSWERS_ALL_UP_TO workers or when there are at
 * most max_sets, else max_sets uniform ones, the same in every run. */
void cog_answers_begin(cog_answers *answers, int n_answers, int64_t max_sets);
bool cog_answers_next(cog_answers *answers);

/* The set in which the stragglers are n_stragglers neighbours from worker `first` on: the worst of
 * codes that hand out shards cyclically, and rare in a sample. */
void cog_answers_run(cog_answers *answers, int first, int n_stragglers);

#endif
