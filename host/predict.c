/* predict.c - predictors by name, memories, triggers, and the state of one end. */
#include "predict.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "registry.h"

struct cog_mirror {
    cog_predictor predictor;
    cog_memory memory;
    float coefs[COG_MAX_WINDOW];
    float *expected; /* [n] */
    void *work;      /* sender: of the fit */
    float *message;  /* [n] sender, trigger lag: the message predicted last */
    float *previous; /* [n] and the one that was used before it */
};

/* ---------------------------------------------------------------- configure */

static cog_status configure_trigger(cog_predictor *p, cog_spec *spec) {
    static const char *const rising[] = {"always", "relative", "absolute", "decaying", "lag", NULL};
    static const char *const falling[] = {"relative", "always", "absolute",
                                          "decaying", "lag",    NULL};
    static const char *const policies[] = {"always", "fired", NULL};
    const bool swapped = p->ops->trigger == COG_TRIGGER_RELATIVE;
    int chosen, policy;
    COG_TRY(cog_spec_choice(spec, "trigger", swapped ? falling : rising, &chosen));
    p->trigger = (cog_trigger)(swapped && chosen < 2 ? 1 - chosen : chosen);
    COG_TRY(cog_spec_real(spec, "threshold", 0.05, 0, 1e30, &p->threshold));
    COG_TRY(cog_spec_real(spec, "power", 1, 0, 10, &p->power));
    COG_TRY(cog_spec_choice(spec, "push", policies, &policy));
    p->push_fired_only = policy == 1;
    return COG_OK;
}

cog_status cog_predictor_configure(cog_spec *spec, int64_t n, cog_predictor *out) {
    const char *name;
    *out = (cog_predictor){.n = n};
    COG_TRY(cog_spec_text(spec, "predict", "none", &name));
    if (strcmp(name, "none") == 0) return COG_OK;
    COG_TRY(cog_find_predictor(name, &out->ops));
    COG_TRY(out->ops->configure(out, spec));
    return configure_trigger(out, spec);
}

/* ---------------------------------------------------------------- memory */

void cog_memory_forget(cog_memory *m) {
    for (int i = 0; i < m->count; i++) memset(m->x[i], 0, (size_t)m->n * sizeof(float));
    m->count = 0;
}

void cog_memory_push(cog_memory *m, const float *newest) {
    float *oldest = m->x[m->room - 1];
    memmove(m->x + 1, m->x, (size_t)(m->room - 1) * sizeof(*m->x));
    m->x[0] = oldest;
    if (m->n > 0) memcpy(oldest, newest, (size_t)m->n * sizeof(float));
    if (m->count < m->room) m->count++;
}

static cog_status zeros(int64_t n, float **out) {
    *out = calloc((size_t)n + 1, sizeof(float));
    COG_CHECK(*out != NULL, COG_ERR_MEMORY, "no memory for a prediction of %lld entries",
              (long long)n);
    return COG_OK;
}

static cog_status allocate(cog_mirror *m, bool is_sender) {
    const cog_predictor *p = &m->predictor;
    COG_TRY(zeros(p->n, &m->expected));
    for (; m->memory.room < p->window; m->memory.room++)
        COG_TRY(zeros(p->n, &m->memory.x[m->memory.room]));
    if (!is_sender) return COG_OK;
    if (p->ops->work_bytes != NULL) {
        m->work = malloc(p->ops->work_bytes(p) + 1);
        COG_CHECK(m->work != NULL, COG_ERR_MEMORY, "no memory to fit a prediction");
    }
    if (p->trigger != COG_TRIGGER_LAG) return COG_OK;
    COG_TRY(zeros(p->n, &m->message));
    return zeros(p->n, &m->previous);
}

cog_status cog_mirror_open(const cog_predictor *predictor, bool is_sender, cog_mirror **out) {
    cog_mirror *m = calloc(1, sizeof(*m));
    COG_CHECK(m != NULL, COG_ERR_MEMORY, "no memory for a predictor");
    m->predictor = *predictor;
    m->memory.n = predictor->n;
    const cog_status status = allocate(m, is_sender);
    if (status != COG_OK) {
        cog_mirror_close(m);
        return status;
    }
    *out = m;
    return COG_OK;
}

void cog_mirror_close(cog_mirror *m) {
    if (m == NULL) return;
    for (int i = 0; i < COG_MAX_WINDOW; i++) free(m->memory.x[i]);
    free(m->expected);
    free(m->work);
    free(m->message);
    free(m->previous);
    free(m);
}

/* ---------------------------------------------------------------- sender */

static double square_norm(const float *x, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)x[i] * x[i];
    return sum;
}

static double square_distance(const float *x, const float *y, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        const double gap = (double)x[i] - y[i];
        sum += gap * gap;
    }
    return sum;
}

