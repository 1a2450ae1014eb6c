/* record.c - records and log lines, by jansson. */
#include "record.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>

#include "cograd/cograd.h"
#include "complain.h"

/* json_real refuses what JSON cannot say. */
static json_t *number(double value) { return isfinite(value) ? json_real(value) : json_null(); }

static json_t *accuracy(const cog_experiment *e, const cog_point *point) {
    return e->has_classes ? number(point->test_accuracy) : json_null();
}

/* Options that make a scheme, by their long names with '_' for '-'. */
static json_t *scheme_options(const cog_options *o) {
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:f}",
                     "data", o->data, "model", o->model, "code", o->code, "channel", o->channel,
                     "downlink", o->downlink, "optimizer", o->optimizer, "transport", o->transport,
                     "device", o->device, "stragglers", o->stragglers, "faults", o->faults,
                     "workers", (json_int_t)o->workers, "batch", (json_int_t)o->batch, "staleness",
                     (json_int_t)o->staleness, "seed", (json_int_t)o->seed, "max_amplification",
                     o->max_amplification);
}

static json_t *results(const cog_experiment *e) {
    const cog_point *last = cog_experiment_last(e);
    const cog_report *r = &last->report;
    return json_pack(
        "{s:s, s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:I, s:I, s:I, s:I, s:I, s:I}", "stopped",
        cog_ending_name(e->ending), "rounds", (json_int_t)r->round, "rounds_skipped",
        (json_int_t)r->rounds_skipped, "train_loss", number(e->train_loss), "test_loss",
        number(last->test_loss), "test_accuracy", accuracy(e, last), "seconds", number(r->seconds),
        "virtual_seconds", number(r->virtual_seconds), "bytes_up", (json_int_t)r->bytes_up,
        "bytes_down", (json_int_t)r->bytes_down, "messages_used", (json_int_t)r->messages_used,
        "messages_late", (json_int_t)r->messages_late, "messages_dropped",
        (json_int_t)r->messages_dropped, "frames_refused", (json_int_t)r->frames_refused);
}

json_t *cog_record_make(const cog_experiment *e) {
    json_t *record = json_pack("{s:s}", "scheme", e->options->name);
    json_t *reached = results(e), *scheme = scheme_options(e->options);
    int failed = json_object_update(record, reached) | json_object_update(record, scheme) |
                 json_object_set_new(record, "version", json_string(COG_VERSION));
    if (e->error[0] != '\0') failed |= json_object_set_new(record, "error", json_string(e->error));
    json_decref(reached);
    json_decref(scheme);
    if (!failed) return record;
    json_decref(record);
    cog_complain(COG_EXIT_FAILED, "out of memory");
    return NULL;
}

static int dump(const json_t *json, size_t flags, cog_file *file) {
    errno = 0;
    if (json_dumpf(json, file->stream, flags | JSON_REAL_PRECISION(15)) == 0)
        fputc('\n', file->stream);
    else if (errno == 0)
        return cog_complain(COG_EXIT_FAILED, "out of memory");
    return cog_file_check(file);
}

int cog_record_write(const json_t *record, cog_file *file) {
    return dump(record, JSON_INDENT(2), file);
}

int cog_log_point(const cog_experiment *e, cog_file *file) {
    const cog_point *last = cog_experiment_last(e);
    const cog_report *r = &last->report;
    json_t *line =
        json_pack("{s:s, s:I, s:o, s:o, s:o, s:o, s:o, s:I, s:I, s:I}", "scheme", e->options->name,
                  "round", (json_int_t)r->round, "seconds", number(r->seconds), "virtual_seconds",
                  number(r->virtual_seconds), "train_loss", number(last->train_loss), "test_loss",
                  number(last->test_loss), "test_accuracy", accuracy(e, last), "bytes_up",
                  (json_int_t)r->bytes_up, "bytes_down", (json_int_t)r->bytes_down, "messages_used",
                  (json_int_t)r->messages_used);
    if (line == NULL) return cog_complain(COG_EXIT_FAILED, "out of memory");
    const int status = dump(line, JSON_COMPACT, file);
    json_decref(line);
    return status;
}
