/* engine.c - puts a run together: job, server and the workers that live in this process. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "check.h"
#include "engine_checks.h"
#include "engine_parts.h"

/* Rows the server evaluates at a time. */
enum { EVALUATION_ROWS = 500 };

cog_engine_config cog_engine_config_default(void) {
    return (cog_engine_config){
        .model = "mlp:hidden=512x256",
        .device = "cpu",
        .transport = "sim",
        .code = "lwpd:weight=2,wait=6",
        .channel = "topk:ratio=0.001,values=bf16,feedback=1",
        .downlink = "delta",
        .optimizer = "sgd:rate=0.5",
        .stragglers = "none",
        .faults = "none",
        .n_workers = 8,
        .batch = 64,
        .staleness = 64,
        .report_every = 50,
        .timeout = 60,
        .max_amplification = 16,
        .seed = 1,
    };
}

/* ---------------------------------------------------------------- create */

/* What the messages of one round take. Where workers have to know the optimizer's state, relaying
 * must not be given up for the parameters alone. */
static cog_status find_round_bytes(const cog_engine *e, const cog_quantizer *q, size_t *out) {
    const size_t params = (size_t)e->model.n_params * sizeof(float);
    cog_optimizer *o;
    COG_TRY(cog_optimizer_open(e->config.optimizer, e->device, 0, &o));
    *out = (size_t)e->code->wait_for * q->ops->payload_bytes(q);
    if (cog_optimizer_sends_momentum(o) && *out >= params) *out = params - 1;
    cog_optimizer_close(o);
    return COG_OK;
}

/* The server's replica starts where every worker's does: at the seed's initial parameters. */
static cog_status set_initial_params(cog_engine *e) {
    const size_t bytes = (size_t)e->model.n_params * sizeof(float);
    float *initial = malloc(bytes);
    COG_CHECK(initial != NULL, COG_ERR_MEMORY, "no memory for %lld parameters",
              (long long)e->model.n_params);
    cog_status status = e->model.init(e->model.user, e->config.seed, initial);
    if (status == COG_OK)
        status = e->device->ops->upload(e->device, cog_replica_params(e->replica), initial, bytes);
    free(initial);
    return status;
}

static cog_status create_server(cog_engine *e) {
    const cog_engine_config *c = &e->config;
    e->server = (cog_server){.transport = e->transport,
                             .code = e->code,
                             .device = e->device,
                             .timeout = c->timeout,
                             .stop = c->stop,
                             .stop_user = c->stop_user,
                             .staleness = c->staleness,
                             .faults = e->faults.n > 0 ? &e->faults : NULL};
    COG_TRY(cog_server_open(&e->server, e->job.channel, e->model.block_len));
    const cog_quantizer *q = cog_channel_quantizer(e->server.channel[0]);
    cog_engine_parts parts = {.config = c,
                              .code = e->code,
                              .channel = e->server.channel[0],
                              .channel_spec = e->job.channel};
    COG_TRY(cog_engine_check_amplification(&parts));
    COG_TRY(cog_replica_open(c->optimizer, q, e->device, e->code->plan.n_blocks, &e->replica));
    parts.optimizer = cog_replica_optimizer(e->replica);
    COG_TRY(cog_engine_check_optimizer(&parts));
    COG_TRY(cog_replica_reserve(e->replica, e->code->plan.n_messages, cog_code_max_terms(e->code)));
    COG_TRY(set_initial_params(e));
    /* The workers of an all-reduce get parameters only when they are set from outside. */
    const char *downlink = e->code->ops->role == COG_ROLE_ALLREDUCE ? "fp32" : c->downlink;
    size_t round_bytes;
    COG_TRY(find_round_bytes(e, q, &round_bytes));
    COG_TRY(cog_downlink_open(downlink, e->replica, e->device, round_bytes, &e->downlink));
    e->server.replica = e->replica;
    e->server.downlink = e->downlink;
    return COG_OK;
}

