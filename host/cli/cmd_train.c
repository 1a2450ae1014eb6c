/* cmd_train.c - `cograd train`: one scheme, and a baseline beside it when asked. */
#include <jansson.h>
#include <string.h>

#include "commands.h"
#include "suite.h"

/* The same problem without compression, under the code the user named. */
static int add_baseline(cog_suite *s) {
    const cog_options *scheme = &s->scheme[0];
    cog_options *base = &s->scheme[s->n++];
    *base = *scheme;
    base->code = scheme->baseline;
    base->faults = "none"; /* an all-reduce would have none */
    base->channel = "identity";
    base->checkpoint = base->resume = base->record = base->replay = NULL; /* the scheme's alone */
    if (base->baseline_optimizer != NULL) base->optimizer = base->baseline_optimizer;
    const int status = cog_scheme_name(base);
    if (status == 0 && strcmp(base->name, scheme->name) == 0) base->name = "baseline";
    s->reference = 1;
    return status;
}

/* The scheme's record; that of the baseline is its member "baseline". */
static json_t *make_record(const cog_suite *s) {
    json_t *record = cog_record_make(&s->experiment[0]);
    if (record == NULL || s->n_run < 2) return record;
    json_t *baseline = cog_record_make(&s->experiment[1]);
    if (baseline != NULL && json_object_set_new(record, "baseline", baseline) == 0) return record;
    json_decref(record);
    return NULL;
}

int cog_cmd_train(int argc, char **argv) {
    static cog_suite suite; /* too large for a stack, one a process */
    suite = (cog_suite){.n = 1, .reference = -1, .make_record = make_record};
    int status = cog_options_parse(COG_FOR_TRAIN, argc, argv, &suite.shared);
    if (status != 0) return status;
    suite.scheme[0] = suite.shared;
    status = cog_scheme_name(&suite.scheme[0]);
    if (status == 0 && strcmp(suite.shared.baseline, "none") != 0) status = add_baseline(&suite);
    return status != 0 ? status : cog_suite_run(&suite);
}
