/* stragglers.h - injected slowness: how late each worker is in each round.
 *
 * A draw depends on (seed, worker, round) alone, so it is the same on every transport.
 *
 *   none
 *   exp:mean=0.01                        exponential delay, seconds
 *   shifted-exp:shift=0.005,mean=0.01    constant plus exponential
 *   pareto:scale=0.005,shape=1.5         heavy tail
 *   bernoulli:probability=0.1[,delay=S]  with a delay: that much late; without: no answer
 *   slow:workers=1,factor=5              the first workers compute that many times slower
 *   dead:workers=2,at=100                the first workers never answer from that round on
 *   trace:file=PATH                      a line a round, n_workers delays in seconds each;
 *                                        '-' = no answer; '#' begins a comment; repeats
 */
#ifndef COG_HOST_STRAGGLERS_H
#define COG_HOST_STRAGGLERS_H

#include <stdint.h>

#include "cograd/status.h"
#include "spec.h"

typedef enum cog_fate { COG_ANSWERS, COG_DECLINES, COG_DEAD } cog_fate;

typedef struct cog_straggle {
    cog_fate fate;
    double factor; /* compute takes this many times longer, >= 1 */
    double delay;  /* seconds more, >= 0 */
} cog_straggle;

typedef struct cog_stragglers cog_stragglers;

cog_status cog_stragglers_open(const char *spec, int n_workers, uint64_t seed,
                               cog_stragglers **out);
/* For listings: the name of kind i, NULL past the last, and the keys it asks for. */
const char *cog_stragglers_describe(int i, cog_spec *spec);
void cog_stragglers_close(cog_stragglers *stragglers); /* accepts NULL */
cog_straggle cog_stragglers_draw(const cog_stragglers *stragglers, int worker, int64_t round);

#endif
