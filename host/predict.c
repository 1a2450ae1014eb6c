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
    /* below 1 a rule of differences fires after every message that was sent */
    const double threshold = p->trigger == COG_TRIGGER_LAG ? 4 : 0.05;
    COG_TRY(cog_spec_real(spec, "threshold", threshold, 0, 1e30, &p->threshold));
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

static cog_status copy(const cog_memory *m, const float *from, float *to) {
    return m->device->ops->axpby(m->device, 1, from, 0, to, m->n);
}

cog_status cog_memory_forget(cog_memory *m) {
    for (int i = 0; i < m->count; i++) COG_TRY(m->device->ops->fill(m->device, 0, m->x[i], m->n));
    m->count = m->n_known = 0;
    return COG_OK;
}

cog_status cog_memory_push(cog_memory *m, const float *newest) {
    float *oldest = m->x[m->room - 1];
    COG_TRY(copy(m, newest, oldest));
    if (m->count < m->room)
        m->count++;
    else if (m->n_known > 0)
        m->n_known--;
    memmove(m->x + 1, m->x, (size_t)(m->room - 1) * sizeof(*m->x));
    for (int i = m->room - 1; i > 0; i--)
        memcpy(m->product[i] + 1, m->product[i - 1], (size_t)(m->room - 1) * sizeof(double));
    m->x[0] = oldest;
    return COG_OK;
}

/* *out = ||x - y||^2, y may be NULL for 0. */
static cog_status square_distance(const cog_memory *m, const float *x, const float *y,
                                  double *out) {
    const float one = 1;
    return m->device->ops->predict(m->device, y != NULL, &y, &one, x, m->n, NULL, m->work, out);
}

cog_status cog_memory_repeat(const cog_memory *m, const float *target, float *expected,
                             double *left) {
    COG_TRY(copy(m, m->x[0], expected));
    return target != NULL ? square_distance(m, target, m->x[0], left) : COG_OK;
}

/* ---------------------------------------------------------------- one end */

static cog_status allocate(cog_mirror *m, bool is_sender) {
    const cog_predictor *p = &m->predictor;
    cog_device *device = m->memory.device;
    COG_TRY(cog_device_zeros(device, p->n, &m->expected));
    for (; m->memory.room < p->window; m->memory.room++)
        COG_TRY(cog_device_zeros(device, p->n, &m->memory.x[m->memory.room]));
    COG_TRY(device->ops->alloc(device, cog_device_sums_bytes(p->n), &m->memory.work));
    if (!is_sender || p->trigger != COG_TRIGGER_LAG) return COG_OK;
    COG_TRY(cog_device_zeros(device, p->n, &m->message));
    return cog_device_zeros(device, p->n, &m->previous);
}

cog_status cog_mirror_open(const cog_predictor *predictor, cog_device *device, bool is_sender,
                           cog_mirror **out) {
    cog_mirror *m = calloc(1, sizeof(*m));
    COG_CHECK(m != NULL, COG_ERR_MEMORY, "no memory for a predictor");
    m->predictor = *predictor;
    m->memory.device = device;
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
    cog_device *device = m->memory.device;
    for (int i = 0; i < COG_MAX_WINDOW; i++) cog_device_free(device, m->memory.x[i]);
    cog_device_free(device, m->memory.work);
    cog_device_free(device, m->expected);
    cog_device_free(device, m->message);
    cog_device_free(device, m->previous);
    free(m);
}

/* ---------------------------------------------------------------- sender */

/* Of a residual of that square norm, with the distance of the message from the last one where that
 * counts. A residual that is not a number fires: it must be seen. */
static bool fires_at(const cog_predictor *p, int64_t round, double residual, double norm,
                     double news) {
    const double bound = p->threshold * p->threshold;
    switch (p->trigger) {
    case COG_TRIGGER_ALWAYS: return true;
    case COG_TRIGGER_RELATIVE: return !(residual <= bound * norm);
    case COG_TRIGGER_ABSOLUTE: return !(residual <= bound);
    case COG_TRIGGER_DECAYING: return !(residual <= bound * pow(1 + (double)round, -2 * p->power));
    case COG_TRIGGER_LAG: return !(residual <= p->threshold * news);
    }
    return true;
}