/* Of a residual of that square norm. One that is not a number fires: it must be seen. */
static bool fires_at(const cog_mirror *m, int64_t round, double residual, double norm) {
    const cog_predictor *p = &m->predictor;
    const double bound = p->threshold * p->threshold;
    switch (p->trigger) {
    case COG_TRIGGER_ALWAYS: return true;
    case COG_TRIGGER_RELATIVE: return !(residual <= bound * norm);
    case COG_TRIGGER_ABSOLUTE: return !(residual <= bound);
    case COG_TRIGGER_DECAYING: return !(residual <= bound * pow(1 + (double)round, -2 * p->power));
    case COG_TRIGGER_LAG:
        return !(residual <= p->threshold * square_distance(m->message, m->previous, p->n));
    }
    return true;
}

cog_status cog_mirror_foresee(cog_mirror *m, int64_t round, const float *x, bool *fires) {
    const cog_predictor *p = &m->predictor;
    const double norm = square_norm(x, p->n);
    memset(m->coefs, 0, sizeof(m->coefs));
    if (p->ops->fit != NULL && isfinite(norm))
        COG_TRY(p->ops->fit(p, &m->memory, x, m->work, m->coefs));
    p->ops->predict(p, &m->memory, m->coefs, m->expected);
    if (m->message != NULL) memcpy(m->message, x, (size_t)p->n * sizeof(float));
    *fires = fires_at(m, round, square_distance(x, m->expected, p->n), norm);
    return COG_OK;
}

size_t cog_mirror_header_bytes(const cog_mirror *m) {
    return (size_t)m->predictor.n_coefs * sizeof(float);
}

void cog_mirror_write(const cog_mirror *m, void *header) {
    memcpy(header, m->coefs, cog_mirror_header_bytes(m));
}

/* ---------------------------------------------------------------- receiver, and both */

cog_status cog_mirror_check(const cog_mirror *m, const void *header) {
    float coefs[COG_MAX_WINDOW];
    memcpy(coefs, header, cog_mirror_header_bytes(m));
    for (int i = 0; i < m->predictor.n_coefs; i++)
        COG_CHECK(isfinite(coefs[i]), COG_ERR_FORMAT, "coefficient %d of a prediction is %g", i,
                  (double)coefs[i]);
    return COG_OK;
}

void cog_mirror_follow(cog_mirror *m, const void *header) {
    memcpy(m->coefs, header, cog_mirror_header_bytes(m));
    m->predictor.ops->predict(&m->predictor, &m->memory, m->coefs, m->expected);
}

const float *cog_mirror_expected(const cog_mirror *m) { return m->expected; }

static bool all_finite(const float *x, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(x[i])) return false;
    return true;
}

void cog_mirror_push(cog_mirror *m, bool fired, const float *estimate) {
    const cog_predictor *p = &m->predictor;
    float *message = m->message;
    m->message = m->previous;
    m->previous = message;
    if (!fired && p->push_fired_only) return;
    if (all_finite(estimate, p->n))
        p->ops->push(p, &m->memory, m->expected, estimate);
    else
        cog_memory_forget(&m->memory);
}

/* ---------------------------------------------------------------- save and load */

size_t cog_mirror_max_state(const cog_mirror *m) {
    return 2 * sizeof(int32_t) +
           ((size_t)m->memory.room + 1) * (size_t)m->predictor.n * sizeof(float);
}

cog_status cog_mirror_save(const cog_mirror *m, cog_blob *out) {
    const int32_t count[2] = {m->memory.count, m->previous != NULL};
    const size_t bytes = (size_t)m->predictor.n * sizeof(float);
    COG_TRY(cog_blob_add(out, count, sizeof(count)));
    for (int i = 0; i < m->memory.count; i++) COG_TRY(cog_blob_add(out, m->memory.x[i], bytes));
    return m->previous != NULL ? cog_blob_add(out, m->previous, bytes) : COG_OK;
}

cog_status cog_mirror_load(cog_mirror *m, cog_span *state) {
    int32_t count[2];
    const size_t bytes = (size_t)m->predictor.n * sizeof(float);
    COG_TRY(cog_span_read(state, count, sizeof(count)));
    COG_CHECK(count[0] >= 0 && count[0] <= m->memory.room && count[1] == (m->previous != NULL),
              COG_ERR_FORMAT, "a predictor that remembers %d messages was saved with %d",
              m->memory.room, count[0]);
    cog_memory_forget(&m->memory);
    for (; m->memory.count < count[0]; m->memory.count++)
        COG_TRY(cog_span_read(state, m->memory.x[m->memory.count], bytes));
    return m->previous != NULL ? cog_span_read(state, m->previous, bytes) : COG_OK;
}
