/* handling.h - a worker inside its handler, in real time: what transports do around it, and what a
 * handler may ask for. */
#ifndef COG_HOST_HANDLING_H
#define COG_HOST_HANDLING_H

#include <stdatomic.h>
#include <stdbool.h>

#include "transport.h"

typedef struct cog_handling {
    atomic_bool on; /* inside; a caller on a wrong thread may look */
    bool reducing;  /* asked for an all-reduce */
    double mark;    /* seconds when the handler began, or the last elapse in it ended */
} cog_handling;

/* Hand the worker of that rank a frame. */
cog_status cog_handling_run(cog_handling *h, const cog_transport *transport, int rank,
                            const cog_frame *frame);

/* The same, and after each all-reduce it asks for, made by reduce(user, &done), tell it so. Not
 * done, with COG_OK: the transport is being stopped. */
typedef cog_status (*cog_reduce_fn)(void *user, bool *done);
cog_status cog_handling_deliver(cog_handling *h, const cog_transport *transport, int rank,
                                const cog_frame *frame, cog_reduce_fn reduce, void *user);

/* The elapse of a transport's table: take factor times as long as since the mark, and `delay`
 * seconds more. pause(user, left, &over) sleeps so many seconds or less; over: no longer.
 * ERR_ARGUMENT   a negative time, or a factor below 1 */
typedef cog_status (*cog_pause_fn)(void *user, double seconds, bool *over);
cog_status cog_handling_elapse(cog_handling *h, double flops, double factor, double delay,
                               cog_pause_fn pause, void *user);

/* A pause for those who look for an end half a millisecond apart. */
void cog_handling_nap(double seconds);

#endif
