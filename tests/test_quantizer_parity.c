/* test_quantizer_parity.c - packs on the GPU leave the bytes that packs on the CPU leave, and no
 * more traffic than they must.
 *
 * Everything goes through the quantizers' tables, so one source runs on the SIMT executor, which
 * demands that what is read was written, and on a GPU. COG_TEST_FULL=1 tries every combination. */
#include "kernel_bench.h"

#include <stdio.h>

#include "compress.h"
#include "quantizer_reference.h"

#ifdef COG_WITH_SIMT
static const char *const device_name = "simt";
#else
static const char *const device_name = "cuda";
#endif

enum { LARGE = 1 << 20 };

static const int64_t sizes[] = {0,    1,    31,   32,   33,   255,  256,    257,
                                1023, 1024, 1025, 4095, 4096, 4097, 100007, LARGE};
enum { N_SIZES = sizeof(sizes) / sizeof(sizes[0]) };

static const char *const specs[] = {
    "identity",
    "bf16",
    "topk:ratio=0.01",
    "topk:ratio=0.001,values=bf16",
    "topk:ratio=0.07,tile=256",
    "topk:ratio=0.3,values=bf16,tile=512",
    "topk:ratio=0.9,tile=1024",
    "topk:ratio=0.02,tile=2048",
    "topk:ratio=1",
    "sign",
    "sign:scale=group",
    "sign:scale=group,group=256",
    "sign:scale=group,group=1024",
    "topk:ratio=0.01,kind=global",
    "topk:ratio=0.0005,kind=global,values=bf16",
    "topk:ratio=0.5,kind=global,tile=1024",
    "topk:ratio=0.03,kind=global,tile=256,values=bf16",
    "topk:ratio=1,kind=global",
    "topk:ratio=0.01,kind=threshold",
    "topk:ratio=0.1,kind=threshold,values=bf16,tile=256",
    "topk:ratio=0.05,kind=threshold,tile=2048",
};
enum { N_SPECS = sizeof(specs) / sizeof(specs[0]) };

enum { MAX_TERMS = 5 };
static const float coefficients[MAX_TERMS] = {1.0f, -0.625f, 0.3f, 1.5f, -2.0f};

static bool is_full(void) { return getenv("COG_TEST_FULL") != NULL; }

/* NULL where there is no GPU: nothing can be tested then. */
static cog_device *open_gpu(void) {
    cog_device *device = NULL;
    if (cog_device_open(device_name, &device) != COG_OK)
        cr_skip_test("no GPU: %s", cog_last_error());
    return device;
}

static cog_device *open_cpu(void) {
    cog_device *device = NULL;
    cr_assert_eq(cog_device_open("cpu", &device), COG_OK, "%s", cog_last_error());
    return device;
}

static cog_quantizer configured(const char *text, int64_t n) {
    cog_spec spec;
    cog_quantizer q;
    cr_assert_eq(cog_spec_parse(text, &spec), COG_OK);
    cr_assert_eq(cog_quantizer_configure(&spec, n, &q), COG_OK, "%s", cog_last_error());
    return q;
}

static bool has_state(const char *spec) { return strstr(spec, "threshold") != NULL; }

/* ---- one sender on both devices ----------------------------------------------------------------
 */

typedef struct sender {
    cog_quantizer q;
    size_t payload_bytes, state_bytes;
    int n_terms; /* the last is the residual itself when in_place */
    bool in_place;
    float *x[MAX_TERMS], *residual; /* host */
    unsigned char *payload, *state;
    void *scratch;
    device_vector dx[MAX_TERMS], d_residual, d_payload, d_state, d_scratch;
} sender;

/* Vector t lies offset + t * step entries behind a 256-byte boundary, the payload as many words as
 * the residual. */