cog_status cog_mirror_foresee(cog_mirror *m, int64_t round, const float *x, bool *fires) {
    const cog_predictor *p = &m->predictor;
    cog_memory *memory = &m->memory;
    double norm, left, news = 0;
    memset(m->coefs, 0, sizeof(m->coefs));
    if (p->ops->foresee != NULL) {
        COG_TRY(p->ops->foresee(p, memory, x, m->coefs, m->expected, &norm, &left));
    } else {
        COG_TRY(square_distance(memory, x, NULL, &norm));
        COG_TRY(p->ops->predict(p, memory, m->coefs, x, m->expected, &left));
    }
    if (m->message != NULL) {
        COG_TRY(copy(memory, x, m->message));
        COG_TRY(square_distance(memory, m->message, m->previous, &news));
    }
    *fires = fires_at(p, round, left, norm, news);
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

cog_status cog_mirror_follow(cog_mirror *m, const void *header) {
    const cog_predictor *p = &m->predictor;
    memcpy(m->coefs, header, cog_mirror_header_bytes(m));
    return p->ops->predict(p, &m->memory, m->coefs, NULL, m->expected, NULL);
}

const float *cog_mirror_expected(const cog_mirror *m) { return m->expected; }

cog_status cog_mirror_push(cog_mirror *m, bool fired, const float *estimate) {
    const cog_predictor *p = &m->predictor;
    float *message = m->message;
    double norm;
    m->message = m->previous;
    m->previous = message;
    if (!fired && p->push_fired_only) return COG_OK;
    COG_TRY(square_distance(&m->memory, estimate, NULL, &norm));
    if (!isfinite(norm)) return cog_memory_forget(&m->memory); /* squares of floats stay finite */
    return p->ops->push(p, &m->memory, m->expected, estimate);
}

/* ---------------------------------------------------------------- save and load */

size_t cog_mirror_max_state(const cog_mirror *m) {
    return 2 * sizeof(int32_t) +
           ((size_t)m->memory.room + 1) * (size_t)m->predictor.n * sizeof(float);
}

static cog_status fetch(const cog_mirror *m, const float *x, cog_blob *out) {
    cog_device *device = m->memory.device;
    const size_t bytes = (size_t)m->predictor.n * sizeof(float);
    void *at;
    COG_TRY(cog_blob_extend(out, bytes, &at));
    return device->ops->download(device, at, x, bytes);
}

static cog_status put(const cog_mirror *m, cog_span *state, float *x) {
    cog_device *device = m->memory.device;
    const size_t bytes = (size_t)m->predictor.n * sizeof(float);
    const void *at;
    COG_TRY(cog_span_take(state, bytes, &at));
    return device->ops->upload(device, x, at, bytes);
}

cog_status cog_mirror_save(const cog_mirror *m, cog_blob *out) {
    const int32_t count[2] = {m->memory.count, m->previous != NULL};
    COG_TRY(cog_blob_add(out, count, sizeof(count)));
    for (int i = 0; i < m->memory.count; i++) COG_TRY(fetch(m, m->memory.x[i], out));
    return m->previous != NULL ? fetch(m, m->previous, out) : COG_OK;
}

/* What inner products the estimates have is found out when they are wanted. */
cog_status cog_mirror_load(cog_mirror *m, cog_span *state) {
    int32_t count[2];
    COG_TRY(cog_span_read(state, count, sizeof(count)));
    COG_CHECK(count[0] >= 0 && count[0] <= m->memory.room && count[1] == (m->previous != NULL),
              COG_ERR_FORMAT, "a predictor that remembers %d messages was saved with %d",
              m->memory.room, count[0]);
    COG_TRY(cog_memory_forget(&m->memory));
    for (; m->memory.count < count[0]; m->memory.count++)
        COG_TRY(put(m, state, m->memory.x[m->memory.count]));
    return m->previous != NULL ? put(m, state, m->previous) : COG_OK;
}
