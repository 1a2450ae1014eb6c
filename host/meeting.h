/* meeting.h - a barrier that can be called off. */
#ifndef COG_HOST_MEETING_H
#define COG_HOST_MEETING_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "cograd/status.h"

typedef struct cog_meeting {
    pthread_mutex_t mutex;
    pthread_cond_t complete;
    int n_expected;
    int n_arrived;
    int64_t generation;
    bool called_off;
    bool open;
} cog_meeting;

cog_status cog_meeting_open(cog_meeting *meeting, int n_expected); /* zeros before */
void cog_meeting_destroy(cog_meeting *meeting);                    /* accepts zeros */

/* Wait for everybody. False when the meeting was called off. */
bool cog_meeting_attend(cog_meeting *meeting);

/* Everybody who waits, or comes later, leaves at once. */
void cog_meeting_call_off(cog_meeting *meeting);

#endif