static sender sender_make(const char *spec, int64_t n, int n_terms, bool in_place, int offset,
                          int step) {
    sender s = {.q = configured(spec, n), .n_terms = n_terms};
    const cog_quantizer_ops *ops = s.q.ops;
    s.in_place = in_place && n_terms > 0;
    s.payload_bytes = ops->payload_bytes(&s.q);
    s.state_bytes = ops->state_bytes(&s.q);
    s.payload = malloc(s.payload_bytes + 1);
    s.state = calloc(s.state_bytes + 1, 1);
    s.scratch = malloc(ops->scratch_bytes(&s.q) + 1);
    s.residual = ref_alloc(n, 4);
    for (int t = 0; t < n_terms; t++) {
        s.x[t] = ref_alloc(n, 4);
        s.dx[t] = device_vector_make(n, 4, offset + t * step);
    }
    s.d_residual = device_vector_make(n, 4, offset);
    s.d_payload = device_vector_make((int64_t)s.payload_bytes, 1, 4 * offset);
    s.d_state = device_vector_make((int64_t)s.state_bytes, 1, 0);
    const size_t scratch = ops->on[COG_CUDA]->scratch_bytes(&s.q);
    s.d_scratch = device_vector_make((int64_t)scratch, 1, 0);
    CUDA_OK(cudaMemset(s.d_scratch.at, 0, scratch));
    CUDA_OK(cudaMemset(s.d_state.at, 0, s.state_bytes));
    return s;
}

static void sender_free(sender *s) {
    for (int t = 0; t < s->n_terms; t++) device_vector_free(s->dx[t]), free(s->x[t]);
    device_vector_free(s->d_residual), device_vector_free(s->d_payload);
    device_vector_free(s->d_state), device_vector_free(s->d_scratch);
    free(s->payload), free(s->state), free(s->scratch), free(s->residual);
}

static void upload(device_vector to, const float *from) {
    CUDA_OK(cudaMemcpy(to.at, from, to.bytes, cudaMemcpyHostToDevice));
}

/* New terms: the first of the kind, the others normal, or zero so that the sum is of the kind. The
 * residual of the last message stays where it is a term. */
static void sender_fill(sender *s, int input, bool pure, uint32_t stream) {
    const int n_vectors = s->n_terms - s->in_place;
    for (int t = 0; t < n_vectors; t++) {
        memset(s->x[t], 0, (size_t)s->q.n * 4);
        if (t == 0 || !pure)
            ref_fill(t == 0 ? input : IN_NORMAL, 8 * stream + (uint32_t)t, s->x[t], s->q.n);
        upload(s->dx[t], s->x[t]);
    }
    if (s->in_place && stream == 0) {
        if (n_vectors == 0 || !pure)
            ref_fill(n_vectors == 0 ? input : IN_NORMAL, 7, s->residual, s->q.n);
        upload(s->d_residual, s->residual);
    } else if (!s->in_place) {
        device_vector_poison(s->d_residual);
    }
    device_vector_poison(s->d_payload);
}

static void pack_on_gpu(sender *s, cog_device *gpu) {
    cog_term terms[MAX_TERMS];
    for (int t = 0; t < s->n_terms; t++) terms[t] = (cog_term){s->dx[t].at, coefficients[t]};
    if (s->in_place) terms[s->n_terms - 1].x = s->d_residual.at;
    const cog_quantizer_kernels *on = s->q.ops->on[COG_CUDA];
    cr_assert_eq(on->pack(&s->q, gpu, s->n_terms, terms, s->d_residual.at, s->d_state.at,
                          s->d_scratch.at, s->d_payload.at),
                 COG_OK, "%s", cog_last_error());
    cr_assert_eq(cog_device_sync(gpu), COG_OK, "%s", cog_last_error());
}

static void pack_on_cpu(sender *s, cog_device *cpu) {
    cog_term terms[MAX_TERMS];
    for (int t = 0; t < s->n_terms; t++) terms[t] = (cog_term){s->x[t], coefficients[t]};
    if (s->in_place) terms[s->n_terms - 1].x = s->residual;
    cr_assert_eq(s->q.ops->on[COG_CPU]->pack(&s->q, cpu, s->n_terms, terms, s->residual, s->state,
                                             s->scratch, s->payload),
                 COG_OK, "%s", cog_last_error());
}

