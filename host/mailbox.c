/* mailbox.c - a list, a lock and a condition; frames outlive no box. */
#include "mailbox.h"

#include <errno.h>
#include <math.h>

#include "check.h"

double cog_clock_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

struct timespec cog_clock_after(double seconds) {
    const double wait = seconds > 0 ? fmin(seconds, 1e9) : 0; /* NaN: 0 */
    struct timespec moment;
    clock_gettime(CLOCK_MONOTONIC, &moment);
    moment.tv_sec += (time_t)wait;
    moment.tv_nsec += (long)((wait - floor(wait)) * 1e9);
    if (moment.tv_nsec >= 1000000000) {
        moment.tv_nsec -= 1000000000;
        moment.tv_sec++;
    }
    return moment;
}

cog_status cog_condition_open(pthread_cond_t *condition) {
    pthread_condattr_t attributes;
    COG_CHECK(pthread_condattr_init(&attributes) == 0, COG_ERR_MEMORY, "no memory for a condition");
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    const int failed = pthread_cond_init(condition, &attributes);
    pthread_condattr_destroy(&attributes);
    COG_CHECK(!failed, COG_ERR_MEMORY, "no memory for a condition");
    return COG_OK;
}

cog_status cog_mailbox_open(cog_mailbox *box) {
    COG_CHECK(pthread_mutex_init(&box->mutex, NULL) == 0, COG_ERR_MEMORY, "no lock for a mailbox");
    const cog_status status = cog_condition_open(&box->changed);
    if (status != COG_OK) pthread_mutex_destroy(&box->mutex);
    box->open = status == COG_OK;
    return status;
}

void cog_mailbox_destroy(cog_mailbox *box, cog_parcel_pool *pool) {
    if (!box->open) return;
    cog_parcel_give_all(pool, &box->list);
    pthread_cond_destroy(&box->changed);
    pthread_mutex_destroy(&box->mutex);
    box->open = false;
}

void cog_mailbox_close(cog_mailbox *box) {
    if (!box->open) return;
    pthread_mutex_lock(&box->mutex);
    box->closed = true;
    pthread_cond_broadcast(&box->changed);
    pthread_mutex_unlock(&box->mutex);
}

void cog_mailbox_put(cog_mailbox *box, cog_parcel_pool *pool, cog_parcel *parcel) {
    pthread_mutex_lock(&box->mutex);
    const bool closed = box->closed;
    if (!closed) {
        cog_parcel_push(&box->list, parcel);
        pthread_cond_signal(&box->changed);
    }
    pthread_mutex_unlock(&box->mutex);
    if (closed) cog_parcel_give(pool, parcel);
}

/* False when the deadline has passed. The lock is held. */
static bool wait_for_change(cog_mailbox *box, const struct timespec *deadline) {
    if (deadline != NULL)
        return pthread_cond_timedwait(&box->changed, &box->mutex, deadline) != ETIMEDOUT;
    pthread_cond_wait(&box->changed, &box->mutex);
    return true;
}

cog_parcel *cog_mailbox_get(cog_mailbox *box, const struct timespec *deadline) {
    bool in_time = true;
    pthread_mutex_lock(&box->mutex);
    while (in_time && !box->closed && box->list.first == NULL)
        in_time = wait_for_change(box, deadline);
    cog_parcel *parcel = box->closed ? NULL : cog_parcel_pop(&box->list);
    pthread_mutex_unlock(&box->mutex);
    return parcel;
}

void cog_mailbox_sleep(cog_mailbox *box, const struct timespec *deadline) {
    pthread_mutex_lock(&box->mutex);
    while (!box->closed && wait_for_change(box, deadline)) continue;
    pthread_mutex_unlock(&box->mutex);
}
