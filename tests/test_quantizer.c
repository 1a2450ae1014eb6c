/* test_quantizer.c - payloads and residuals against a plain reference, and what strangers send. */
#include "quantizer_harness.h"
#include "tile.h"

/* Every format with a closed description; kind=threshold depends on history, see below. */
static const ref_format formats[] = {
    {"identity", REF_IDENTITY, 1, 1, 0, 0},
    {"bf16", REF_BF16, 1, 1, 0, 0},
    {"topk:ratio=0.01", REF_CHUNK, 1, 100, 4096, 0},
    {"topk:ratio=0.001,values=bf16", REF_CHUNK, 1, 1000, 4096, 1},
    {"topk:ratio=0.07,tile=256", REF_CHUNK, 7, 100, 256, 0},
    {"topk:ratio=0.3,values=bf16,tile=512", REF_CHUNK, 3, 10, 512, 1},
    {"topk:ratio=0.01,kind=global", REF_GLOBAL, 1, 100, 4096, 0},
    {"topk:ratio=0.0005,kind=global,values=bf16", REF_GLOBAL, 5, 10000, 4096, 1},
    {"topk:ratio=0.5,kind=global,tile=1024", REF_GLOBAL, 1, 2, 1024, 0},
    {"topk:ratio=1,kind=global", REF_GLOBAL, 1, 1, 4096, 0},
    {"sign", REF_SIGN, 1, 1, 0, 0},
    {"sign:scale=group", REF_SIGN, 1, 1, 4096, 0},
    {"sign:scale=group,group=256", REF_SIGN, 1, 1, 256, 0},
    {"qsgd", REF_QSGD, 4, 1, 512, 0},
    {"qsgd:bits=1,group=4096", REF_QSGD, 1, 1, 4096, 0},
    {"qsgd:bits=8,norm=l2,group=256", REF_QSGD, 8, 2, 256, 0},
    {"qsgd:bits=3,rounding=nearest", REF_QSGD_NEAREST, 3, 1, 512, 0},
};
enum { N_FORMATS = sizeof(formats) / sizeof(formats[0]) };

static const int64_t sizes[] = {0,    1,    31,   32,   33,   255,  256,    257,
                                1023, 1024, 1025, 4095, 4096, 4097, 100007, 1 << 20};
enum { N_SIZES = sizeof(sizes) / sizeof(sizes[0]) };

/* All terms are `shift` floats off a cache line; the last one may be the residual itself. */
static void compare(const ref_format *f, const cog_quantizer *q, cog_device *device,
                    const ref_message *expected, int n_terms, float *const *x, const float *coef,
                    int shift, bool in_place, const char *what) {
    bench b = set_up(q, device, shift);
    cog_term terms[4];
    float *moved[4] = {NULL};
    for (int t = 0; t < n_terms; t++) {
        moved[t] = ref_alloc(q->n + shift, 4);
        memcpy(moved[t] + shift, x[t], (size_t)q->n * 4);
        terms[t] = (cog_term){moved[t] + shift, coef[t]};
    }
    if (in_place && n_terms > 0) {
        memcpy(b.residual, x[n_terms - 1], (size_t)q->n * 4);
        terms[n_terms - 1].x = b.residual;
    }
    const size_t bytes = pack(&b, n_terms, terms);
    cr_expect_eq(bytes, expected->bytes, "%s of %s, n=%lld, %s, shift %d: %zu bytes, not %zu",
                 f->spec, what, (long long)q->n, q->tile_ops->name, shift, bytes, expected->bytes);
    cr_expect(memcmp(b.payload, expected->payload, expected->bytes) == 0,
              "payload: %s of %s, n=%lld, %s, shift %d", f->spec, what, (long long)q->n,
              q->tile_ops->name, shift);
    cr_expect(memcmp(b.residual, expected->residual, (size_t)q->n * 4) == 0,
              "residual: %s of %s, n=%lld, %s, shift %d", f->spec, what, (long long)q->n,
              q->tile_ops->name, shift);
    cr_expect_eq(q->ops->check(q, b.payload, bytes), COG_OK, "%s: %s", f->spec, cog_last_error());
    for (int t = 0; t < n_terms; t++) free(moved[t]);
    tear_down(&b);
}