static size_t first_difference(const void *a, const void *b, size_t bytes) {
    const unsigned char *x = a, *y = b;
    size_t i = 0;
    while (i < bytes && x[i] == y[i]) i++;
    return i;
}

/* `used` bytes of a payload: the rest was perhaps never written. */
static unsigned char *read_payload(const sender *s, size_t used) {
    unsigned char *got = malloc(used + 1);
    CUDA_OK(cudaMemcpy(got, s->d_payload.at, used, cudaMemcpyDeviceToHost));
    return got;
}

static void check_guards(device_vector v) {
    unsigned char guard[GUARD];
    CUDA_OK(cudaMemcpy(guard, (char *)v.at + v.bytes, GUARD, cudaMemcpyDeviceToHost));
    for (int i = 0; i < GUARD; i++) cr_assert_eq(guard[i], GUARD_BYTE, "byte %d behind", i);
    CUDA_OK(cudaMemcpy(guard, (char *)v.at - 4, 4, cudaMemcpyDeviceToHost));
    for (int i = 0; i < 4; i++) cr_assert_eq(guard[i], GUARD_BYTE, "byte %d before", 4 - i);
}

static void compare(const sender *s, const char *what) {
    const size_t used = s->q.ops->used_bytes(&s->q, s->payload);
    unsigned char *payload = read_payload(s, used);
    const size_t at = first_difference(payload, s->payload, used);
    cr_assert_eq(at, used, "%s: payload differs in byte %zu of %zu", what, at, used);
    check_guards(s->d_payload);
    unsigned char *residual = device_vector_read(s->d_residual);
    const size_t bytes = (size_t)s->q.n * 4, there = first_difference(residual, s->residual, bytes);
    cr_assert_eq(there, bytes, "%s: residual differs in entry %zu", what, there / 4);
    unsigned char *state = device_vector_read(s->d_state);
    cr_assert_eq(memcmp(state, s->state, s->state_bytes), 0, "%s: state", what);
    free(payload), free(residual), free(state);
}

/* What a case is called in a complaint. */
static const char *named(const char *spec, int64_t n, int n_terms, int input, int offset, int step,
                         bool in_place, int round) {
    static char text[200];
    snprintf(text, sizeof(text), "%s, n=%lld, %d terms%s, %s, offsets %d + %d t, message %d", spec,
             (long long)n, n_terms, in_place ? " in place" : "", ref_input_name[input], offset,
             step, round);
    return text;
}

static void check_case(cog_device *cpu, cog_device *gpu, const char *spec, int64_t n, int n_terms,
                       int input, int offset, int step, bool in_place) {
    const bool pure = (n + n_terms) % 2 == 0;
    sender s = sender_make(spec, n, n_terms, in_place, offset, step);
    const int n_messages = has_state(spec) ? 4 : in_place ? 2 : 1;
    for (int message = 0; message < n_messages; message++) {
        sender_fill(&s, input, pure, (uint32_t)message);
        pack_on_cpu(&s, cpu);
        pack_on_gpu(&s, gpu);
        compare(&s, named(spec, n, n_terms, input, offset, step, in_place, message));
    }
    sender_free(&s);
}

/* ---- parity ------------------------------------------------------------------------------------
 */

/* Small messages with every input, number of terms and alignment in turn. */
static void check_small(int from, int to) {
    static const int offsets[][2] = {{0, 0}, {1, 0}, {2, 1}, {3, 3}, {4, 2}, {0, 1}};
    cog_device *cpu = open_cpu(), *gpu = open_gpu();
    for (int spec = from; spec < to; spec++)
        for (int s = 0; s < N_SIZES && sizes[s] < 100000; s++)
            for (int input = 0; input < N_INPUTS; input++) {
                const int turn = spec + s + input;
                for (int n_terms = 0; n_terms <= MAX_TERMS; n_terms++)
                    for (int o = 0; o < 6; o++) {
                        const bool chosen = n_terms == 1 + turn % (MAX_TERMS - 1) && o == turn % 6;
                        if (!chosen && !is_full()) continue;
                        check_case(cpu, gpu, specs[spec], sizes[s], n_terms, input, offsets[o][0],
                                   offsets[o][1], (turn + o) % 2 == 0);
                    }
            }
    cog_device_close(gpu);
    cog_device_close(cpu);
}

