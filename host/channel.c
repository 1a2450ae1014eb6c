/* channel.c - a quantizer, its memory, and the rule that only an accepted message counts.
 *
 * The residual of a pending message lies in a second vector and becomes the error by a swap, so a
 * dropped message has nothing to undo; momentum is kept the same way. A quantizer's own state is
 * small; it is read back before every pack and put back when the message was not used.
 */
#include "channel.h"

#include <stdlib.h>
#include <string.h>

#include "channel_parts.h"
#include "check.h"
#include "rng.h"
#include "tile.h"

/* ---------------------------------------------------------------- configure */

static cog_status configure_keys(cog_channel *c, cog_spec *spec) {
    COG_TRY(cog_spec_flag(spec, "feedback", false, &c->feedback));
    COG_TRY(cog_spec_real(spec, "momentum", 0, 0, 0.999999, &c->momentum));
    COG_TRY(cog_spec_int(spec, "warmup", 0, 0, INT64_MAX / 4, &c->warmup));
    return cog_spec_int(spec, "ramp", 0, 0, INT64_MAX / 16, &c->ramp);
}

/* A quantizer whose error may exceed the trial makes memories of errors grow. A running mean takes
 * up as much of it as its rate says: 1/(1 + omega) is what DIANA allows. */
static cog_status check_worst_error(const cog_channel *c, const cog_predictor *p) {
    const cog_quantizer_ops *ops = c->quantizer.ops;
    const double worst = ops->worst_error != NULL ? ops->worst_error(&c->quantizer) : 0;
    COG_CHECK(
        !c->feedback || ops->aggregate == NULL || worst < 1, COG_ERR_ARGUMENT,
        "'%s' leaves nothing behind at the sender for feedback=1 to make up for; the receiver "
        "of its sums has a memory of its own (memory=1)",
        ops->name);
    COG_CHECK(
        !c->feedback || worst < 1, COG_ERR_ARGUMENT,
        "error feedback over '%s' need not stay bounded: a message of %lld entries may leave "
        "%.3g times its energy behind, where less than 1 is needed; keys that send more, round "
        "to nearest or do not amplify make it smaller",
        ops->name, (long long)c->quantizer.n, worst);
    COG_CHECK(
        p->ops == NULL || worst < 1 || p->rate * (1 + worst) <= 1, COG_ERR_ARGUMENT,
        "a memory that takes up %g of every message over '%s' need not stay bounded: a message "
        "of %lld entries may leave %.3g times its energy behind; with predict=difference, a "
        "rate of %.3g is small enough",
        p->rate, ops->name, (long long)c->quantizer.n, worst, 1 / (1 + worst));
    return COG_OK;
}

/* What cannot work together, in words. */
static cog_status check_parts(const cog_channel *c, const cog_predictor *p) {
    const cog_quantizer_ops *ops = c->quantizer.ops;
    COG_CHECK(p->ops == NULL || !c->feedback, COG_ERR_ARGUMENT,
              "error feedback and the predictor '%s' do not compose: each would make up for the "
              "errors of the other; give one of feedback=1 and predict=%s",
              p->ops->name, p->ops->name);
    COG_CHECK(c->momentum == 0 || p->ops == NULL, COG_ERR_ARGUMENT,
              "momentum=%g corrects what error feedback holds back; it does not go with predict=%s",
              c->momentum, p->ops->name);
    COG_CHECK(c->momentum == 0 || (c->feedback && ops->positions != NULL), COG_ERR_ARGUMENT,
              "momentum=%g takes out of the velocity what was sent: it needs feedback=1 and a "
              "channel that sends some of the entries, as topk",
              c->momentum);
    COG_CHECK(ops->aggregate == NULL || (p->ops == NULL && c->warmup == 0), COG_ERR_ARGUMENT,
              "'%s' sends measurements, which are decoded as a sum: no predictor and no warm-up "
              "can go with them",
              ops->name);
    COG_CHECK(c->ramp == 0 || ops->set_ratio != NULL, COG_ERR_ARGUMENT,
              "'%s' sends the same share of the entries in all rounds: ramp=%lld goes with topk",
              ops->name, (long long)c->ramp);
    COG_CHECK(!ops->uses_side || p->ops != NULL, COG_ERR_ARGUMENT,
              "'%s' decodes with side information: name what to expect, as predict=linear",
              ops->name);
    return check_worst_error(c, p);
}

