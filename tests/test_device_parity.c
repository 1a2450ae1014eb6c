/* test_device_parity.c - operations on vectors: the GPU gives the bits of the CPU, for every size,
 * alignment and kind of number. */
#include "device_bench.h"

#ifdef __SANITIZE_ADDRESS__ /* the executor is five times slower then */
enum { LARGE = 1 << 16 };
#else
enum { LARGE = 1 << 20 };
#endif

static const int64_t sizes[] = {0, 1, 31, 32, 33, 255, 256, 257, 1023, 1024, 1025, 100007, LARGE};
enum { N_SIZES = sizeof(sizes) / sizeof(*sizes) };

typedef struct vector_case {
    const bench *b;
    int64_t n;
    int x_offset, y_offset;
    family family;
} vector_case;

static void compare(const vector_case *c, const char *what, const twin *t, bool is_bf16) {
    void *got = twin_read(t);
    for (int64_t i = 0; i < c->n; i++) {
        const bool same = is_bf16 ? ((uint16_t *)got)[i] == ((uint16_t *)t->cpu)[i]
                                  : same_float(((float *)got)[i], ((float *)t->cpu)[i]);
        cr_assert(same, "%s: entry %ld of %ld, %d and %d entries off, %s: GPU %a, CPU %a", what, i,
                  c->n, c->x_offset, c->y_offset, family_names[c->family],
                  is_bf16 ? 0.0 : (double)((float *)got)[i],
                  is_bf16 ? 0.0 : (double)((float *)t->cpu)[i]);
    }
    free(got);
}

/* One operation of x into y; y is read only by those that do. */
static void check_operation(const vector_case *c, const char *what) {
    const bool to_bf16 = strcmp(what, "to_bf16") == 0, from_bf16 = strcmp(what, "from_bf16") == 0;
    const bool reads_y = strcmp(what, "axpby") == 0 || strcmp(what, "relu_backward") == 0;
    float *x = family_make(c->family, 1, c->n), *y = family_make(c->family, 2, c->n);
    twin tx = twin_make(c->b, x, c->n, from_bf16 ? 2 : 4, c->x_offset);
    twin ty = twin_make(c->b, reads_y ? y : NULL, c->n, to_bf16 ? 2 : 4, c->y_offset);
    if (strcmp(what, "fill") == 0) ON_BOTH(*c->b, fill, -0.3f, TWIN(ty), c->n);
    if (strcmp(what, "scale") == 0) ON_BOTH(*c->b, axpby, 1.7f, TWIN(tx), 0, TWIN(ty), c->n);
    if (strcmp(what, "axpby") == 0) ON_BOTH(*c->b, axpby, 1.7f, TWIN(tx), -0.3f, TWIN(ty), c->n);
    if (to_bf16) ON_BOTH(*c->b, to_bf16, TWIN(tx), TWIN(ty), c->n);
    if (from_bf16) ON_BOTH(*c->b, from_bf16, TWIN(tx), TWIN(ty), c->n);
    if (strcmp(what, "relu_backward") == 0) ON_BOTH(*c->b, relu_backward, TWIN(tx), TWIN(ty), c->n);
    compare(c, what, &ty, to_bf16);
    compare(c, "what is read only", &tx, from_bf16);
    twin_free(&tx), twin_free(&ty);
    free(x), free(y);
}

/* Everything for small sizes; for the large ones vectors aligned alike, and not. */
static void check_everywhere(const char *what) {
    const bench b = bench_open();
    for (int s = 0; s < N_SIZES; s++)
        for (int f = 0; f < N_FAMILIES; f++)
            for (int o = 0; o < 16; o++) {
                const bool large = sizes[s] > 10000;
                if (large && (o > 1 || f > (sizes[s] == LARGE ? NORMAL : LAPLACE))) continue;
                const vector_case c = {&b, sizes[s], o % 4, o / 4, (family)f};
                check_operation(&c, what);
            }
    bench_close(b);
}

