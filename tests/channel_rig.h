/* channel_rig.h - both ends of a channel, and what travels between them. */
#ifndef COG_TESTS_CHANNEL_RIG_H
#define COG_TESTS_CHANNEL_RIG_H

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "channel_parts.h"
#include "optimizer.h"
#include "rng.h"

#define OK(call) cr_assert_eq((call), COG_OK, "%s: %s", #call, cog_last_error())

typedef struct pair {
    cog_device *device;
    cog_channel *sender, *receiver;
} pair;

static inline pair open_pair(const char *spec, int64_t n) {
    pair p;
    OK(cog_device_open("cpu", &p.device));
    cr_assert_eq(cog_channel_open(spec, p.device, n, COG_SENDER, &p.sender), COG_OK, "%s: %s", spec,
                 cog_last_error());
    OK(cog_channel_open(spec, p.device, n, COG_RECEIVER, &p.receiver));
    return p;
}

static inline void close_pair(pair *p) {
    cog_channel_close(p->sender);
    cog_channel_close(p->receiver);
    cog_device_close(p->device);
}

/* Bytes on the wire; the message stays pending. */
static inline size_t send(pair *p, int64_t round, const float *x, const void **message) {
    const cog_term term = {x, 1};
    size_t bytes;
    cog_channel_begin_round(p->sender, round);
    OK(cog_channel_pack(p->sender, 1, &term, message, &bytes));
    return bytes;
}

/* What the receiver makes of it, [n]. */
static inline const float *received(pair *p, const void *message, size_t bytes) {
    OK(cog_channel_receive(p->receiver, message, bytes));
    size_t taken;
    return cog_channel_payload(p->receiver, &taken);
}

static inline void settle(pair *p, bool used) {
    cog_channel_settle(p->sender, used);
    cog_channel_settle(p->receiver, used);
}

/* All of it: sent, received, used. */
static inline const float *deliver(pair *p, int64_t round, const float *x, size_t *bytes) {
    const void *message;
    *bytes = send(p, round, x, &message);
    const float *estimate = received(p, message, *bytes);
    settle(p, true);
    return estimate;
}

static inline double norm_of_gap(const float *x, const float *y, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += pow((double)x[i] - (y != NULL ? y[i] : 0), 2);
    return sqrt(sum);
}

/* A gradient that turns slowly: a_1 q^t + a_2 r^t + .. + noise, as gradient descent makes it. */
static inline void slow_gradient(uint32_t round, double noise, float *x, int64_t n) {
    cog_rng fresh = cog_rng_make(11, COG_STREAM_TEST, round, 1);
    cog_rng same = cog_rng_make(11, COG_STREAM_TEST, 0, 2);
    for (int64_t i = 0; i < n; i++) {
        double sum = 0;
        for (int mode = 0; mode < 4; mode++)
            sum += cog_rng_normal(&same) * pow(0.99 - 0.08 * mode, round);
        x[i] = (float)(sum + noise * cog_rng_normal(&fresh));
    }
}

enum { USED, UNUSED, LOST, REPLACED, N_FATES };

/* Every fate a message can have: used, received and not used, never received, and received but
 * replaced by the answer to the next question before anybody settled it. */
static inline int fate_of(uint32_t round) {
    cog_rng rng = cog_rng_make(3, COG_STREAM_TEST, round, 0);
    return round < 3 ? USED : (int)cog_rng_below(&rng, N_FATES);
}

#endif