Test(quantizer_parity, dense_packs_have_the_bytes_of_the_cpu) { check_small(0, 2); }
Test(quantizer_parity, chunk_packs_have_the_bytes_of_the_cpu) { check_small(2, 9); }
Test(quantizer_parity, sign_packs_have_the_bytes_of_the_cpu) { check_small(9, 13); }
Test(quantizer_parity, global_packs_have_the_bytes_of_the_cpu) { check_small(13, 18); }
Test(quantizer_parity, threshold_packs_have_the_bytes_of_the_cpu) { check_small(18, N_SPECS); }

static void check_large(int64_t n, int from, int to) {
    cog_device *cpu = open_cpu(), *gpu = open_gpu();
    for (int spec = from; spec < to; spec++)
        for (int input = 0; input < N_INPUTS; input++) {
            const int turn = spec + input;
            if (!is_full() && turn % 3 != 0) continue;
            check_case(cpu, gpu, specs[spec], n, 1 + turn % (MAX_TERMS - 1), input, turn % 5, 0,
                       turn % 2 == 0);
            if (is_full()) check_case(cpu, gpu, specs[spec], n, 2, input, 1, 3, turn % 2 != 0);
        }
    cog_device_close(gpu);
    cog_device_close(cpu);
}

Test(quantizer_parity, long_dense_and_chunk_packs_too) { check_large(100007, 0, 9); }
Test(quantizer_parity, long_sign_packs_too) { check_large(100007, 9, 13); }
Test(quantizer_parity, long_global_packs_too) { check_large(100007, 13, 18); }
Test(quantizer_parity, long_threshold_packs_too) { check_large(100007, 18, N_SPECS); }

/* ---- order of threads, traffic -----------------------------------------------------------------
 */

Test(quantizer_parity, every_order_of_threads_gives_the_same_bytes) {
    cog_device *cpu = open_cpu(), *gpu = open_gpu();
    for (int spec = 0; spec < N_SPECS; spec++)
        for (int order = 1; order < N_ORDERS; order++) {
            set_order(order);
            const int input = order % 3 == 0 ? IN_EQUAL : order % 3 == 1 ? IN_LAPLACE : IN_ZEROS;
            check_case(cpu, gpu, specs[spec], 9001, 2, input, order % 4, 0, true);
        }
    set_order(0);
    cog_device_close(gpu);
    cog_device_close(cpu);
}

#ifdef COG_WITH_SIMT

/* The floor in bytes an entry: 4 for every term of the message and for the residual, read and
 * written, what is sent, and 8 more for everything else that takes a second pass. */
typedef struct traffic_case {
    const char *spec;
    int input;
    double floor;  /* without the message's terms and the payload */
    double factor; /* that may be reached */
    int launches;
    int message; /* which is looked at */
} traffic_case;

static const traffic_case traffic_cases[] = {
    {"identity", IN_NORMAL, 8, 1.05, 1, 0},
    {"bf16", IN_NORMAL, 8, 1.05, 1, 0},
    {"sign:scale=group", IN_NORMAL, 8, 1.05, 1, 0},
    {"sign", IN_NORMAL, 16, 1.05, 2, 0},
    {"topk:ratio=0.01", IN_NORMAL, 8, 1.10, 1, 0},
    {"topk:ratio=0.01,values=bf16", IN_NORMAL, 8, 1.10, 1, 0},
    {"topk:ratio=0.01", IN_EQUAL, 8, 1.10, 1, 0},
    {"topk:ratio=0.01,kind=threshold", IN_NORMAL, 8, 1.10, 5, 1},
    {"topk:ratio=0.01,kind=global", IN_NORMAL, 12, 1.15, 4, 0},
    {"topk:ratio=0.001,kind=global", IN_NORMAL, 12, 1.15, 4, 0},
    {"topk:ratio=0.01,kind=global", IN_LAPLACE, 12, 1.15, 4, 0},
    {"topk:ratio=0.01,kind=global", IN_EQUAL, 12, 2, 4, 0},
    {"topk:ratio=0.01,kind=global", IN_ZEROS, 12, 2, 4, 0},
    {"topk:ratio=0.01,kind=global", IN_ONE_EXPONENT, 12, 2, 4, 0},
    {"topk:ratio=0.01,kind=global", IN_SORTED, 12, 2, 4, 0},
};
enum { N_TRAFFIC_CASES = sizeof(traffic_cases) / sizeof(traffic_cases[0]) };

