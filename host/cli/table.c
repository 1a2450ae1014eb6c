/* table.c - rows of schemes, and sentences of ratios. */
#include "table.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

enum { TEXT = 32 };

void cog_human_number(double value, char *out, size_t size) {
    if (!isfinite(value) || value < 99.95) {
        snprintf(out, size, value < 9.995 ? "%.2f" : "%.1f", value);
        return;
    }
    /* three digits count, the rest are zeros; a thin group every three */
    const double unit = pow(10, floor(log10(value)) - 2);
    char digits[TEXT];
    snprintf(digits, sizeof(digits), "%.0f", unit > 1 ? round(value / unit) * unit : value);
    size_t length = strlen(digits), used = 0;
    for (size_t i = 0; i < length && used + 2 < size; i++) {
        if (i > 0 && (length - i) % 3 == 0) out[used++] = ' ';
        out[used++] = digits[i];
    }
    out[used] = '\0';
}

static int width_of_names(const cog_experiment *experiments, int n) {
    int width = (int)strlen("scheme");
    for (int i = 0; i < n; i++) {
        const int length = (int)strlen(experiments[i].options->name);
        if (length > width) width = length;
    }
    return width;
}

static void print_row(FILE *out, const cog_experiment *e, int width) {
    const cog_point *last = cog_experiment_last(e);
    const cog_report *r = &last->report;
    const double up = 1e-6 * (double)r->bytes_up, down = 1e-6 * (double)r->bytes_down;
    const double bytes[] = {up, down, up + down, r->virtual_seconds, r->seconds};
    if (e->has_classes)
        fprintf(out, "%-*s  %8.4f  %6lld", width, e->options->name, last->test_accuracy,
                (long long)r->round);
    else
        fprintf(out, "%-*s  %8.4g  %6lld", width, e->options->name, last->test_loss,
                (long long)r->round);
    for (size_t i = 0; i < sizeof(bytes) / sizeof(bytes[0]); i++) {
        char text[TEXT];
        cog_human_number(bytes[i], text, sizeof(text));
        fprintf(out, "  %9s", text);
    }
    fprintf(out, "  %s\n", cog_ending_name(e->ending));
}

/* "1 100x fewer bytes up": `more` and `less` name the two directions. */
static void print_ratio(FILE *out, const char *before, double reference, double mine,
                        const char *less, const char *more) {
    char text[TEXT];
    if (!(reference > 0 && mine > 0)) return;
    const bool better = mine <= reference;
    cog_human_number(better ? reference / mine : mine / reference, text, sizeof(text));
    fprintf(out, "%s %sx %s", before, text, better ? less : more);
}

static void print_comparison(FILE *out, const cog_experiment *e, const cog_experiment *reference) {
    const cog_report *mine = &cog_experiment_last(e)->report;
    const cog_report *other = &cog_experiment_last(reference)->report;
    if (!e->has_target || !reference->has_target) {
        fprintf(out, "%s against %s: no ratio, because there was no target accuracy to reach.\n",
                e->options->name, reference->options->name);
        return;
    }
    if (e->ending != COG_END_TARGET || reference->ending != COG_END_TARGET) {
        const cog_experiment *short_one = e->ending != COG_END_TARGET ? e : reference;
        fprintf(out, "%s against %s: no ratio, because %s did not reach the target accuracy.\n",
                e->options->name, reference->options->name, short_one->options->name);
        return;
    }
    fprintf(out, "%s against %s, to the same accuracy", e->options->name, reference->options->name);
    print_ratio(out, ":", (double)other->bytes_up, (double)mine->bytes_up, "fewer bytes up",
                "more bytes up");
    print_ratio(out, ",", (double)(other->bytes_up + other->bytes_down),
                (double)(mine->bytes_up + mine->bytes_down), "fewer in all", "more in all");
    /* with `sim` real time is that of the simulation, and says nothing about the scheme */
    print_ratio(out, ",", other->virtual_seconds, mine->virtual_seconds,
                e->is_virtual ? "faster in virtual time" : "faster in real time",
                e->is_virtual ? "slower in virtual time" : "slower in real time");
    fputs(".\n", out);
}

void cog_table_print(FILE *out, const cog_experiment *experiments, int n, int reference) {
    const int width = width_of_names(experiments, n);
    fprintf(out, "\n%-*s  %8s  %6s  %9s  %9s  %9s  %9s  %9s  %s\n", width, "scheme",
            experiments[0].has_classes ? "accuracy" : "loss", "rounds", "up MB", "down MB",
            "total MB", "virtual s", "real s", "stopped by");
    for (int i = 0; i < n; i++) print_row(out, &experiments[i], width);
    for (int i = 0; i < n && reference >= 0; i++) {
        if (i == 0) fputc('\n', out);
        if (i != reference) print_comparison(out, &experiments[i], &experiments[reference]);
    }
}
