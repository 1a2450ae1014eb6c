/* mlp.c - a network of dense layers, ReLU between them, softmax cross-entropy at the end.
 *
 *   mlp:hidden=512x256   any number of hidden layers
 *   softmax              none: multinomial logistic regression
 *
 * Block a holds, layer after layer, its panel of group = ceil(out / n_blocks) outputs:
 *
 *     weights [group, in] row-major, then biases [group]
 *
 * Output o of a layer is row o % group of block o / group. Activations and deltas are
 * [rows, n_blocks * group], so a block's outputs are a column group and the real ones come first;
 * the rest is padding. What the padding's parameters hold does not matter, and their gradient is
 * 0: no product reads padding columns of activations, and those of deltas are set to 0. (A code
 * that mixes blocks may well decode something into them.)
 *
 * Rows of a message:   F = sum over the segment's slices of coef * delta[:, columns of block]
 * Message of a layer:  F^T X and the column sums of F, over all rows of used segments
 *
 * with products only over contiguous runs of used segments. Where a run has one slice a segment,
 * with one block and one coefficient throughout, F is the column group of delta itself. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "check.h"
#include "device.h"
#include "model.h"
#include "rng.h"

enum {
    MAX_WIDTH = 1 << 20, /* outputs of one hidden layer */
    MAX_TERMS = 256,     /* slices of one segment in one message */
    LINE = 16            /* floats of a cache line: where vectors of the workspace start */
};

typedef struct layer {
    int64_t in, out;
    int64_t group;   /* outputs of one block, padding included */
    int64_t width;   /* n_blocks * group, columns of activations and deltas */
    int64_t weights; /* offsets in a block */
    int64_t bias;
} layer;

typedef struct mlp {
    int32_t n_blocks;
    int64_t block_len;
    int64_t scratch_width; /* columns of F; at least 2, for losses and hits */
    int n_layers;
    layer layers[];
} mlp;

/* The vectors of a workspace for `rows` rows, in order:
 *     for every layer   delta [rows, width]
 *     hidden layers     activation [rows, width]
 *     scratch           [rows, scratch_width] */
typedef struct view {
    const mlp *net;
    int64_t rows;
    float *base;
} view;

static int64_t aligned(int64_t n) { return (n + LINE - 1) / LINE * LINE; }

/* Offset of the layer's delta; that of layer n_layers ends the last. */
static int64_t delta_offset(const mlp *net, int64_t rows, int l) {
    int64_t offset = 0;
    for (int i = 0; i < l; i++)
        offset += aligned(rows * net->layers[i].width) * (i < net->n_layers - 1 ? 2 : 1);
    return offset;
}

static float *delta_of(const view *v, int l) { return v->base + delta_offset(v->net, v->rows, l); }

static float *activation_of(const view *v, int l) {
    return delta_of(v, l) + aligned(v->rows * v->net->layers[l].width);
}

static float *scratch_of(const view *v) { return delta_of(v, v->net->n_layers); }

static size_t workspace_bytes(const void *user, int64_t n_rows) {
    const mlp *net = user;
    const int64_t scratch = aligned(n_rows * net->scratch_width);
    return (size_t)(delta_offset(net, n_rows, net->n_layers) + scratch) * sizeof(float);
}

/* ---------------------------------------------------------------------------------------------- */

/* z = x W^T + b, all blocks at once, then ReLU for hidden layers. */
static cog_status forward_layer(const mlp *net, cog_device *device, int64_t rows, const layer *y,
                                bool relu, const float *x, int64_t ld, const float *params,
                                float *z) {
    COG_TRY(cog_device_gemm(device, false, true, rows, y->group, y->in, 1, x, ld, 0,
                            params + y->weights, y->in, net->block_len, 0, z, y->width, y->group,
                            net->n_blocks));
    const cog_panels panels = {net->n_blocks, y->group, net->block_len};
    return device->ops->bias_relu(device, rows, y->width, params + y->bias, panels, relu, z);
}

/* Input of a layer and its leading dimension. */
static const float *input_of(const view *v, const cog_batch *batch, int l, int64_t *ld) {
    *ld = l == 0 ? batch->n_features : v->net->layers[l - 1].width;
    return l == 0 ? batch->x : activation_of(v, l - 1);
}

