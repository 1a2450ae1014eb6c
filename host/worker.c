/* worker.c - the worker's round. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "range.h"
#include "worker_parts.h"

/* ---------------------------------------------------------------- create and destroy */

static int ascending(const void *a, const void *b) {
    const int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

/* The shards its messages touch: sorted, each once. */
static cog_status open_rows(cog_worker *w) {
    const cog_plan *plan = &w->job->code->plan;
    const int32_t begin = plan->row[w->first], end = plan->row[w->first + w->count];
    int32_t *shards = calloc((size_t)(end - begin) + 1, sizeof(*shards)), n = 0;
    COG_CHECK(shards != NULL, COG_ERR_MEMORY, "no memory for a worker's shards");
    for (int32_t t = begin; t < end; t++) shards[t - begin] = plan->part[t] / plan->n_blocks;
    qsort(shards, (size_t)(end - begin), sizeof(*shards), ascending);
    for (int32_t i = 0; i < end - begin; i++)
        if (n == 0 || shards[n - 1] != shards[i]) shards[n++] = shards[i];
    const cog_status status = cog_shard_batch_open(w->job->train, w->device, plan->n_shards, n,
                                                   shards, w->job->batch, w->job->seed, &w->rows);
    free(shards);
    return status;
}

static cog_status begin_channels(cog_worker *w) {
    const int64_t n = w->job->model->block_len;
    for (int i = 0; i < w->count; i++) {
        cog_channel_close(w->channel[i]);
        w->channel[i] = NULL;
        COG_TRY(cog_channel_open(w->job->channel, w->device, n, COG_SENDER, &w->channel[i]));
        cog_channel_seed(w->channel[i], w->job->seed, (uint32_t)(w->first + i));
    }
    return COG_OK;
}

static cog_status open_channels(cog_worker *w) {
    const cog_plan *plan = &w->job->code->plan;
    int32_t longest = 0;
    for (int i = 0; i < w->count; i++) {
        const int32_t m = w->first + i, terms = plan->row[m + 1] - plan->row[m];
        if (terms > longest) longest = terms;
    }
    w->channel = calloc((size_t)w->count + 1, sizeof(*w->channel));
    w->payload = calloc((size_t)w->count + 1, sizeof(*w->payload));
    w->bytes = calloc((size_t)w->count + 1, sizeof(*w->bytes));
    w->slices = calloc((size_t)longest + 1, sizeof(*w->slices));
    COG_CHECK(w->channel && w->payload && w->bytes && w->slices, COG_ERR_MEMORY,
              "no memory for a worker's channels");
    COG_TRY(begin_channels(w));
    return cog_device_zeros(w->device, w->job->model->block_len, &w->message);
}

/* What rounds will need, so that they allocate nothing. */
static cog_status reserve(cog_worker *w) {
    if (w->job->downlink == COG_DOWNLINK_BF16) return cog_replica_keep_bf16(w->replica);
    if (w->job->downlink != COG_DOWNLINK_UPDATES) return COG_OK;
    return cog_replica_reserve(w->replica, w->job->code->plan.n_messages,
                               cog_code_max_terms(w->job->code));
}

static cog_status open_replica(cog_worker *w) {
    const cog_plan *plan = &w->job->code->plan;
    const cog_model *model = w->job->model;
    const size_t bytes = (size_t)model->n_params * sizeof(float);
    cog_replica_close(w->replica);
    w->replica = NULL;
    COG_TRY(cog_replica_open(w->job->optimizer, cog_channel_quantizer(w->channel[0]), w->device,
                             plan->n_blocks, &w->replica));
    COG_TRY(reserve(w));
    float *initial = malloc(bytes);
    COG_CHECK(initial != NULL, COG_ERR_MEMORY, "no memory for %lld parameters",
              (long long)model->n_params);
    cog_status status = model->init(model->user, w->job->seed, initial);
    if (status == COG_OK)
        status = w->device->ops->upload(w->device, cog_replica_params(w->replica), initial, bytes);
    if (status == COG_OK) status = cog_device_sync(w->device);
    free(initial);
    return status;
}

static int32_t segment_of(const cog_worker *w, int32_t shard) {
    const int32_t *found =
        bsearch(&shard, w->rows.shard, (size_t)w->rows.batch.n_segments, sizeof(shard), ascending);
    return (int32_t)(found - w->rows.shard);
}

/* What the round costs in the cost model: one backprop, and a product for each message over
 * the rows it touches. */
static double flops_of_round(const cog_worker *w) {
    const cog_model *model = w->job->model;
    const cog_plan *plan = &w->job->code->plan;
    double flops = model->backprop_flops(model->user, w->rows.batch.n_rows);
    for (int32_t m = w->first; m < w->first + w->count; m++) {
        int64_t rows = 0;
        int32_t last = -1; /* the terms of a message come shard by shard */
        for (int32_t t = plan->row[m]; t < plan->row[m + 1]; t++) {
            const int32_t segment = segment_of(w, plan->part[t] / plan->n_blocks);
            if (segment != last) rows += w->rows.segment[segment + 1] - w->rows.segment[segment];
            last = segment;
        }
        flops += model->message_flops(model->user, rows);
    }
    return flops;
}

/* "cuda" is the worker's own GPU where every rank has one, unless an ordinal names another. */
static cog_status open_device(cog_worker *w) {
    const char *spec = w->job->device;
    char own[COG_SPEC_MAX_TEXT];
    const size_t name = strcspn(spec, ":");
    if (w->job->transport->gpu_a_rank && name == strlen("cuda") &&
        strncmp(spec, "cuda", name) == 0 && strstr(spec, "ordinal=") == NULL) {
        snprintf(own, sizeof(own), "%s%cordinal=%d", spec, spec[name] == ':' ? ',' : ':',
                 w->index + 1);
        spec = own;
    }
    return cog_device_open(spec, &w->device);
}

static cog_status open_all(cog_worker *w) {
    const cog_model *model = w->job->model;
    COG_TRY(open_device(w));
    COG_TRY(open_rows(w));
    COG_TRY(open_channels(w));
    COG_TRY(open_replica(w));
    COG_TRY(cog_optimizer_open(w->job->schedule, w->device, 0, &w->schedule));
    w->reduced = w->message;
    if (w->job->code->ops->role == COG_ROLE_ALLREDUCE && cog_device_kind_of(w->device) != COG_CPU) {
        w->reduced = malloc((size_t)model->n_params * sizeof(float));
        COG_CHECK(w->reduced != NULL, COG_ERR_MEMORY, "no memory for a gradient");
    }
    w->flops = flops_of_round(w);
    return w->device->ops->alloc(
        w->device, model->workspace_bytes(model->user, w->rows.batch.n_rows), &w->workspace);
}

cog_status cog_worker_create(const cog_job *job, int worker, cog_worker **out) {
    cog_worker *w = calloc(1, sizeof(*w));
    COG_CHECK(w != NULL, COG_ERR_MEMORY, "no memory for worker %d", worker);
    w->job = job;
    w->index = worker;
    w->first = job->code->plan.first[worker];
    w->count = job->code->plan.first[worker + 1] - w->first;
    const cog_status status = open_all(w);
    if (status != COG_OK) {
        cog_worker_destroy(w);
        return status;
    }
    *out = w;
    return COG_OK;
}

cog_status cog_worker_begin_anew(cog_worker *w) {
    COG_TRY(begin_channels(w));
    COG_TRY(open_replica(w));
    w->version = 0;
    w->was_asked = false;
    return COG_OK;
}

void cog_worker_destroy(cog_worker *w) {
    if (w == NULL) return;
    for (int i = 0; w->channel != NULL && i < w->count; i++) cog_channel_close(w->channel[i]);
    cog_replica_close(w->replica);
    cog_optimizer_close(w->schedule);
    cog_update_free(&w->update);
    cog_blob_free(&w->state);
    cog_shard_batch_close(&w->rows);
    if (w->reduced != w->message) free(w->reduced);
    cog_device_free(w->device, w->workspace);
    cog_device_free(w->device, w->message);
    free(w->channel);
    free(w->payload);
    free(w->bytes);
    free(w->slices);
    cog_device_close(w->device);
    free(w);
}

/* ---------------------------------------------------------------- one round */

/* The terms of message m as the model wants them, scaled to the mean over the data. */
static int slices_of(cog_worker *w, int32_t m) {
    const cog_plan *plan = &w->job->code->plan;
    int n = 0;
    for (int32_t t = plan->row[m]; t < plan->row[m + 1]; t++) {
        const int32_t segment = segment_of(w, plan->part[t] / plan->n_blocks);
        const double coef = cog_code_coef(w->job->code, w->version, t) * w->rows.scale[segment];
        w->slices[n++] = (cog_slice){segment, plan->part[t] % plan->n_blocks, coef};
    }
    return n;
}

/* Forward and backward over the rows of the round; make_message does the rest. */
static cog_status differentiate(cog_worker *w) {
    const cog_model *model = w->job->model;
    COG_TRY(cog_shard_batch_draw(&w->rows, w->version));
    return model->backprop(model->user, w->device, &w->rows.batch, cog_replica_params(w->replica),
                           w->workspace);
}

/* Row m of the plan into w->message. */
static cog_status make_message(cog_worker *w, int32_t m) {
    const cog_model *model = w->job->model;
    return model->message(model->user, w->device, &w->rows.batch, cog_replica_params(w->replica),
                          w->workspace, slices_of(w, m), w->slices, w->message);
}

/* Momentum is shared out over the parts of the gradient: every part of block b brings m_b /
 * n_shards, so that whatever decodes to the sum of the parts decodes to m besides. */
static cog_status add_momentum(cog_worker *w, int32_t message, double share, int *n_terms,
                               cog_term *terms) {
    const cog_plan *plan = &w->job->code->plan;
    const float *m = cog_optimizer_state(cog_replica_optimizer(w->replica));
    double sum[COG_MAX_TERMS] = {0};
    for (int32_t t = plan->row[message]; t < plan->row[message + 1]; t++) {
        const float *block = m + plan->part[t] % plan->n_blocks * w->job->model->block_len;
        int at = 1;
        while (at < *n_terms && terms[at].x != block) at++;
        COG_CHECK(at < COG_MAX_TERMS - 1, COG_ERR_UNSUPPORTED,
                  "momentum travels in messages of at most %d blocks", COG_MAX_TERMS - 2);
        if (at == *n_terms) ++*n_terms;
        sum[at] += cog_code_coef(w->job->code, w->version, t) * share / plan->n_shards;
        terms[at] = (cog_term){block, (float)sum[at]};
    }
    return COG_OK;
}

static cog_status pack_messages(cog_worker *w) {
    const double scale = cog_optimizer_message_scale(w->schedule, w->version);
    const double share = cog_optimizer_message_momentum(w->schedule, w->version);
    for (int i = 0; i < w->count; i++) {
        cog_term terms[COG_MAX_TERMS] = {{w->message, (float)(scale * (1 - share))}};
        int n_terms = 1;
        COG_TRY(COG_IN_RANGE("gradient", make_message(w, w->first + i)));
        if (share > 0) COG_TRY(add_momentum(w, w->first + i, share, &n_terms, terms));
        cog_channel_begin_round(w->channel[i], w->version);
        COG_TRY(cog_channel_pack(w->channel[i], n_terms, terms, &w->payload[i], &w->bytes[i]));
    }
    return COG_OK;
}

static cog_status send_messages(cog_worker *w) {
    for (int i = 0; i < w->count; i++) {
        cog_frame_header header = cog_frame_make(COG_FRAME_MESSAGE, w->index + 1, w->version);
        header.message = w->first + i;
        header.mode = w->request;
        header.bytes = w->bytes[i];
        COG_TRY(w->job->transport->ops->send(w->job->transport, w->index + 1, 0, &header,
                                             w->payload[i]));
    }
    return COG_OK;
}

static cog_status take_params(cog_worker *w, const cog_frame *frame) {
    const cog_frame_header *h = &frame->header;
    for (int i = 0; i < w->count; i++) cog_channel_settle(w->channel[i], h->accepted >> i & 1);
    COG_TRY(cog_downlink_apply(
        w->replica, w->device, cog_channel_quantizer(w->channel[0]), w->job->code->plan.n_messages,
        &w->update, (cog_downlink_mode)h->mode, w->version, h->round, frame->payload, h->bytes));
    w->version = h->round;
    return COG_OK;
}

/* A second copy of a request, or one that was overtaken, is no request. */
static bool is_news(cog_worker *w, const cog_frame_header *h) {
    const uint16_t ahead = (uint16_t)(h->message - w->request);
    const bool is_news = !w->was_asked || (ahead > 0 && ahead <= INT16_MAX);
    w->request = is_news ? (uint16_t)h->message : w->request;
    w->was_asked = true;
    return is_news;
}

static cog_status answer(cog_worker *w) {
    cog_transport *transport = w->job->transport;
    const cog_straggle straggle = cog_stragglers_draw(w->job->stragglers, w->index, w->version);
    if (straggle.fate == COG_DEAD) return COG_OK;
    if (straggle.fate == COG_DECLINES) {
        cog_frame_header header = cog_frame_make(COG_FRAME_DECLINE, w->index + 1, w->version);
        header.message = w->first;
        header.mode = w->request;
        return transport->ops->send(transport, w->index + 1, 0, &header, NULL);
    }
    COG_TRY(COG_IN_RANGE("gradient", differentiate(w)));
    COG_TRY(pack_messages(w));
    COG_TRY(
        transport->ops->elapse(transport, w->index + 1, w->flops, straggle.factor, straggle.delay));
    return send_messages(w);
}

/* ---------------------------------------------------------------- all-reduce */

/* Rounds of an all-reduce run among the workers alone; the server grants a number of them. */
static cog_status begin_reduced_round(cog_worker *w) {
    cog_transport *transport = w->job->transport;
    const int rank = w->index + 1;
    const int64_t n = w->job->model->n_params;
    const cog_straggle straggle = cog_stragglers_draw(w->job->stragglers, w->index, w->version);
    if (straggle.fate == COG_DEAD) return COG_OK;
    COG_CHECK(straggle.fate == COG_ANSWERS, COG_ERR_UNDECODABLE,
              "an all-reduce needs every worker, and worker %d gives no answer in round %lld",
              w->index, (long long)w->version);
    COG_TRY(COG_IN_RANGE("gradient", differentiate(w)));
    COG_TRY(COG_IN_RANGE("gradient", make_message(w, w->first)));
    if (w->reduced != w->message)
        COG_TRY(
            w->device->ops->download(w->device, w->reduced, w->message, (size_t)n * sizeof(float)));
    COG_TRY(cog_device_sync(w->device));
    COG_TRY(transport->ops->elapse(transport, rank, w->flops, straggle.factor, straggle.delay));
    return transport->ops->allreduce(transport, rank, w->reduced, n, w->job->code->bf16);
}

/* The first worker's parameters travel along, for the server to report on. */
static cog_status report_done(cog_worker *w) {
    cog_frame_header header = cog_frame_make(COG_FRAME_DONE, w->index + 1, w->version);
    const float *params = cog_replica_params(w->replica);
    if (w->index == 0) {
        header.bytes = (uint64_t)w->job->model->n_params * sizeof(float);
        if (w->reduced != w->message) {
            COG_TRY(w->device->ops->download(w->device, w->reduced, params, header.bytes));
            params = w->reduced;
        }
    }
    return w->job->transport->ops->send(w->job->transport, w->index + 1, 0, &header, params);
}

static cog_status end_reduced_round(cog_worker *w) {
    if (w->reduced != w->message)
        COG_TRY(w->device->ops->upload(w->device, w->message, w->reduced,
                                       (size_t)w->job->model->n_params * sizeof(float)));
    COG_TRY(cog_replica_step(w->replica, w->version, w->message));
    w->version++;
    return w->version < w->run_until ? begin_reduced_round(w) : report_done(w);
}

/* A RUN frame may bring parameters that were set from outside. */
static cog_status begin_run(cog_worker *w, const cog_frame *frame) {
    const cog_frame_header *h = &frame->header;
    if (h->bytes > 0)
        COG_TRY(cog_downlink_apply(w->replica, w->device, cog_channel_quantizer(w->channel[0]),
                                   w->job->code->plan.n_messages, &w->update,
                                   (cog_downlink_mode)h->mode, -1, h->round, frame->payload,
                                   h->bytes));
    w->run_until = h->round;
    return w->version < w->run_until ? begin_reduced_round(w) : report_done(w);
}

cog_status cog_worker_handle(void *worker, const cog_frame *frame) {
    cog_worker *w = worker;
    switch ((cog_frame_kind)frame->header.kind) {
    case COG_FRAME_PARAMS:
        if (!is_news(w, &frame->header)) return COG_OK;
        COG_TRY(take_params(w, frame));
        return answer(w);
    case COG_FRAME_RUN: return begin_run(w, frame);
    case COG_FRAME_REDUCED: return end_reduced_round(w);
    case COG_FRAME_SAVE: return cog_worker_save(w, &frame->header);
    case COG_FRAME_LOAD: return cog_worker_load(w, frame);
    default: COG_FAIL(COG_ERR_FORMAT, "a worker got a frame of kind %d", frame->header.kind);
    }
}
