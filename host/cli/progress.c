/* progress.c - progress of a run on standard output. */
#include "progress.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "complain.h"
#include "table.h"

static void describe(const cog_experiment *e, char *out, size_t size) {
    const cog_point *last = cog_experiment_last(e);
    const cog_report *r = &last->report;
    char up[32], down[32], accuracy[64] = "";
    cog_human_number(1e-6 * (double)r->bytes_up, up, sizeof(up));
    cog_human_number(1e-6 * (double)r->bytes_down, down, sizeof(down));
    if (e->has_classes)
        snprintf(accuracy, sizeof(accuracy), "accuracy %.4f  ", last->test_accuracy);
    snprintf(out, size,
             "%s  round %lld  %sloss %.4g  %s MB up  %s MB down  %.3g s virtual  %.3g s real",
             e->options->name, (long long)r->round, accuracy, last->train_loss, up, down,
             r->virtual_seconds, r->seconds);
}

int cog_output_check(void) {
    if (fflush(stdout) == 0 && !ferror(stdout)) return 0;
    return cog_complain(COG_EXIT_FAILED, "cannot write to standard output: %s", strerror(errno));
}

int cog_progress_show(const cog_experiment *e) {
    char line[512];
    describe(e, line, sizeof(line));
    struct winsize window; /* a line that wraps cannot be overwritten */
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col > 1 &&
        window.ws_col < sizeof(line))
        line[window.ws_col - 1] = '\0';
    /* back to the start, and clear what a longer line left */
    printf(isatty(STDOUT_FILENO) ? "\r%s\033[K" : "%s\n", line);
    return cog_output_check();
}

static const char *describe_ending(cog_ending ending) {
    switch (ending) {
    case COG_END_TARGET: return "reached the target accuracy";
    case COG_END_ROUNDS: return "made its last round";
    case COG_END_SECONDS: return "ran out of time";
    case COG_END_DIVERGED: return "diverged";
    case COG_END_INTERRUPTED: return "was interrupted";
    case COG_END_OUTPUT: return "lost its output";
    case COG_END_FAILED: return "failed";
    }
    return "";
}

void cog_progress_end(const cog_experiment *e) {
    const cog_report *last = &cog_experiment_last(e)->report;
    if (isatty(STDOUT_FILENO)) putchar('\n');
    printf("%s %s after %lld rounds", e->options->name, describe_ending(e->ending),
           (long long)last->round);
    if (last->rounds_skipped > 0)
        printf(", %lld of them without an update", (long long)last->rounds_skipped);
    puts(".");
    if (last->frames_refused > 0)
        printf("%lld frames were not of this run, damaged or second copies, and were dropped.\n",
               (long long)last->frames_refused);
}
