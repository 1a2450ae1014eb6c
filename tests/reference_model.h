/* reference_model.h - the models once more, row by row in double and without a thought for speed:
 * what tests/test_model.c compares with. The layout of the parameters is spelled out here a
 * second time, from its description in include/cograd/model.h. */
#ifndef COG_TESTS_REFERENCE_MODEL_H
#define COG_TESTS_REFERENCE_MODEL_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

enum { REF_MAX_LAYERS = 8, REF_MAX_WIDTH = 64 };

typedef enum ref_loss { REF_SOFTMAX, REF_SQUARED, REF_LOGISTIC } ref_loss;

typedef struct ref_model {
    const char *spec;
    ref_loss loss;
    double l2;
    int n_layers;
    int out[REF_MAX_LAYERS]; /* outputs of each layer */
    int n_features, n_classes, n_blocks;
    bool no_bias; /* of a linear model */
} ref_model;

static inline int ref_in(const ref_model *m, int l) {
    return l == 0 ? m->n_features : m->out[l - 1];
}

/* Inputs of layer l and, where it has one, the bias behind them. */
static inline int ref_terms(const ref_model *m, int l) { return ref_in(m, l) + !m->no_bias; }

static inline int ref_group(const ref_model *m, int l) {
    return (m->out[l] + m->n_blocks - 1) / m->n_blocks;
}

/* First parameter of layer l in its block; of the layer past the last: the block's length. */
static inline int64_t ref_offset(const ref_model *m, int l) {
    int64_t offset = 0;
    for (int i = 0; i < l; i++) offset += (int64_t)ref_group(m, i) * (ref_in(m, i) + 1);
    return offset;
}

static inline int64_t ref_block_len(const ref_model *m) {
    if (m->loss != REF_SOFTMAX)
        return (m->n_features + !m->no_bias + m->n_blocks - 1) / m->n_blocks;
    return ref_offset(m, m->n_layers);
}

/* Where the weight of input i to output o lies; i == number of inputs: the bias. */
static inline int64_t ref_index(const ref_model *m, int l, int o, int i) {
    if (m->loss != REF_SOFTMAX) return i;
    const int group = ref_group(m, l), in = ref_in(m, l);
    const int64_t panel = (int64_t)(o / group) * ref_block_len(m) + ref_offset(m, l);
    return i < in ? panel + (o % group) * in + i : panel + group * in + o % group;
}

/* Scores of one row. */
static inline void ref_scores(const ref_model *m, const double *params, const float *x,
                              double *scores) {
    double from[REF_MAX_WIDTH];
    for (int i = 0; i < m->n_features; i++) from[i] = x[i];
    for (int l = 0; l < m->n_layers; l++) {
        for (int o = 0; o < m->out[l]; o++) {
            scores[o] = m->no_bias ? 0 : params[ref_index(m, l, o, ref_in(m, l))];
            for (int i = 0; i < ref_in(m, l); i++)
                scores[o] += params[ref_index(m, l, o, i)] * from[i];
        }
        for (int o = 0; o < m->out[l]; o++) from[o] = fmax(0, scores[o]);
    }
}

/* Loss of one row, with its share of the regulariser. */
static inline double ref_row_loss(const ref_model *m, const double *params, const float *x,
                                  float y) {
    double scores[REF_MAX_WIDTH], squares = 0;
    ref_scores(m, params, x, scores);
    if (m->l2 > 0)
        for (int i = 0; i < m->n_features; i++) squares += params[i] * params[i];
    const double penalty = m->l2 / 2 * squares;
    if (m->loss == REF_SQUARED) return (scores[0] - y) * (scores[0] - y) / 2 + penalty;
    if (m->loss == REF_LOGISTIC) return log1p(exp(-(2 * y - 1) * scores[0])) + penalty;
    double top = scores[0], sum = 0;
    for (int c = 1; c < m->n_classes; c++) top = fmax(top, scores[c]);
    for (int c = 0; c < m->n_classes; c++) sum += exp(scores[c] - top);
    return log(sum) + top - scores[(int)y];
}

static inline bool ref_is_correct(const ref_model *m, const double *params, const float *x,
                                  float y) {
    double scores[REF_MAX_WIDTH];
    ref_scores(m, params, x, scores);
    if (m->loss == REF_SQUARED) return false;
    if (m->loss == REF_LOGISTIC) return (scores[0] > 0) == (y == 1);
    int best = 0;
    for (int c = 1; c < m->n_classes; c++)
        if (scores[c] > scores[best]) best = c;
    return best == (int)y;
}

/* Derivative of one row's loss along every parameter, by central differences; [n] */
static inline void ref_row_gradient(const ref_model *m, double *params, int64_t n, const float *x,
                                    float y, double *gradient) {
    const double step = 1e-6;
    for (int64_t i = 0; i < n; i++) {
        const double at = params[i];
        params[i] = at + step;
        const double above = ref_row_loss(m, params, x, y);
        params[i] = at - step;
        const double below = ref_row_loss(m, params, x, y);
        params[i] = at;
        gradient[i] = (above - below) / (2 * step);
    }
}

#endif