static void try_formats(cog_device *device, int input, int64_t n, bool thorough) {
    static const float coef[3] = {1.0f, -0.625f, 0.3f};
    const cog_tile_ops *sets[4];
    cog_tile_list(sets);
    float *x[3];
    for (uint32_t t = 0; t < 3; t++) {
        x[t] = ref_alloc(n, 4);
        ref_fill(t == 0 ? input : IN_NORMAL, t, x[t], n);
    }
    for (int i = 0; i < N_FORMATS; i++)
        for (int n_terms = thorough ? 0 : 1; n_terms <= (thorough ? 3 : 1); n_terms++) {
            ref_message expected = ref_pack(&formats[i], n, n_terms, (const float *const *)x, coef);
            cog_quantizer q = configured(formats[i].spec, n);
            for (int s = 0; sets[s] != NULL; s++) {
                q.tile_ops = sets[s];
                for (int shift = 0; shift < (thorough ? 4 : 1); shift += 1 + shift)
                    compare(&formats[i], &q, device, &expected, n_terms, x, coef, shift, shift == 1,
                            ref_input_name[input]);
            }
            ref_free(&expected);
        }
    for (int t = 0; t < 3; t++) free(x[t]);
}

Test(quantizer, payload_and_residual_are_those_of_the_plain_reference_in_every_instruction_set) {
    cog_device *device = open_cpu();
    for (int s = 0; s < N_SIZES; s++)
        for (int input = 0; input < N_INPUTS; input++)
            if (sizes[s] <= 4097)
                try_formats(device, input, sizes[s], sizes[s] > 1000 || input == IN_BROKEN);
    cog_device_close(device);
}

Test(quantizer, long_messages_are_those_of_the_plain_reference) {
    cog_device *device = open_cpu();
    for (int input = 0; input < N_INPUTS; input++) try_formats(device, input, 100007, false);
    try_formats(device, IN_LAPLACE, 1 << 20, false);
    /* more candidates than fit: the bound has to be narrowed */
    try_formats(device, IN_EQUAL, 1 << 18, false);
    try_formats(device, IN_SORTED, 1 << 18, false);
    try_formats(device, IN_FEW_VALUES, 1 << 18, false);
    cog_device_close(device);
}

static const char *const all_specs[] = {
    "identity",
    "bf16",
    "topk:ratio=0.01",
    "topk:ratio=0.1,values=bf16,tile=256",
    "topk:ratio=0.01,kind=global",
    "topk:ratio=0.02,kind=global,values=bf16",
    "topk:ratio=0.01,kind=threshold",
    "topk:ratio=0.05,kind=threshold,values=bf16",
    "sign",
    "sign:scale=group,group=512",
    "qsgd",
    "qsgd:bits=1,norm=l2",
    "qsgd:bits=7,group=4096,rounding=nearest",
    "randk",
    "randk:ratio=0.3,amplify=1,values=bf16",
    "randk:kind=block,ratio=0.6,values=bf16",
    "randk:kind=block,ratio=0.07,amplify=1",
    "fosgd",
    "fosgd:reach=1.5,block=256",
    "wyner-ziv",
    "wyner-ziv:levels=64,delta=2,rounding=nearest",
    "powersgd",
    "powersgd:rank=3,columns=20",
};
enum { N_SPECS = sizeof(all_specs) / sizeof(all_specs[0]) };

/* One sender over several messages, its error fed back in place. */
static void check_history(const char *spec, int64_t n, int input, cog_device *device) {
    const cog_quantizer q = configured(spec, n);
    bench b = set_up(&q, device, 0);
    float *x = ref_alloc(n, 4), *decoded = ref_alloc(n, 4), *trial = ref_alloc(n, 4);
    memset(b.residual, 0, (size_t)n * 4);
    for (uint32_t round = 0; round < 4; round++) {
        ref_fill(input, round, x, n);
        for (int64_t i = 0; i < n; i++) {
            trial[i] = fmaf(1.0f, b.residual[i], 0.5f * x[i]);
            if (isnan(trial[i])) trial[i] = ref_float(0x7fc00000);
        }
        const size_t bytes = pack(&b, 2, (cog_term[]){{x, 0.5f}, {b.residual, 1.0f}});
        const bool forgets = /* what is broken and not sent as such */
            strncmp(spec, "randk", 5) == 0 || strstr(spec, "delta") != NULL;
        cr_expect_leq(bytes, q.ops->payload_bytes(&q));
        cr_expect_eq(q.ops->check(&q, b.payload, bytes), COG_OK, "%s", cog_last_error());
        memset(decoded, 0, (size_t)n * 4);
        decode(&q, device, b.payload, 1.0f, 0, n, decoded);
        int64_t n_wrong = 0;
        for (int64_t i = 0; i < n; i++) {
            const bool broken = !isfinite(decoded[i]) || (forgets && !isfinite(trial[i]));
            const float owed = broken ? 0 : trial[i] - decoded[i];
            n_wrong += ref_bits(owed) != ref_bits(b.residual[i]);
        }
        cr_expect_eq(n_wrong, 0, "%s of %s, n=%lld, round %u: %lld entries", spec,
                     ref_input_name[input], (long long)n, round, (long long)n_wrong);
    }
    free(x);
    free(decoded);
    free(trial);
    tear_down(&b);
}