/* What all ranks derive alike from the specs: who steps, and how long frames may be. */
static cog_status agree(cog_engine *e) {
    const cog_engine_config *c = &e->config;
    const size_t whole = (size_t)e->model.n_params * sizeof(float);
    cog_channel *channel;
    COG_TRY(
        cog_channel_open(e->job.channel, e->device, e->model.block_len, COG_RECEIVER, &channel));
    const size_t up = cog_channel_max_bytes(channel), state = cog_channel_max_state(channel);
    size_t round_bytes;
    const cog_status status = find_round_bytes(e, cog_channel_quantizer(channel), &round_bytes);
    cog_channel_close(channel);
    COG_TRY(status);
    const bool is_reduced = e->code->ops->role == COG_ROLE_ALLREDUCE;
    cog_downlink_mode *usual = &e->job.downlink;
    COG_TRY(cog_downlink_usual(is_reduced ? "fp32" : c->downlink, e->model.n_params, round_bytes,
                               usual));
    const bool steps_itself = is_reduced || *usual == COG_DOWNLINK_UPDATES;
    e->job.optimizer = steps_itself ? c->optimizer : "sgd";
    const size_t down = (1 + COG_OPTIMIZER_MAX_STATE) * whole; /* also of a DONE frame */
    e->transport->max_payload = up > down ? up : down;
    if (state > e->transport->max_payload) e->transport->max_payload = state;
    return COG_OK;
}

static cog_status create_workers(cog_engine *e) {
    const int n = e->config.n_workers, self = e->transport->self;
    COG_TRY(agree(e));
    e->worker = calloc((size_t)n, sizeof(*e->worker));
    COG_CHECK(e->worker != NULL, COG_ERR_MEMORY, "no memory for %d workers", n);
    for (int i = 0; i < n; i++)
        if (self < 0 || self == i + 1) COG_TRY(cog_worker_create(&e->job, i, &e->worker[i]));
    e->transport->handle = cog_worker_handle;
    e->transport->worker = (void **)e->worker;
    return COG_OK;
}

static bool is_worker(const cog_engine *e) { return e->transport->self > 0; }

cog_status cog_engine_rank(const cog_engine_config *config, int *out) {
    cog_transport *transport;
    COG_TRY(cog_transport_create(config->transport, config->n_workers, &transport));
    *out = transport->self > 0 ? transport->self : 0;
    cog_transport_destroy(transport);
    return COG_OK;
}

static cog_status open_transport(cog_engine *e) {
    const cog_engine_config *c = &e->config;
    e->transport = (cog_transport *)c->link;
    if (c->link == NULL) COG_TRY(cog_transport_create(c->transport, c->n_workers, &e->transport));
    if (!is_worker(e)) e->transport->settings = c->settings;
    COG_CHECK(e->transport->n_workers == c->n_workers, COG_ERR_ARGUMENT,
              "the server has %d workers, not %d", e->transport->n_workers, c->n_workers);
    COG_CHECK(e->code->ops->role != COG_ROLE_ALLREDUCE || e->transport->ops->allreduce != NULL,
              COG_ERR_ARGUMENT,
              "code '%s' is an all-reduce among the workers, which transport '%s' does not have",
              cog_code_name(e->code), e->transport->ops->name);
    return COG_OK;
}

static cog_status open_model(cog_engine *e) {
    const cog_engine_config *c = &e->config;
    const int32_t n_blocks = e->code->plan.n_blocks;
    if (c->custom_model == NULL)
        return cog_model_open(c->model, c->train->n_features, c->train->n_classes, n_blocks,
                              &e->model);
    e->model = *c->custom_model;
    e->model.destroy = NULL; /* it stays the caller's */
    COG_CHECK(e->model.n_blocks == n_blocks && e->model.block_len > 0 &&
                  e->model.n_params == n_blocks * e->model.block_len,
              COG_ERR_ARGUMENT, "the model has %d blocks of %lld, the code needs %d",
              e->model.n_blocks, (long long)e->model.block_len, n_blocks);
    return COG_OK;
}

static cog_status create_all(cog_engine *e) {
    const cog_engine_config *c = &e->config;
    COG_TRY(cog_code_create(c->code, c->n_workers, &e->code));
    COG_TRY(open_model(e));
    COG_TRY(cog_stragglers_open(c->stragglers, c->n_workers, c->seed, &e->stragglers));
    COG_TRY(open_transport(e));
    COG_TRY(cog_engine_open_faults(e));
    COG_TRY(cog_device_open(c->device, &e->device));
    e->job = (cog_job){.train = c->train,
                       .model = &e->model,
                       .code = e->code,
                       .stragglers = e->stragglers,
                       .transport = e->transport,
                       .device = c->device,
                       .channel = c->channel,
                       .schedule = c->optimizer,
                       .batch = c->batch,
                       .seed = c->seed};
    /* An all-reduce adds vectors in the network: there is no channel to compress. */
    if (e->code->ops->role == COG_ROLE_ALLREDUCE) e->job.channel = "identity";
    if (!is_worker(e)) COG_TRY(create_server(e));
    return create_workers(e);
}