/* Scores end up where the last delta will be. */
static cog_status forward(const view *v, cog_device *device, const cog_batch *batch,
                          const float *params) {
    const mlp *net = v->net;
    COG_TRY(cog_model_check(batch, net->layers[0].in, net->n_blocks, 0, NULL));
    for (int l = 0; l < net->n_layers; l++) {
        const bool is_hidden = l < net->n_layers - 1;
        int64_t ld;
        const float *x = input_of(v, batch, l, &ld);
        float *z = is_hidden ? activation_of(v, l) : delta_of(v, l);
        COG_TRY(forward_layer(net, device, v->rows, &net->layers[l], is_hidden, x, ld, params, z));
    }
    return COG_OK;
}

/* delta of layer l from that of layer l + 1: the sum of what the blocks say. */
static cog_status backward_layer(const view *v, cog_device *device, int l, const float *params) {
    const mlp *net = v->net;
    const layer *below = &net->layers[l], *above = &net->layers[l + 1];
    float *delta = delta_of(v, l);
    for (int32_t a = 0; a < net->n_blocks; a++)
        COG_TRY(cog_device_gemm(device, false, false, v->rows, below->out, above->group, 1,
                                delta_of(v, l + 1) + a * above->group, above->width, 0,
                                params + a * net->block_len + above->weights, above->in, 0,
                                a == 0 ? 0 : 1, delta, below->width, 0, 1));
    if (below->width > below->out)
        COG_TRY(device->ops->fold_columns(device, v->rows, below->width - below->out, below->width,
                                          delta, 0, NULL, delta + below->out, below->width));
    return device->ops->relu_backward(device, activation_of(v, l), delta, v->rows * below->width);
}

static cog_status softmax_loss(const view *v, cog_device *device, const cog_batch *batch,
                               float *row_loss, float *row_correct) {
    const layer *last = &v->net->layers[v->net->n_layers - 1];
    float *z = delta_of(v, v->net->n_layers - 1);
    return device->ops->softmax_cross_entropy(device, v->rows, last->out, last->width, z, batch->y,
                                              z, row_loss, row_correct);
}

static cog_status backprop(const void *user, cog_device *device, const cog_batch *batch,
                           const float *params, void *workspace) {
    const view v = {user, batch->n_rows, workspace};
    COG_TRY(forward(&v, device, batch, params));
    COG_TRY(softmax_loss(&v, device, batch, NULL, NULL));
    for (int l = v.net->n_layers - 2; l >= 0; l--) COG_TRY(backward_layer(&v, device, l, params));
    return COG_OK;
}

static cog_status evaluate(const void *user, cog_device *device, const cog_batch *batch,
                           const float *params, void *workspace, cog_loss *out) {
    const view v = {user, batch->n_rows, workspace};
    float *row_loss = scratch_of(&v), *row_correct = row_loss + v.rows;
    COG_TRY(forward(&v, device, batch, params));
    COG_TRY(softmax_loss(&v, device, batch, row_loss, row_correct));
    double loss, n_correct;
    COG_TRY(cog_model_sum(device, row_loss, v.rows, false, &loss));
    COG_TRY(cog_model_sum(device, row_correct, v.rows, false, &n_correct));
    *out = (cog_loss){loss, (int64_t)n_correct};
    return COG_OK;
}

/* ---------------------------------------------------------------------------------------------- */

typedef struct message {
    const view *view;
    cog_device *device;
    const cog_batch *batch;
    int n_slices;
    const cog_slice *slices;
    float *out;
} message;

/* Consecutive segments that the message uses. */
typedef struct run {
    int32_t begin, end;     /* segments */
    const cog_slice *plain; /* what every segment has, and nothing else; NULL: F must be folded */
} run;

/* How many slices name the segment, and the last of them. Segments without rows have none. */
static int slices_of(const message *m, int32_t segment, const cog_slice **last) {
    int n = 0;
    if (m->batch->segment[segment] == m->batch->segment[segment + 1]) return 0;
    for (int i = 0; i < m->n_slices; i++)
        if (m->slices[i].segment == segment) {
            *last = &m->slices[i];
            n++;
        }
    return n;
}

/* The first run at or after `begin`; begin == end when there is none. */
static run next_run(const message *m, int32_t begin) {
    run r = {begin, begin, NULL};
    const cog_slice *slice;
    while (r.begin < m->batch->n_segments && slices_of(m, r.begin, &slice) == 0) r.begin++;
    r.end = r.begin;
    for (int n; r.end < m->batch->n_segments && (n = slices_of(m, r.end, &slice)) > 0; r.end++) {
        if (r.end == r.begin && n == 1) r.plain = slice;
        if (r.plain != NULL &&
            (n != 1 || slice->block != r.plain->block || slice->coef != r.plain->coef))
            r.plain = NULL;
    }
    return r;
}

