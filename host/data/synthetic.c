/* synthetic.c - Gaussian features with a known linear truth.
 *
 *   rows       default 10000, of the training part; a tenth of it, at least one, is for testing
 *   features   default 100
 *   classes    0 (default): targets  y = x.w + noise * e
 *              c >= 2: the class whose teacher scores highest,  x.w_c + noise * e_c
 *   noise      default 1
 *   seed       default 1
 *
 * x, w and e are independent standard normal numbers. A row depends on (seed, part, row) alone, so
 * a larger set begins with the smaller one. */
#include <inttypes.h>
#include <stdlib.h>

#include "check.h"
#include "dataset.h"
#include "rng.h"

enum { TRAIN, TEST, TEACHER }; /* parts of the stream */
enum { MAX_TEACHER = 1 << 30 };

typedef struct recipe {
    int64_t rows, features, classes, seed;
    double noise;
    float *teacher; /* [max(classes, 1), features] */
} recipe;

static cog_status read_recipe(cog_spec *spec, recipe *out) {
    COG_TRY(cog_spec_int(spec, "rows", 10000, 1, 1000000000, &out->rows));
    COG_TRY(cog_spec_int(spec, "features", 100, 1, 100000000, &out->features));
    COG_TRY(cog_spec_int(spec, "classes", 0, 0, 65536, &out->classes));
    COG_CHECK(out->classes != 1, COG_ERR_SPEC,
              "'classes' of 'synthetic' is 1: there is nothing to "
              "tell apart; 0 makes real targets");
    COG_TRY(cog_spec_real(spec, "noise", 1, 0, 1e6, &out->noise));
    COG_TRY(cog_spec_int(spec, "seed", 1, 0, INT64_MAX, &out->seed));
    return cog_spec_finish(spec);
}

static cog_status make_teacher(recipe *r) {
    const int64_t outputs = r->classes > 0 ? r->classes : 1;
    COG_CHECK(outputs * r->features <= MAX_TEACHER, COG_ERR_SPEC,
              "'synthetic' with %" PRId64 " classes and %" PRId64
              " features has a teacher of more than %d numbers",
              r->classes, r->features, MAX_TEACHER);
    r->teacher = malloc((size_t)(outputs * r->features) * sizeof(*r->teacher));
    COG_CHECK(r->teacher != NULL, COG_ERR_MEMORY, "no memory for the teacher of a data set");
    for (int64_t o = 0; o < outputs; o++) {
        cog_rng rng = cog_rng_make((uint64_t)r->seed, COG_STREAM_DATA, TEACHER, (uint32_t)o);
        for (int64_t i = 0; i < r->features; i++)
            r->teacher[o * r->features + i] = (float)cog_rng_normal(&rng);
    }
    return COG_OK;
}

static double score(const recipe *r, int64_t output, const float *x, cog_rng *rng) {
    const float *w = r->teacher + output * r->features;
    double sum = 0;
    for (int64_t i = 0; i < r->features; i++) sum += (double)w[i] * x[i];
    return sum + r->noise * cog_rng_normal(rng);
}

static float label(const recipe *r, const float *x, cog_rng *rng) {
    double best = score(r, 0, x, rng);
    if (r->classes == 0) return (float)best;
    int64_t class = 0;
    for (int64_t c = 1; c < r->classes; c++) {
        const double next = score(r, c, x, rng);
        if (next <= best) continue;
        best = next;
        class = c;
    }
    return (float)class;
}

static cog_status make_part(const recipe *r, uint32_t part, int64_t rows, cog_dataset **out) {
    COG_TRY(cog_dataset_new("synthetic", rows, r->features, (int32_t)r->classes, out));
    for (int64_t i = 0; i < rows; i++) {
        cog_rng rng = cog_rng_make((uint64_t)r->seed, COG_STREAM_DATA, part, (uint32_t)i);
        float *x = (*out)->x + i * r->features;
        for (int64_t j = 0; j < r->features; j++) x[j] = (float)cog_rng_normal(&rng);
        (*out)->y[i] = label(r, x, &rng);
    }
    return COG_OK;
}

static cog_status open_synthetic(cog_spec *spec, cog_dataset **train, cog_dataset **test) {
    recipe r = {0};
    COG_TRY(read_recipe(spec, &r));
    cog_status status = make_teacher(&r);
    if (status == COG_OK) status = make_part(&r, TRAIN, r.rows, train);
    if (status == COG_OK) status = make_part(&r, TEST, r.rows / 10 > 0 ? r.rows / 10 : 1, test);
    free(r.teacher);
    return status;
}

const cog_dataset_ops cog_dataset_synthetic = {
    .name = "synthetic",
    .summary = "Gaussian features with a linear truth",
    .open = open_synthetic,
};