cog_status cog_engine_create(const cog_engine_config *config, cog_engine **out) {
    COG_TRY(cog_engine_check_config(config));
    cog_engine *e = calloc(1, sizeof(*e));
    COG_CHECK(e != NULL, COG_ERR_MEMORY, "no memory for an engine");
    e->config = *config;
    cog_status status = create_all(e);
    if (status == COG_OK) status = cog_engine_describe(config, &e->description);
    if (status == COG_OK) status = cog_engine_name_history(e);
    if (status != COG_OK) {
        cog_engine_destroy(e);
        return status;
    }
    *out = e;
    return COG_OK;
}

void cog_engine_destroy(cog_engine *e) {
    if (e == NULL) return;
    const bool is_lent = e->config.link != NULL; /* a link is closed by its owner */
    if (e->transport != NULL && (is_lent || e->faulty != NULL))
        e->transport->ops->stop(e->transport);
    cog_faulty_unwrap(e->faulty);
    if (!is_lent) cog_transport_destroy(e->transport);
    for (int i = 0; e->worker != NULL && i < e->config.n_workers; i++)
        cog_worker_destroy(e->worker[i]);
    free(e->worker);
    if (e->server.code != NULL) cog_server_close(&e->server);
    cog_downlink_close(e->downlink);
    cog_replica_close(e->replica);
    cog_device_free(e->device, e->workspace);
    cog_device_free(e->device, e->x);
    cog_device_free(e->device, e->y);
    cog_device_close(e->device);
    cog_stragglers_close(e->stragglers);
    cog_model_close(&e->model);
    cog_code_destroy(e->code);
    cog_engine_close_history(e);
    free(e->description);
    free(e->news);
    free(e->old_note);
    free(e);
}

/* ---------------------------------------------------------------- run */

cog_report cog_engine_report(const cog_engine *e) {
    cog_report report = e->server.report;
    report.round = e->server.round;
    report.bytes_up = e->transport->bytes_up;
    report.bytes_down = e->transport->bytes_down;
    report.frames_refused = e->transport->frames_refused;
    report.seconds = e->seconds_before;
    report.virtual_seconds = e->transport->begin;
    if (!e->started) return report;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    report.seconds = e->seconds_before + (double)(now.tv_sec - e->start.tv_sec) +
                     1e-9 * (double)(now.tv_nsec - e->start.tv_nsec);
    report.virtual_seconds = e->transport->ops->now(e->transport);
    if (!e->transport->is_virtual) report.virtual_seconds += e->transport->begin;
    return report;
}

static int64_t earlier(int64_t a, int64_t b) { return a < b ? a : b; }

/* The rounds up to the next report. */
static cog_status run_until(cog_engine *e, int64_t until) {
    if (e->code->ops->role == COG_ROLE_ALLREDUCE)
        return cog_server_reduced_rounds(&e->server, until);
    while (e->server.round < until) COG_TRY(cog_server_round(&e->server));
    return COG_OK;
}

cog_status cog_engine_start(cog_engine *e) {
    if (e->started) return COG_OK;
    clock_gettime(CLOCK_MONOTONIC, &e->start);
    if (!is_worker(e)) COG_TRY(cog_engine_open_history(e));
    COG_TRY(e->transport->ops->start(e->transport));
    e->started = true;
    return COG_OK;
}

static cog_status run_rounds(cog_engine *e, int64_t n_rounds, cog_report_fn on_report, void *user) {
    e->server.stopped = false; /* what it was told before is over */
    while (e->server.round < n_rounds) {
        const int64_t every = e->config.report_every;
        const cog_status status =
            run_until(e, earlier(n_rounds, (e->server.round / every + 1) * every));
        if (status != COG_OK && e->server.stopped) return COG_OK;
        COG_TRY(status);
        const cog_report report = cog_engine_report(e);
        if (on_report != NULL && !on_report(&report, user)) return COG_OK;
    }
    return COG_OK;
}

cog_status cog_engine_run(cog_engine *e, int64_t n_rounds, cog_report_fn on_report, void *user) {
    COG_TRY(cog_engine_start(e));
    if (is_worker(e)) return e->transport->ops->serve(e->transport);
    COG_TRY(run_rounds(e, n_rounds, on_report, user));
    return cog_engine_flush_history(e);
}