Test(quantizer, residual_is_exactly_trial_minus_decoded) {
    cog_device *device = open_cpu();
    for (int s = 0; s < N_SPECS; s++)
        for (int input = 0; input < N_INPUTS; input++)
            for (int i = 0; i < N_SIZES - 1; i++)
                if (i % 3 == input % 3 || sizes[i] == 100007)
                    check_history(all_specs[s], sizes[i], input, device);
    cog_device_close(device);
}

Test(quantizer, range_adds_equal_the_whole_add_in_every_instruction_set) {
    cog_device *device = open_cpu();
    enum { N = 70 * 4096 + 1234 };
    const cog_tile_ops *sets[4];
    cog_tile_list(sets);
    float *x = ref_alloc(N, 4), *whole = ref_alloc(N, 4), *parts = ref_alloc(N, 4);
    ref_fill(IN_ZEROS, 1, x, N);
    for (int s = 0; s < N_SPECS; s++) {
        cog_quantizer q = configured(all_specs[s], N);
        bench b = set_up(&q, device, 0);
        pack(&b, 1, &(cog_term){x, 1.0f});
        for (int set = 0; sets[set] != NULL; set++) {
            q.tile_ops = sets[set];
            ref_fill(IN_NORMAL, 2, parts, N);
            if (set == 0) memcpy(whole, parts, N * 4);
            if (set == 0) decode(&q, device, b.payload, -0.7f, 0, N, whole);
            for (int64_t first = 0, step = 4096; first < N; first += step) {
                step = 4096 * (1 + first / 4096 % 5);
                /* up to an odd end, the rest as a range to itself that starts on the grid */
                float *piece = ref_alloc(step, 4);
                const int64_t count = N - first < step ? N - first : step;
                memcpy(piece, parts + first, (size_t)count * 4);
                decode(&q, device, b.payload, -0.7f, first, count, piece);
                const int64_t odd = count * 2 / 3;
                decode(&q, device, b.payload, -0.7f, first, odd, parts + first);
                cr_assert(memcmp(piece, parts + first, (size_t)odd * 4) == 0, "%s", q.ops->name);
                memcpy(parts + first, piece, (size_t)count * 4);
                free(piece);
            }
            cr_expect(memcmp(whole, parts, N * 4) == 0, "%s, %s", all_specs[s], sets[set]->name);
        }
        tear_down(&b);
    }
    free(x);
    free(whole);
    free(parts);
    cog_device_close(device);
}

/* An accepted payload must be safe: add stays within y, positions ascend within the message. */
static void use(const cog_quantizer *q, cog_device *device, const void *payload) {
    float *y = ref_alloc(q->n, 4);
    decode(q, device, payload, 1.0f, 0, q->n, y);
    free(y);
    if (q->ops->positions == NULL) return;
    const int64_t most = q->ops->max_positions(q);
    int64_t *at = ref_alloc(most, sizeof(*at));
    const int64_t found = q->ops->positions(q, payload, at);
    cr_assert(found <= most);
    for (int64_t i = 0; i < found; i++)
        cr_assert(at[i] >= 0 && at[i] < q->n && (i == 0 || at[i] > at[i - 1]));
    free(at);
}

/* Judge `bytes` bytes that lie at the end of their memory. */
static bool accepted(const cog_quantizer *q, cog_device *device, const void *bytes, size_t size) {
    void *exact = malloc(size > 0 ? size : 1);
    memcpy(exact, bytes, size);
    const bool ok = q->ops->check(q, exact, size) == COG_OK;
    if (ok) use(q, device, exact);
    free(exact);
    return ok;
}

