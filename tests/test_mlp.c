/* test_mlp.c - a network of realistic depth against PyTorch's autograd, or NumPy. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "cograd/model.h"
#include "rng.h"

/* The first interpreter that has PyTorch or NumPy makes the reference; false when none has. */
static bool run_reference(const char *in, const char *out) {
    static const char *const python[] = {"python3", "/usr/bin/python3"};
    for (int i = 0; i < 2; i++) {
        char command[1024];
        snprintf(command, sizeof(command), "%s '%s/tests/reference_mlp.py' '%s' '%s' 2>/dev/null",
                 python[i], COG_SOURCE_DIR, in, out);
        if (system(command) == 0) return true;
    }
    return false;
}

/* File of int32 sizes, then params, x and y as floats. */
static void write_problem(const char *path, int rows, const int *widths, const float *params,
                          int64_t n_params, const float *x, const float *y) {
    FILE *file = fopen(path, "wb");
    cr_assert_not_null(file);
    fwrite(&rows, sizeof(rows), 1, file);
    fwrite(widths, sizeof(*widths), 4, file);
    fwrite(params, sizeof(float), (size_t)n_params, file);
    fwrite(x, sizeof(float), (size_t)(rows * widths[0]), file);
    fwrite(y, sizeof(float), (size_t)rows, file);
    fclose(file);
}

Test(mlp, loss_and_gradient_agree_with_python) {
    enum { N = 100 };
    const int widths[] = {30, 40, 20, 10};
    cog_model model;
    cog_device *device;
    cr_assert_eq(cog_device_open("cpu", &device), COG_OK);
    cr_assert_eq(cog_model_open("mlp:hidden=40x20", widths[0], widths[3], 1, &model), COG_OK);
    float *params = malloc((size_t)model.n_params * sizeof(float)),
          *got = malloc((size_t)model.n_params * sizeof(float));
    float x[N * 30], y[N];
    cr_assert_eq(model.init(model.user, 3, params), COG_OK);
    cog_rng rng = cog_rng_make(3, COG_STREAM_TEST, 0, 0);
    for (int i = 0; i < N * 30; i++) x[i] = (float)cog_rng_normal(&rng);
    for (int i = 0; i < N; i++) y[i] = (float)cog_rng_below(&rng, 10);
    char in[] = "/tmp/cograd-in-XXXXXX", out[] = "/tmp/cograd-out-XXXXXX";
    close(mkstemp(in)), close(mkstemp(out));
    write_problem(in, N, widths, params, model.n_params, x, y);
    const bool has_reference = run_reference(in, out);
    double *expected = malloc((size_t)(model.n_params + 1) * sizeof(*expected));
    FILE *file = fopen(out, "rb");
    const size_t n_read = fread(expected, sizeof(*expected), (size_t)model.n_params + 1, file);
    fclose(file), unlink(in), unlink(out);
    if (!has_reference) cr_skip_test("no Python with PyTorch or NumPy here");
    cr_assert_eq(n_read, (size_t)model.n_params + 1);

    const int64_t rows[] = {0, N};
    const cog_batch batch = {N, widths[0], x, y, 1, rows};
    void *workspace = malloc(model.workspace_bytes(model.user, N));
    cog_loss loss;
    cr_assert_eq(model.evaluate(model.user, device, &batch, params, workspace, &loss), COG_OK);
    cr_assert_float_eq(loss.loss, expected[0], 1e-6 * expected[0]);
    cr_assert_eq(model.backprop(model.user, device, &batch, params, workspace), COG_OK);
    const cog_slice all = {0, 0, 1};
    cr_assert_eq(model.message(model.user, device, &batch, params, workspace, 1, &all, got),
                 COG_OK);
    for (int64_t i = 0; i < model.n_params; i++)
        cr_assert_float_eq(got[i], expected[i + 1], 5e-5, "entry %ld: %g, not %g", i, got[i],
                           expected[i + 1]);
    free(params), free(got), free(expected), free(workspace);
    cog_model_close(&model);
    cog_device_close(device);
}