static void check_traffic(cog_device *cpu, cog_device *gpu, const traffic_case *c, int n_terms) {
    sender s = sender_make(c->spec, LARGE, n_terms + 1, true, 0, 0);
    simt_counters k;
    for (int message = 0; message <= c->message; message++) {
        sender_fill(&s, c->input, true, (uint32_t)message);
        pack_on_cpu(&s, cpu);
        simt_reset_counters();
        pack_on_gpu(&s, gpu);
        simt_read_counters(&k);
    }
    /* sectors that a launch touches at all, and those its requests touch without a cache */
    const double n = LARGE, unique = 32 * (double)(k.load_unique + k.store_unique) / n;
    const double sectors = 32 * (double)(k.load_sectors + k.store_sectors) / n;
    const double sent = (double)s.q.ops->used_bytes(&s.q, s.payload) / n;
    const double floor = 4 * n_terms + c->floor + sent;
    if (getenv("COG_TEST_TABLE") != NULL)
        fprintf(stderr,
                "%-29s %-12s L=%d %d launches, floor %6.3f, touched %6.3f = %.3f, requested %6.3f "
                "= %.3f\n",
                c->spec, ref_input_name[c->input], n_terms, (int)k.launches, floor, unique,
                unique / floor, sectors, sectors / floor);
    compare(&s, named(c->spec, LARGE, n_terms, c->input, 0, 0, true, c->message));
    cr_expect_eq(k.launches, (uint64_t)c->launches, "%s: %d launches", c->spec, (int)k.launches);
    cr_expect_leq(unique, c->factor * floor, "%s of %s, %d terms: %g bytes an entry", c->spec,
                  ref_input_name[c->input], n_terms, unique);
    cr_expect_leq(sectors, c->factor * floor, "%s of %s, %d terms: %g bytes an entry requested",
                  c->spec, ref_input_name[c->input], n_terms, sectors);
    /* 4-byte stores to what the same block has just written: 32 bytes each, in the cache */
    const double patches = 32.0 * (double)s.q.kept / n;
    if (c->factor < 2)
        cr_expect_geq(unique, 0.95 * (sectors - patches),
                      "%s of %s, %d terms: sectors are used to %g", c->spec,
                      ref_input_name[c->input], n_terms, unique / sectors);
    sender_free(&s);
}

static void check_all_traffic(int from, int to) {
    cog_device *cpu = open_cpu(), *gpu = open_gpu();
    for (int c = from; c < to; c++)
        for (int n_terms = 1; n_terms <= 4; n_terms++)
            if (is_full() || n_terms == 1 || n_terms == 1 + c % 4)
                check_traffic(cpu, gpu, &traffic_cases[c], n_terms);
    cog_device_close(gpu);
    cog_device_close(cpu);
}

Test(quantizer_parity, dense_and_sign_traffic_stays_near_the_floor) { check_all_traffic(0, 4); }
Test(quantizer_parity, chunk_and_threshold_traffic_stays_near_the_floor) {
    check_all_traffic(4, 8);
}
Test(quantizer_parity, global_traffic_stays_near_the_floor) { check_all_traffic(8, 11); }
Test(quantizer_parity, adversarial_traffic_is_at_most_doubled) {
    check_all_traffic(11, N_TRAFFIC_CASES);
}
#endif