/* F over the rows of one segment. */
static cog_status fold_segment(const message *m, int l, int32_t segment, float *folded) {
    const layer *y = &m->view->net->layers[l];
    const int64_t first = m->batch->segment[segment];
    cog_fold_term terms[MAX_TERMS];
    int n_terms = 0;
    for (int i = 0; i < m->n_slices; i++) {
        if (m->slices[i].segment != segment) continue;
        COG_CHECK(n_terms < MAX_TERMS, COG_ERR_ARGUMENT,
                  "a message takes more than %d slices of one segment", MAX_TERMS);
        terms[n_terms++] = (cog_fold_term){m->slices[i].block * y->group, (float)m->slices[i].coef};
    }
    return m->device->ops->fold_columns(m->device, m->batch->segment[segment + 1] - first, y->group,
                                        y->width, delta_of(m->view, l) + first * y->width, n_terms,
                                        terms, folded + first * y->group, y->group);
}

/* F^T X and the column sums of F over a run of segments; beta = 0 starts the sum. */
static cog_status add_run(const message *m, int l, const run *r, float beta) {
    const layer *y = &m->view->net->layers[l];
    const int64_t first = m->batch->segment[r->begin];
    const int64_t rows = m->batch->segment[r->end] - first;
    float *f = scratch_of(m->view) + first * y->group;
    int64_t ld_f = y->group, ld;
    float alpha = 1;
    if (r->plain != NULL) {
        f = delta_of(m->view, l) + first * y->width + r->plain->block * y->group;
        ld_f = y->width;
        alpha = (float)r->plain->coef;
    } else {
        for (int32_t s = r->begin; s < r->end; s++)
            COG_TRY(fold_segment(m, l, s, scratch_of(m->view)));
    }
    const float *x = input_of(m->view, m->batch, l, &ld);
    COG_TRY(cog_device_gemm(m->device, true, false, y->group, y->in, rows, alpha, f, ld_f, 0,
                            x + first * ld, ld, 0, beta, m->out + y->weights, y->in, 0, 1));
    return m->device->ops->sum_rows(m->device, rows, y->group, ld_f, alpha, f, beta,
                                    m->out + y->bias);
}

static cog_status make_message(const void *user, cog_device *device, const cog_batch *batch,
                               const float *params, void *workspace, int n_slices,
                               const cog_slice *slices, float *out) {
    (void)params;
    const view v = {user, batch->n_rows, workspace};
    const message m = {&v, device, batch, n_slices, slices, out};
    COG_TRY(cog_model_check(batch, v.net->layers[0].in, v.net->n_blocks, n_slices, slices));
    float beta = 0;
    for (run r = next_run(&m, 0); r.begin < r.end; r = next_run(&m, r.end)) {
        for (int l = 0; l < v.net->n_layers; l++) COG_TRY(add_run(&m, l, &r, beta));
        beta = 1;
    }
    return beta == 0 ? device->ops->fill(device, 0, out, v.net->block_len) : COG_OK;
}

/* ---------------------------------------------------------------------------------------------- */

/* Normal weights of variance 2 / in (He et al. 2015) below a ReLU and 1 / in at the end, drawn in
 * the order of the outputs, so that the layout does not change them. */
static cog_status init(const void *user, uint64_t seed, float *params) {
    const mlp *net = user;
    for (int64_t i = 0; i < net->n_blocks * net->block_len; i++) params[i] = 0;
    for (int l = 0; l < net->n_layers; l++) {
        const layer *y = &net->layers[l];
        const double deviation = sqrt((l < net->n_layers - 1 ? 2.0 : 1.0) / (double)y->in);
        cog_rng rng = cog_rng_make(seed, COG_STREAM_INIT, (uint32_t)l, 0);
        for (int64_t o = 0; o < y->out; o++) {
            float *row = params + o / y->group * net->block_len + y->weights + o % y->group * y->in;
            for (int64_t i = 0; i < y->in; i++) row[i] = (float)(deviation * cog_rng_normal(&rng));
        }
    }
    return COG_OK;
}

