/* code_report.c - one analysis, two forms. */
#include "code_report.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

/* A matrix of at most this many rows and columns is shown. */
enum { MAX_SHOWN = 32 };
static const double max_matrix_entries = 1e6;

/* --------------------------------------------------------------------- for people */

/* All coefficients have one size: then signs say it all. NAN otherwise. */
static double common_size(const cog_plan *plan) {
    const double size = fabs(plan->coef[0]);
    for (int t = 1; t < plan->row[plan->n_messages]; t++)
        if (fabs(fabs(plan->coef[t]) - size) > 1e-12 * size) return NAN;
    return size;
}

static double entry(const cog_plan *plan, int message, int task) {
    double sum = 0;
    for (int t = plan->row[message]; t < plan->row[message + 1]; t++)
        if (plan->part[t] == task) sum += plan->coef[t];
    return sum;
}

static void print_entry(FILE *out, double value, double size) {
    if (value == 0)
        fprintf(out, isnan(size) ? "       ." : "  .");
    else if (isnan(size))
        fprintf(out, " %7.3f", value);
    else
        fprintf(out, "%3s", value > 0 ? "1" : "-1");
}

static void print_matrix(FILE *out, const cog_plan *plan) {
    const int n_tasks = plan->n_shards * plan->n_blocks;
    if (plan->n_messages > MAX_SHOWN || n_tasks > MAX_SHOWN) return;
    const double size = common_size(plan);
    fprintf(out, "\nmatrix: a row for each message, a column for each task, shard by shard");
    if (!isnan(size) && size != 1) fprintf(out, "; times %.4f", size);
    fputc('\n', out);
    for (int m = 0; m < plan->n_messages; m++) {
        fprintf(out, "  worker %-4d", plan->owner[m]);
        for (int j = 0; j < n_tasks; j++) {
            if (j > 0 && j % plan->n_blocks == 0 && plan->n_blocks > 1) fputs(" |", out);
            print_entry(out, entry(plan, m, j), size);
        }
        fputc('\n', out);
    }
}

static void print_facts(FILE *out, const cog_code_analysis *a) {
    fprintf(out, "  tasks          %d: %d data shards x %d gradient blocks\n", a->n_tasks,
            a->n_shards, a->n_blocks);
    fprintf(out,
            "  message        %.4g of the gradient; at most %d tasks in one, %d shards a worker\n",
            a->message_share, a->weight, a->load);
    fprintf(out, "  waits for      %d of %d messages: %.4g gradient lengths a round\n", a->n_waited,
            a->n_messages, a->communication);
    if (a->rank < 0)
        fprintf(out, "  rank           not computed at this size\n");
    else
        fprintf(out, "  rank           %d of %d%s\n", a->rank, a->n_tasks,
                a->tight ? ", tight" : "");
    fprintf(out, "  coherence      %.4f (Welch bound %.4f", a->coherence, a->welch);
    if (!isnan(a->flat_bound)) fprintf(out, ", flat rows %.4f", a->flat_bound);
    fprintf(out, ")\n  distance       %.4f, chordal, of the two closest rows", a->chordal);
    if (a->chordal > 1e-6) fprintf(out, "; they share %.4f nats", fabs(log(a->chordal)));
    fprintf(out, "\n  amplification  %.4g times the energy of errors in the messages\n",
            a->amplification);
}

static void print_number(FILE *out, double value) {
    if (isnan(value))
        fprintf(out, " %11s", "-");
    else if (value < 1e-12)
        fprintf(out, " %11s", "0"); /* rounding */
    else
        fprintf(out, " %11.4g", value);
}

static void print_stragglers(FILE *out, const cog_code_analysis *a) {
    bool sampled = false;
    fputs("\nsquared error of the decoded gradient, relative, when s workers stay silent\n"
          "     s        mean       worst       bound       floor recoverable     refused\n",
          out);
    for (int i = 0; i < a->n_rows; i++) {
        const cog_straggler_facts *row = &a->stragglers[i];
        sampled = sampled || (row->n_sets > 0 && !row->complete);
        fprintf(out, "%6d", row->s);
        print_number(out, row->error_mean);
        print_number(out, row->error_worst);
        print_number(out, row->bound);
        print_number(out, row->floor);
        print_number(out, row->recoverable_share);
        print_number(out, row->refused_share);
        fprintf(out, "%s\n", row->n_sets == 0 ? "  too large" : row->complete ? "" : "  sampled");
    }
    fputs("bound: closed form of the mean, or a bound on it; floor: of the worst, for any code of "
          "this load\n"
          "and length of messages; recoverable: share of straggler sets whose answers determine "
          "the exact gradient;\n"
          "refused: share the decoder gives up on, with error 1\n",
          out);
    if (sampled) fputs("sampled: random sets, not all\n", out);
}

