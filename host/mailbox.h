/* mailbox.h - a queue of parcels that one thread reads and any thread fills. */
#ifndef COG_HOST_MAILBOX_H
#define COG_HOST_MAILBOX_H

#include <pthread.h>
#include <time.h>

#include "parcel.h"

typedef struct cog_mailbox {
    pthread_mutex_t mutex;
    pthread_cond_t changed; /* waits on CLOCK_MONOTONIC */
    cog_parcel_list list;
    bool closed; /* nothing goes in or comes out any more */
    bool open;   /* mutex and condition exist */
} cog_mailbox;

/* Zeros before; destroy accepts what was never opened. */
cog_status cog_mailbox_open(cog_mailbox *box);
void cog_mailbox_destroy(cog_mailbox *box, cog_parcel_pool *pool); /* gives back what is left */

/* Nobody waits any longer. */
void cog_mailbox_close(cog_mailbox *box);

/* Hand over; a closed box gives the parcel back to the pool. */
void cog_mailbox_put(cog_mailbox *box, cog_parcel_pool *pool, cog_parcel *parcel);

/* The next parcel; NULL when the box was closed, or nothing came before the deadline (NULL: wait
 * for ever). */
cog_parcel *cog_mailbox_get(cog_mailbox *box, const struct timespec *deadline);

/* Sleep until the deadline, or less when the box is closed. */
void cog_mailbox_sleep(cog_mailbox *box, const struct timespec *deadline);

/* A condition variable on CLOCK_MONOTONIC. */
cog_status cog_condition_open(pthread_cond_t *condition);

/* Now, and a moment so many seconds later (at most 10^9). */
double cog_clock_seconds(void);
struct timespec cog_clock_after(double seconds);

#endif
