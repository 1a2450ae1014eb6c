/* worker_save.c - a worker's part of a checkpoint: its channels, one frame each, and its replica.
 *
 * Everything else a worker knows follows from the job and the version of its parameters. */
#include "check.h"
#include "worker_parts.h"

static cog_status send_state(cog_worker *w, int64_t request, int32_t message) {
    cog_frame_header header = cog_frame_make(COG_FRAME_STATE, w->index + 1, request);
    header.message = message;
    header.mode = (uint16_t)w->version;
    header.bytes = w->state.used;
    return w->job->transport->ops->send(w->job->transport, w->index + 1, 0, &header, w->state.data);
}

/* Parameters and the optimizer's state, as a PARAMS frame of mode STATE brings them. */
static cog_status save_replica(cog_worker *w) {
    cog_optimizer *optimizer = cog_replica_optimizer(w->replica);
    const size_t n = (size_t)w->job->model->n_params * sizeof(float);
    const size_t state = n * (size_t)cog_optimizer_n_state(optimizer);
    void *at;
    COG_TRY(cog_blob_extend(&w->state, n + state, &at));
    COG_TRY(w->device->ops->download(w->device, at, cog_replica_params(w->replica), n));
    if (state > 0)
        COG_TRY(w->device->ops->download(w->device, (uint8_t *)at + n,
                                         cog_optimizer_state(optimizer), state));
    return cog_device_sync(w->device);
}

cog_status cog_worker_save(cog_worker *w, const cog_frame_header *h) {
    const bool is_meant = w->was_asked && w->request == (uint16_t)h->message;
    for (int i = 0; i < w->count; i++) {
        cog_channel_settle(w->channel[i], is_meant && (h->accepted >> i & 1));
        w->state.used = 0;
        COG_TRY(cog_channel_save(w->channel[i], false, &w->state));
        COG_TRY(send_state(w, h->round, w->first + i));
    }
    w->state.used = 0;
    if (h->mode == 1) COG_TRY(save_replica(w));
    return send_state(w, h->round, -1);
}

cog_status cog_worker_load(cog_worker *w, const cog_frame *frame) {
    const cog_frame_header *h = &frame->header;
    const int32_t i = h->message - w->first;
    if (h->message == -2) return cog_worker_begin_anew(w);
    if (h->message >= 0) {
        COG_CHECK(i >= 0 && i < w->count, COG_ERR_FORMAT, "worker %d has no message %d", w->index,
                  h->message);
        return cog_channel_load(w->channel[i], frame->payload, h->bytes);
    }
    COG_TRY(cog_downlink_apply(w->replica, w->device, cog_channel_quantizer(w->channel[0]),
                               w->job->code->plan.n_messages, &w->update, COG_DOWNLINK_STATE, -1,
                               h->round, frame->payload, h->bytes));
    w->version = h->round;
    return cog_device_sync(w->device);
}