Test(device_parity, fill_is_the_same_bits) { check_everywhere("fill"); }
Test(device_parity, scaling_is_the_same_bits_and_does_not_read_y) { check_everywhere("scale"); }
Test(device_parity, axpby_is_the_same_bits) { check_everywhere("axpby"); }
Test(device_parity, to_bf16_is_the_same_bits) { check_everywhere("to_bf16"); }
Test(device_parity, from_bf16_is_the_same_bits) { check_everywhere("from_bf16"); }
Test(device_parity, relu_backward_is_the_same_bits) { check_everywhere("relu_backward"); }

/* ---- the device itself ----------------------------------------------------------------------- */

Test(device_parity, a_copy_is_done_when_it_returns_and_in_the_order_of_the_queue) {
    enum { N = 100003 };
    const bench b = bench_open();
    float *x = family_make(NORMAL, 1, N), *got = malloc(N * sizeof(*got)), *y;
    OK(cog_device_zeros(b.gpu, N, &y));
    OK(b.gpu->ops->fill(b.gpu, 5, y, N));
    OK(b.gpu->ops->upload(b.gpu, y, x, N * sizeof(*x)));
    memset(x, 0, N * sizeof(*x)); /* has been read by now */
    OK(b.gpu->ops->axpby(b.gpu, 2, y, 0, y, N));
    OK(b.gpu->ops->download(b.gpu, got, y, N * sizeof(*got)));
    free(x);
    x = family_make(NORMAL, 1, N);
    for (int i = 0; i < N; i++) cr_assert_eq(got[i], 2 * x[i]);
    cog_device_free(b.gpu, y);
    free(x), free(got);
    bench_close(b);
}

Test(device_parity, empty_memory_is_memory) {
    const bench b = bench_open();
    void *memory = NULL;
    OK(b.gpu->ops->alloc(b.gpu, 0, &memory));
    cr_assert_not_null(memory);
    OK(b.gpu->ops->upload(b.gpu, memory, NULL, 0));
    OK(b.gpu->ops->download(b.gpu, NULL, memory, 0));
    cog_device_free(b.gpu, memory);
    cog_device_free(b.gpu, NULL);
    OK(cog_device_sync(b.gpu));
    bench_close(b);
}

Test(device_parity, too_much_memory_is_refused_in_words_and_forgotten) {
    const bench b = bench_open();
    void *memory = &memory;
    cr_assert_eq(b.gpu->ops->alloc(b.gpu, (size_t)1 << 50, &memory), COG_ERR_MEMORY);
    cr_assert_not_null(strstr(cog_last_error(), "1125899906842624 bytes"), "%s", cog_last_error());
    cr_assert_eq(memory, (void *)&memory, "an output was touched on failure");
    float *y, value;
    OK(cog_device_zeros(b.gpu, 1, &y)); /* the next launch is not taken for the culprit */
    OK(b.gpu->ops->download(b.gpu, &value, y, sizeof(value)));
    cr_assert_eq(value, 0);
    cog_device_free(b.gpu, y);
    bench_close(b);
}

Test(device_parity, a_gpu_that_is_not_there_is_named) {
    cog_device *device = NULL;
    cr_assert_eq(cog_device_open(GPU_NAME ":ordinal=1000", &device), COG_ERR_DEVICE);
    cr_assert_not_null(strstr(cog_last_error(), "ordinal=1000"), "%s", cog_last_error());
    cr_assert_eq(cog_device_open(GPU_NAME ":colour=red", &device), COG_ERR_SPEC);
    cr_assert_null(device);
}

Test(device_parity, the_device_is_a_cuda_device_with_a_stream) {
    cog_device *one, *two;
    OK(cog_device_open(GPU_NAME ":ordinal=0", &one));
    OK(cog_device_open(GPU_NAME ":tf32=1", &two));
    cr_assert_eq(cog_device_kind_of(one), COG_CUDA);
    cr_assert_not_null(cog_device_stream(one));
    cr_assert_neq(cog_device_stream(one), cog_device_stream(two));
    cog_device_close(one);
    cog_device_close(two);
}
