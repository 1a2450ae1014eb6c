/* meeting.c - counts arrivals; the last one opens the door for this generation. */
#include "meeting.h"

#include "check.h"

cog_status cog_meeting_open(cog_meeting *meeting, int n_expected) {
    *meeting = (cog_meeting){.n_expected = n_expected};
    COG_CHECK(pthread_mutex_init(&meeting->mutex, NULL) == 0, COG_ERR_MEMORY,
              "no lock for a meeting of %d", n_expected);
    meeting->open = pthread_cond_init(&meeting->complete, NULL) == 0;
    if (meeting->open) return COG_OK;
    pthread_mutex_destroy(&meeting->mutex);
    COG_FAIL(COG_ERR_MEMORY, "no memory for a meeting of %d", n_expected);
}

void cog_meeting_destroy(cog_meeting *meeting) {
    if (!meeting->open) return;
    pthread_cond_destroy(&meeting->complete);
    pthread_mutex_destroy(&meeting->mutex);
    meeting->open = false;
}

bool cog_meeting_attend(cog_meeting *meeting) {
    pthread_mutex_lock(&meeting->mutex);
    const int64_t generation = meeting->generation;
    if (++meeting->n_arrived == meeting->n_expected) {
        meeting->n_arrived = 0;
        meeting->generation++;
        pthread_cond_broadcast(&meeting->complete);
    }
    while (meeting->generation == generation && !meeting->called_off)
        pthread_cond_wait(&meeting->complete, &meeting->mutex);
    const bool complete = meeting->generation != generation && !meeting->called_off;
    pthread_mutex_unlock(&meeting->mutex);
    return complete;
}

void cog_meeting_call_off(cog_meeting *meeting) {
    if (!meeting->open) return;
    pthread_mutex_lock(&meeting->mutex);
    meeting->called_off = true;
    pthread_cond_broadcast(&meeting->complete);
    pthread_mutex_unlock(&meeting->mutex);
}
