/* handling.c - handlers on the real clock. */
#include "handling.h"

#include <time.h>

#include "check.h"
#include "mailbox.h"

static const double longest_nap = 5e-4;

cog_status cog_handling_run(cog_handling *h, const cog_transport *transport, int rank,
                            const cog_frame *frame) {
    h->mark = cog_clock_seconds();
    h->on = true;
    const cog_status status = transport->handle(transport->worker[rank - 1], frame);
    h->on = false;
    return status;
}

cog_status cog_handling_deliver(cog_handling *h, const cog_transport *transport, int rank,
                                const cog_frame *frame, cog_reduce_fn reduce, void *user) {
    COG_TRY(cog_handling_run(h, transport, rank, frame));
    const cog_frame reduced = {.header = cog_frame_make(COG_FRAME_REDUCED, rank, 0)};
    while (h->reducing) {
        bool done = false;
        COG_TRY(reduce(user, &done));
        h->reducing = false;
        if (done) COG_TRY(cog_handling_run(h, transport, rank, &reduced));
    }
    return COG_OK;
}

cog_status cog_handling_elapse(cog_handling *h, double flops, double factor, double delay,
                               cog_pause_fn pause, void *user) {
    COG_TRY(cog_transport_check_elapse(flops, factor, delay));
    const double begin = cog_clock_seconds();
    const double end = begin + (factor - 1) * (begin - h->mark) + delay;
    bool over = false;
    for (double left = end - begin; left > 0 && !over; left = end - cog_clock_seconds())
        COG_TRY(pause(user, left, &over));
    h->mark = cog_clock_seconds();
    return COG_OK;
}

void cog_handling_nap(double seconds) {
    const double s = seconds < longest_nap ? seconds : longest_nap;
    const struct timespec nap = {.tv_nsec = (long)(1e9 * s)};
    nanosleep(&nap, NULL);
}