static void configure_ramp(cog_channel *c) {
    double ratio = 1;
    for (int i = 0; i < COG_RAMP_STEPS && c->ramp > 0; i++) {
        ratio /= 4;
        c->step[i] = c->quantizer;
        if (ratio > c->quantizer.ratio) c->quantizer.ops->set_ratio(&c->step[i], ratio);
    }
}

static cog_status configure(cog_channel *c, const char *text, int64_t n, cog_predictor *p) {
    cog_spec spec;
    COG_TRY(cog_spec_parse(text, &spec));
    COG_TRY(configure_keys(c, &spec));
    COG_TRY(cog_predictor_configure(&spec, n, p));
    COG_TRY(cog_quantizer_configure(&spec, n, &c->quantizer));
    COG_TRY(check_parts(c, p));
    configure_ramp(c);
    COG_TRY(cog_spec_parse("identity", &spec));
    return cog_quantizer_configure(&spec, n, &c->fp32);
}

/* What is packed in host memory alone: see channel.h. */
static bool packs_by_host(const cog_channel *c, const cog_predictor *p) {
    const cog_quantizer_ops *ops = c->quantizer.ops;
    return (p->ops != NULL && ops->uses_side) || c->warmup + c->ramp > 0 || c->momentum > 0 ||
           !ops->on[cog_device_kind_of(c->device)];
}

/* Where messages are packed, and as what they are handed out. */
static cog_status place(cog_channel *c, const cog_predictor *p, cog_channel_end end) {
    const cog_quantizer_ops *ops = c->quantizer.ops;
    const cog_device_kind kind = cog_device_kind_of(c->device);
    c->framed = p->ops != NULL || c->warmup + c->ramp > 0;
    c->dense = c->framed || (kind != COG_CPU && ops->format == NULL && ops->aggregate == NULL);
    c->is_exact = ops->exact && (p->ops == NULL || p->trigger == COG_TRIGGER_ALWAYS);
    c->packer = c->device;
    const bool on_host = packs_by_host(c, p) || (c->dense && end == COG_RECEIVER);
    if (kind != COG_CPU && on_host) COG_TRY(cog_device_open("cpu", &c->packer));
    c->kernels = ops->on[cog_device_kind_of(c->packer)];
    return COG_OK;
}

/* ---------------------------------------------------------------- open and close */

cog_status cog_channel_host_memory(size_t bytes, void **out) {
    *out = malloc(bytes > 0 ? bytes : 1);
    COG_CHECK(*out != NULL, COG_ERR_MEMORY, "no memory for %zu bytes of a channel", bytes);
    return COG_OK;
}

cog_status cog_channel_vector(cog_channel *c, float **out) {
    const int64_t n = (c->quantizer.n + COG_TILE_ROW - 1) / COG_TILE_ROW * COG_TILE_ROW;
    return cog_device_zeros(c->packer, n, out);
}

static cog_status open_all(cog_channel *c, const char *spec, int64_t n, cog_channel_end end) {
    cog_predictor predictor;
    COG_TRY(configure(c, spec, n, &predictor));
    COG_TRY(place(c, &predictor, end));
    if (predictor.ops != NULL)
        COG_TRY(cog_mirror_open(&predictor, c->packer, end == COG_SENDER, &c->mirror));
    return end == COG_SENDER ? cog_channel_open_sender(c) : cog_channel_open_receiver(c);
}

cog_status cog_channel_open(const char *spec, cog_device *device, int64_t n, cog_channel_end end,
                            cog_channel **out) {
    cog_channel *c = calloc(1, sizeof(*c));
    COG_CHECK(c != NULL, COG_ERR_MEMORY, "no memory for a channel");
    c->device = device;
    const cog_status status = open_all(c, spec, n, end);
    if (status != COG_OK) {
        cog_channel_close(c);
        return status;
    }
    *out = c;
    return COG_OK;
}