static void damage(const char *spec, int64_t n, cog_device *device) {
    const cog_quantizer q = configured(spec, n);
    bench b = set_up(&q, device, 0);
    float *x = ref_alloc(n, 4);
    ref_fill(IN_ZEROS, 3, x, n);
    const size_t bytes = pack(&b, 1, &(cog_term){x, 1.0f});
    cr_expect(accepted(&q, device, b.payload, bytes));
    for (size_t size = 0; size < bytes; size++)
        cr_expect_not(accepted(&q, device, b.payload, size), "%s cut to %zu", spec, size);
    unsigned char *longer = ref_alloc((int64_t)bytes + 4, 1);
    memcpy(longer, b.payload, bytes);
    cr_expect_not(accepted(&q, device, longer, bytes + 4), "%s with 4 more bytes", spec);
    for (size_t bit = 0; bit < bytes * 8; bit++) {
        b.payload[bit / 8] ^= (unsigned char)(1u << bit % 8);
        accepted(&q, device, b.payload, bytes);
        b.payload[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
    cog_rng rng = cog_rng_make(3, COG_STREAM_TEST, 9, 9);
    for (int trial = 0; trial < 2000; trial++) {
        memcpy(longer, b.payload, bytes);
        for (uint32_t flips = cog_rng_below(&rng, 6); bytes > 0 && flips < 6; flips++)
            longer[cog_rng_below(&rng, (uint32_t)bytes)] = (unsigned char)cog_rng_u32(&rng);
        accepted(&q, device, longer, bytes);
    }
    free(longer);
    free(x);
    tear_down(&b);
}

Test(quantizer, damaged_payloads_are_refused_or_harmless) {
    cog_device *device = open_cpu();
    for (int s = 0; s < N_SPECS; s++) {
        damage(all_specs[s], 0, device);
        damage(all_specs[s], 77, device);
        damage(all_specs[s], 4099, device);
    }
    cog_device_close(device);
}

/* Top-k: ||x - C(x)||^2 <= (1 - k/n) ||x||^2. Sign: equality with ||x||^2 - ||x||_1^2 / nonzero,
 * hence
 * <= (1 - 1/n) ||x||^2; per group when there are groups. */
Test(quantizer, compression_contracts_as_published) {
    cog_device *device = open_cpu();
    enum { N = 10000 };
    static const struct {
        const char *spec;
        double share;
        int64_t group;
    } cases[] = {{"topk:ratio=0.01", 0.01, 0},        {"topk:ratio=0.01,kind=global", 0.01, 0},
                 {"topk:ratio=0.2,tile=256", 0.2, 0}, {"sign", 0, N},
                 {"sign:scale=group", 0, 4096},       {"sign:scale=group,group=512", 0, 512}};
    float *x = ref_alloc(N, 4);
    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++)
        for (int input = 0; input < N_INPUTS; input++) {
            if (input == IN_BROKEN || input == IN_HUGE || input == IN_DENORMAL) continue;
            const cog_quantizer q = configured(cases[c].spec, N);
            bench b = set_up(&q, device, 0);
            ref_fill(input, 6, x, N);
            pack(&b, 1, &(cog_term){x, 1.0f});
            double before = 0, left = 0, predicted = 0;
            for (int64_t a = 0; cases[c].group > 0 && a < N; a += cases[c].group) {
                double absolute = 0, nonzero = 0;
                for (int64_t i = a; i < N && i < a + cases[c].group; i++) {
                    absolute += fabs((double)x[i]);
                    nonzero += x[i] != 0;
                }
                predicted -= nonzero > 0 ? absolute * absolute / nonzero : 0;
            }
            for (int64_t i = 0; i < N; i++) {
                before += (double)x[i] * x[i];
                left += (double)b.residual[i] * b.residual[i];
            }
            predicted += before;
            if (cases[c].group > 0) {
                cr_expect(fabs(left - predicted) <= 2e-6 * before, "%s of %s: %.9g, not %.9g",
                          cases[c].spec, ref_input_name[input], left, predicted);
                cr_expect(left <= (1 - 1.0 / N) * before * (1 + 1e-6));
            } else {
                cr_expect(left <= (1 - cases[c].share) * before * (1 + 1e-12),
                          "%s of %s: %.9g of %.9g", cases[c].spec, ref_input_name[input], left,
                          before);
            }
            tear_down(&b);
        }
    free(x);
    cog_device_close(device);
}

Test(quantizer, specs_out_of_range_are_refused_in_words) {
    static const struct {
        const char *spec, *word;
    } cases[] = {
        {"topk:ratio=0", "ratio"},
        {"topk:ratio=1.5", "ratio"},
        {"topk:tile=300", "power of two"},
        {"topk:tile=8192", "tile"},
        {"topk:kind=best", "chunk|global|threshold"},
        {"topk:k=3", "'k'"},
        {"sign:group=100", "group"},
        {"sign:group=768", "power of two"},
        {"sign:scale=row", "tensor|group"},
        {"bf16:x=1", "'x'"},
        {"qsgd:bits=9", "bits"},
        {"qsgd:group=768", "power of two"},
        {"qsgd:norm=l1", "max|l2"},
        {"zip", "identity, bf16, topk, sign, qsgd, randk, fosgd, wyner-ziv, powersgd, cs, qcs"},
        {"topk:feedback=1", "feedback"}};
    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        cog_spec spec;
        cog_quantizer q = {.n = -7};
        cr_assert_eq(cog_spec_parse(cases[c].spec, &spec), COG_OK);
        cr_expect_eq(cog_quantizer_configure(&spec, 10, &q), COG_ERR_SPEC, "%s", cases[c].spec);
        cr_expect(strstr(cog_last_error(), cases[c].word) != NULL, "%s: %s", cases[c].spec,
                  cog_last_error());
        cr_expect_eq(q.n, -7, "output touched");
    }
    cog_spec spec;
    cog_quantizer q;
    cr_assert_eq(cog_spec_parse("sign", &spec), COG_OK);
    cr_expect_eq(cog_quantizer_configure(&spec, -1, &q), COG_ERR_ARGUMENT);
}