/* ---------------------------------------------------------------- parameters */

int64_t cog_engine_n_params(const cog_engine *e) { return e->model.n_params; }

static cog_status check_is_server(const cog_engine *e) {
    COG_CHECK(!is_worker(e), COG_ERR_UNSUPPORTED, "this process is worker %d; ask the server's",
              e->transport->self - 1);
    return COG_OK;
}

cog_status cog_engine_get_params(cog_engine *e, float *out, int64_t n) {
    COG_TRY(check_is_server(e));
    COG_CHECK(n == e->model.n_params, COG_ERR_ARGUMENT, "there are %lld parameters, not %lld",
              (long long)e->model.n_params, (long long)n);
    COG_TRY(e->device->ops->download(e->device, out, cog_replica_params(e->replica),
                                     (size_t)n * sizeof(float)));
    return cog_device_sync(e->device);
}

cog_status cog_engine_set_params(cog_engine *e, const float *values, int64_t n) {
    COG_TRY(check_is_server(e));
    COG_CHECK(n == e->model.n_params, COG_ERR_ARGUMENT, "there are %lld parameters, not %lld",
              (long long)e->model.n_params, (long long)n);
    COG_TRY(e->device->ops->upload(e->device, cog_replica_params(e->replica), values,
                                   (size_t)n * sizeof(float)));
    cog_server_forget(&e->server);
    return cog_device_sync(e->device);
}

/* ---------------------------------------------------------------- evaluate */

static cog_status open_evaluation(cog_engine *e, const cog_dataset *data) {
    if (e->workspace != NULL) return COG_OK;
    const size_t rows = EVALUATION_ROWS, features = (size_t)data->n_features;
    const cog_device_ops *ops = e->device->ops;
    const bool staged = cog_device_kind_of(e->device) != COG_CPU;
    if (staged && e->x == NULL)
        COG_TRY(ops->alloc(e->device, rows * features * sizeof(float), (void **)&e->x));
    if (staged && e->y == NULL)
        COG_TRY(ops->alloc(e->device, rows * sizeof(float), (void **)&e->y));
    return ops->alloc(e->device, e->model.workspace_bytes(e->model.user, EVALUATION_ROWS),
                      &e->workspace);
}

/* Rows [first, first + count) of the data, on the device. */
static cog_status stage(cog_engine *e, const cog_dataset *data, int64_t first, int64_t count,
                        cog_batch *batch) {
    const cog_device_ops *ops = e->device->ops;
    const float *x = data->x + first * data->n_features, *y = data->y + first;
    if (cog_device_kind_of(e->device) != COG_CPU) {
        COG_TRY(
            ops->upload(e->device, e->x, x, (size_t)(count * data->n_features) * sizeof(float)));
        COG_TRY(ops->upload(e->device, e->y, y, (size_t)count * sizeof(float)));
        x = e->x;
        y = e->y;
    }
    *batch = (cog_batch){.n_rows = count, .n_features = data->n_features, .x = x, .y = y};
    return COG_OK;
}

cog_status cog_engine_evaluate(cog_engine *e, const cog_dataset *data, double *loss,
                               double *accuracy) {
    COG_TRY(check_is_server(e));
    COG_CHECK(data->n_rows > 0, COG_ERR_ARGUMENT, "there are no rows to evaluate");
    COG_CHECK(data->n_features == e->config.train->n_features, COG_ERR_ARGUMENT,
              "the model was made for %lld features, the data has %lld",
              (long long)e->config.train->n_features, (long long)data->n_features);
    COG_TRY(open_evaluation(e, data));
    cog_loss sum = {0};
    for (int64_t first = 0; first < data->n_rows; first += EVALUATION_ROWS) {
        const int64_t count = earlier(EVALUATION_ROWS, data->n_rows - first);
        const int64_t segment[2] = {0, count};
        cog_batch batch;
        cog_loss part;
        COG_TRY(stage(e, data, first, count, &batch));
        batch.n_segments = 1;
        batch.segment = segment;
        COG_TRY(e->model.evaluate(e->model.user, e->device, &batch, cog_replica_params(e->replica),
                                  e->workspace, &part));
        sum.loss += part.loss;
        sum.n_correct += part.n_correct;
    }
    *loss = sum.loss / (double)data->n_rows;
    *accuracy = (double)sum.n_correct / (double)data->n_rows;
    return COG_OK;
}