void cog_channel_close(cog_channel *c) {
    if (c == NULL) return;
    void *packed[] = {c->error,   c->residual, c->state,         c->scratch,  c->frame,
                      c->message, c->velocity, c->next_velocity, c->estimate, c->next_estimate};
    for (size_t i = 0; i < sizeof(packed) / sizeof(packed[0]); i++)
        cog_device_free(c->packer, packed[i]);
    cog_mirror_close(c->mirror);
    if (c->packer != c->device) cog_device_close(c->packer);
    free(c->settled);
    free(c->host);
    free(c->spare);
    free(c->incoming);
    free(c->position);
    free(c);
}

/* ---------------------------------------------------------------- both ends */

void cog_channel_seed(cog_channel *c, uint64_t seed, uint32_t message) {
    cog_rng rng = cog_rng_make(seed, COG_STREAM_COMPRESSOR, message, 0);
    c->quantizer.stream = cog_rng_u32(&rng);
}

const cog_quantizer *cog_channel_quantizer(const cog_channel *c) {
    return c->dense || cog_channel_summed(c) != NULL ? &c->fp32 : &c->quantizer;
}

const cog_quantizer *cog_channel_summed(const cog_channel *c) {
    return c->quantizer.ops->aggregate != NULL ? &c->quantizer : NULL;
}

bool cog_channel_predicts(const cog_channel *c) { return c->mirror != NULL; }

double cog_channel_momentum(const cog_channel *c) { return c->momentum; }

bool cog_channel_sends_all(const cog_channel *c) {
    const cog_quantizer_ops *ops = c->quantizer.ops;
    const bool near = ops->worst_error == NULL || ops->worst_error(&c->quantizer) < 1;
    return ops->positions == NULL && ops->aggregate == NULL && near;
}

bool cog_channel_is_exact(const cog_channel *c) { return c->is_exact; }

size_t cog_channel_header_bytes(const cog_channel *c) {
    if (!c->framed) return 0;
    return (c->mirror != NULL ? cog_mirror_header_bytes(c->mirror) : 0) + 1;
}

size_t cog_channel_max_bytes(const cog_channel *c) {
    size_t most = 0;
    for (int format = 0; format < COG_FORMATS; format++) {
        const cog_quantizer *q = cog_channel_format(c, format);
        const size_t payload = q != NULL ? q->ops->payload_bytes(q) : 0;
        if (most < payload) most = payload;
    }
    return cog_channel_header_bytes(c) + most;
}

const cog_quantizer *cog_channel_format(const cog_channel *c, int format) {
    if (format == COG_FORMAT_WIRE) return &c->quantizer;
    if (format == COG_FORMAT_FP32) return c->warmup > 0 ? &c->fp32 : NULL;
    return format < COG_FORMATS && c->ramp > 0 ? &c->step[format - COG_FORMAT_RAMP] : NULL;
}

int cog_channel_format_now(const cog_channel *c) {
    if (c->round < c->warmup) return COG_FORMAT_FP32;
    const int64_t since = c->round - c->warmup;
    if (since >= c->ramp) return COG_FORMAT_WIRE;
    return COG_FORMAT_RAMP + (int)(COG_RAMP_STEPS * since / c->ramp);
}

void cog_channel_begin_round(cog_channel *c, int64_t round) { c->round = round; }

cog_status cog_channel_estimate(cog_channel *c, const cog_quantizer *q, const void *payload,
                                float *out) {
    const cog_device_ops *dev = c->packer->ops;
    const bool expects = c->mirror != NULL && (payload == NULL || !q->ops->uses_side);
    if (expects)
        COG_TRY(dev->axpby(c->packer, 1, cog_mirror_expected(c->mirror), 0, out, q->n));
    else
        COG_TRY(dev->fill(c->packer, 0, out, q->n));
    if (payload == NULL || q->n == 0) return COG_OK;
    return q->ops->on[dev->kind]->add(q, c->packer, payload, 1, 0, q->n, out);
}

static void swap(float **a, float **b) {
    float *kept = *a;
    *a = *b;
    *b = kept;
}

void cog_channel_settle(cog_channel *c, bool accepted) {
    if (c->pending && accepted) {
        c->ahead = false;
        if (c->error != NULL) swap(&c->error, &c->residual);
        swap(&c->velocity, &c->next_velocity);
        if (c->mirror != NULL) c->lost = cog_mirror_push(c->mirror, c->fired, c->estimate);
    }
    c->pending = false;
}