void cog_code_report_print(FILE *out, const char *spec, const cog_code *code,
                           const cog_code_analysis *analysis) {
    fprintf(out, "%s for %d workers\n\n", spec, analysis->n_workers);
    print_facts(out, analysis);
    print_matrix(out, cog_code_plan(code));
    print_stragglers(out, analysis);
}

/* ------------------------------------------------------------------- for machines */

static json_t *number(double value) { return isfinite(value) ? json_real(value) : json_null(); }

static json_t *matrix_json(const cog_plan *plan) {
    const int n_tasks = plan->n_shards * plan->n_blocks;
    if ((double)plan->n_messages * n_tasks > max_matrix_entries) return json_null();
    double *dense = calloc((size_t)n_tasks, sizeof(double));
    json_t *rows = json_array();
    int failed = dense == NULL || rows == NULL;
    for (int m = 0; m < plan->n_messages && !failed; m++) {
        json_t *row = json_array();
        for (int t = plan->row[m]; t < plan->row[m + 1]; t++) dense[plan->part[t]] += plan->coef[t];
        for (int j = 0; j < n_tasks; j++) failed |= json_array_append_new(row, number(dense[j]));
        for (int t = plan->row[m]; t < plan->row[m + 1]; t++) dense[plan->part[t]] = 0;
        failed |= json_array_append_new(rows, row);
    }
    free(dense);
    if (!failed) return rows;
    json_decref(rows);
    return NULL;
}

static json_t *stragglers_json(const cog_code_analysis *a) {
    json_t *rows = json_array();
    int failed = rows == NULL;
    for (int i = 0; i < a->n_rows; i++) {
        const cog_straggler_facts *row = &a->stragglers[i];
        json_t *object = json_object();
        failed |= json_object_set_new(object, "s", json_integer(row->s));
        failed |= json_object_set_new(object, "sets", json_integer(row->n_sets));
        failed |= json_object_set_new(object, "all_sets", json_boolean(row->complete));
        failed |= json_object_set_new(object, "error_mean", number(row->error_mean));
        failed |= json_object_set_new(object, "error_worst", number(row->error_worst));
        failed |= json_object_set_new(object, "bound", number(row->bound));
        failed |= json_object_set_new(object, "floor", number(row->floor));
        failed |= json_object_set_new(object, "recoverable_share", number(row->recoverable_share));
        failed |= json_object_set_new(object, "refused_share", number(row->refused_share));
        failed |= json_array_append_new(rows, object);
    }
    if (!failed) return rows;
    json_decref(rows);
    return NULL;
}

static int put_facts(json_t *object, const cog_code_analysis *a) {
    const struct {
        const char *key;
        json_t *value;
    } facts[] = {
        {"workers", json_integer(a->n_workers)},
        {"messages", json_integer(a->n_messages)},
        {"tasks", json_integer(a->n_tasks)},
        {"shards", json_integer(a->n_shards)},
        {"blocks", json_integer(a->n_blocks)},
        {"weight", json_integer(a->weight)},
        {"load", json_integer(a->load)},
        {"mean_load", number(a->mean_load)},
        {"wait", json_integer(a->n_waited)},
        {"message_share", number(a->message_share)},
        {"communication", number(a->communication)},
        {"rank", a->rank < 0 ? json_null() : json_integer(a->rank)},
        {"tight", json_boolean(a->tight)},
        {"coherence", number(a->coherence)},
        {"chordal", number(a->chordal)},
        {"welch", number(a->welch)},
        {"flat_bound", number(a->flat_bound)},
        {"amplification", number(a->amplification)},
        {"stragglers", stragglers_json(a)},
    };
    int failed = 0;
    for (size_t i = 0; i < sizeof(facts) / sizeof(facts[0]); i++)
        failed |= json_object_set_new(object, facts[i].key, facts[i].value);
    return failed;
}

json_t *cog_code_report_json(const char *spec, const cog_code *code,
                             const cog_code_analysis *analysis) {
    json_t *object = json_object();
    int failed = json_object_set_new(object, "name", json_string(cog_code_name(code)));
    failed |= json_object_set_new(object, "spec", json_string(spec));
    failed |= put_facts(object, analysis);
    failed |= json_object_set_new(object, "matrix", matrix_json(cog_code_plan(code)));
    if (!failed) return object;
    json_decref(object);
    return NULL;
}
