/* server_wait.c - the server's wait for the next frame, which a caller can cut short.
 *
 * Real time passes in slices, between which the caller is asked whether to stop. Virtual time does
 * not pass by itself: nothing is waited for, and once a frame is often enough. */
#include <math.h>

#include "check.h"
#include "server.h"

/* Seconds between two questions: too short for a person to notice. */
static const double slice = 0.05;

static bool told_to_stop(cog_server *s) {
    s->stopped = s->stop != NULL && s->stop(s->stop_user);
    return s->stopped;
}

cog_status cog_server_receive(cog_server *s, double timeout, cog_frame *out) {
    cog_transport *transport = s->transport;
    double left = timeout;
    for (;;) {
        COG_CHECK(!told_to_stop(s), COG_ERR_TIMEOUT, "round %lld was told to stop",
                  (long long)s->round);
        const bool whole = s->stop == NULL || transport->is_virtual || left <= slice;
        const double patience = whole ? left : slice;
        const cog_status status = transport->ops->receive(transport, patience, out);
        if (status != COG_ERR_TIMEOUT || whole) return status;
        left -= patience;
    }
}
