/* test_cuda_spmm.c - the sparse product makes the messages of every code. */
#include "device_bench.h"

#include "code.h"
#include "cograd/encoder.h"

static const char *const codes[] = {
    "uncoded",    "frc:stragglers=1", "crc:stragglers=2", "lwpd", "ye-abbe:stragglers=1,blocks=2",
    "replication"};

/* The plan of a code as a sparse matrix. */
static cog_code_rows rows_of(const cog_plan *plan) {
    return (cog_code_rows){plan->n_messages, plan->n_shards * plan->n_blocks, plan->row, plan->part,
                           plan->coef};
}

static void check_code(const bench *b, const char *spec, int64_t length) {
    cog_code *code;
    OK(cog_code_create(spec, 8, &code));
    const cog_code_rows rows = rows_of(cog_code_plan(code));
    float *g = family_make(NORMAL, 1, rows.n_parts * length);
    twin tg = twin_make(b, g, rows.n_parts * length, 4, 0);
    twin out = twin_make(b, NULL, rows.n_messages * length, 4, 0);
    cog_cuda_spmm *product;
    OK(cog_cuda_spmm_create(b->gpu, &rows, length, tg.gpu, out.gpu, &product));
    for (int again = 0; again < 2; again++) OK(cog_cuda_spmm_run(product));
    float *got = twin_read(&out);
    double *expected = calloc((size_t)(rows.n_messages * length), sizeof(*expected));
    for (int32_t m = 0; m < rows.n_messages; m++)
        for (int32_t e = rows.row[m]; e < rows.row[m + 1]; e++)
            for (int64_t i = 0; i < length; i++)
                expected[m * length + i] += rows.coef[e] * g[rows.column[e] * length + i];
    const double error = nmse(got, expected, rows.n_messages * length);
    cr_assert(error <= 1e-10, "%s, %ld numbers: error %g", spec, length, error);
    cog_cuda_spmm_destroy(product);
    twin_free(&tg), twin_free(&out);
    free(g), free(got), free(expected);
    cog_code_destroy(code);
}

Test(cuda_spmm, messages_of_every_code_are_those_of_its_plan) {
    static const int64_t lengths[] = {1, 31, 33, 1000, 10007};
    const bench b = bench_open();
    for (size_t c = 0; c < sizeof(codes) / sizeof(*codes); c++)
        for (size_t l = 0; l < sizeof(lengths) / sizeof(*lengths); l++)
            check_code(&b, codes[c], lengths[l]);
    bench_close(b);
}

/* The public way to it: the same messages on both devices. */
Test(cuda_spmm, encoders_agree_with_the_cpu) {
    enum { LENGTH = 4097 };
    const bench b = bench_open();
    for (size_t c = 0; c < sizeof(codes) / sizeof(*codes); c++) {
        cog_code *code;
        OK(cog_code_create(codes[c], 8, &code));
        const cog_plan *plan = cog_code_plan(code);
        const int64_t n = plan->n_messages * LENGTH;
        float *parts = family_make(NORMAL, 2, plan->n_shards * plan->n_blocks * LENGTH);
        twin tp = twin_make(&b, parts, plan->n_shards * plan->n_blocks * LENGTH, 4, 0);
        twin out = twin_make(&b, NULL, n, 4, 0);
        for (int on_gpu = 0; on_gpu < 2; on_gpu++) {
            cog_encoder *encoder;
            OK(cog_encoder_create(code, on_gpu ? b.gpu : b.cpu, LENGTH, TWIN(tp), TWIN(out),
                                  &encoder));
            OK(cog_encoder_run(encoder));
            cog_encoder_destroy(encoder);
        }
        float *got = twin_read(&out);
        double *expected = malloc((size_t)n * sizeof(*expected));
        for (int64_t i = 0; i < n; i++) expected[i] = ((float *)out.cpu)[i];
        cr_assert(nmse(got, expected, n) <= 1e-12, "%s", codes[c]);
        twin_free(&tp), twin_free(&out);
        free(parts), free(got), free(expected);
        cog_code_destroy(code);
    }
    bench_close(b);
}

Test(cuda_spmm, what_is_no_matrix_and_what_is_no_gpu_is_refused) {
    static const int32_t row[] = {0, 2}, backwards[] = {0, -1}, column[] = {0, 3};
    static const double coef[] = {1, 2};
    const bench b = bench_open();
    cog_cuda_spmm *product = NULL;
    const cog_code_rows good = {1, 4, row, column, coef};
    cog_code_rows bad = {1, 3, row, column, coef};
    cr_assert_eq(cog_cuda_spmm_create(b.gpu, &bad, 5, NULL, NULL, &product), COG_ERR_ARGUMENT);
    cr_assert_not_null(strstr(cog_last_error(), "part 3 of 3"), "%s", cog_last_error());
    bad = (cog_code_rows){1, 4, backwards, column, coef};
    cr_assert_eq(cog_cuda_spmm_create(b.gpu, &bad, 5, NULL, NULL, &product), COG_ERR_ARGUMENT);
    cr_assert_eq(cog_cuda_spmm_create(b.gpu, &good, 0, NULL, NULL, &product), COG_ERR_ARGUMENT);
    cr_assert_eq(cog_cuda_spmm_create(b.cpu, &good, 5, NULL, NULL, &product), COG_ERR_UNSUPPORTED);
    cr_assert_null(product);
    cog_cuda_spmm_destroy(NULL);
    bench_close(b);
}