static double backprop_flops(const void *user, int64_t n_rows) {
    const mlp *net = user;
    double products = 0;
    for (int l = 0; l < net->n_layers; l++)
        products += (double)net->layers[l].width * (double)net->layers[l].in * (l > 0 ? 2 : 1);
    return 2 * products * (double)n_rows;
}

static double message_flops(const void *user, int64_t n_rows) {
    const mlp *net = user;
    double products = 0;
    for (int l = 0; l < net->n_layers; l++)
        products += (double)net->layers[l].group * (double)net->layers[l].in;
    return 2 * products * (double)n_rows;
}

/* ---------------------------------------------------------------------------------------------- */

/* Widths out of "512x256"; counts only when `out` is NULL. */
static cog_status parse_widths(const char *text, mlp *out, int *n) {
    const char *at = text;
    for (*n = 0;; at++) {
        char *end;
        const long width = strtol(at, &end, 10);
        COG_CHECK(end != at && *at != '+' && *at != ' ' && (*end == '\0' || *end == 'x'),
                  COG_ERR_SPEC, "'hidden' must be widths joined by x, as 512x256, is '%s'", text);
        COG_CHECK(width >= 1 && width <= MAX_WIDTH, COG_ERR_SPEC,
                  "'hidden' has a layer outside 1..%d in '%s'", MAX_WIDTH, text);
        if (out != NULL) out->layers[*n].out = width;
        ++*n;
        at = end;
        if (*at == '\0') return COG_OK;
    }
}

/* Offsets and sizes, given the outputs of the layers. */
static cog_status lay_out(mlp *net, int64_t n_features) {
    double total = 0;
    net->scratch_width = 2;
    for (int l = 0; l < net->n_layers; l++) {
        layer *y = &net->layers[l];
        y->in = l == 0 ? n_features : net->layers[l - 1].out;
        y->group = (y->out + net->n_blocks - 1) / net->n_blocks;
        y->width = y->group * net->n_blocks;
        y->weights = net->block_len;
        y->bias = y->weights + y->group * y->in;
        net->block_len = y->bias + y->group;
        if (net->scratch_width < y->group) net->scratch_width = y->group;
        total += (double)y->width * (double)(y->in + 1);
        COG_CHECK(total < 0x1p40, COG_ERR_ARGUMENT, "the network has more than 2^40 parameters");
    }
    return COG_OK;
}

static cog_status open_network(const char *hidden, const cog_model_shape *shape, cog_model *out) {
    COG_CHECK(shape->n_classes >= 2, COG_ERR_ARGUMENT,
              "'%s' is a classifier; the data has %" PRId32 " classes", out->name,
              shape->n_classes);
    int n_hidden = 0;
    if (hidden != NULL) COG_TRY(parse_widths(hidden, NULL, &n_hidden));
    mlp *net = calloc(1, sizeof(*net) + ((size_t)n_hidden + 1) * sizeof(layer));
    COG_CHECK(net != NULL, COG_ERR_MEMORY, "no memory for a network");
    out->user = net;
    out->destroy = free;
    if (hidden != NULL) COG_TRY(parse_widths(hidden, net, &n_hidden));
    net->layers[n_hidden].out = shape->n_classes;
    net->n_layers = n_hidden + 1;
    net->n_blocks = shape->n_blocks;
    COG_TRY(lay_out(net, shape->n_features));
    out->block_len = net->block_len;
    out->n_params = net->block_len * net->n_blocks;
    out->init = init;
    out->workspace_bytes = workspace_bytes;
    out->backprop = backprop;
    out->message = make_message;
    out->evaluate = evaluate;
    out->backprop_flops = backprop_flops;
    out->message_flops = message_flops;
    return COG_OK;
}

static cog_status open_mlp(cog_spec *spec, const cog_model_shape *shape, cog_model *out) {
    const char *hidden;
    COG_TRY(cog_spec_text(spec, "hidden", "512x256", &hidden));
    return open_network(hidden, shape, out);
}

static cog_status open_softmax(cog_spec *spec, const cog_model_shape *shape, cog_model *out) {
    (void)spec;
    return open_network(NULL, shape, out);
}

const cog_model_ops cog_model_mlp = {
    .name = "mlp",
    .summary = "dense layers with ReLU, softmax cross-entropy",
    .open = open_mlp,
};

const cog_model_ops cog_model_softmax = {
    .name = "softmax",
    .summary = "one dense layer, softmax cross-entropy",
    .open = open_softmax,
};
