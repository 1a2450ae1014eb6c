/* test_sign.c - one bit an entry, zeros that stay, and the rules of the format. */
#include "quantizer_harness.h"
#include "tile.h"

Test(sign, sends_a_bit_an_entry_and_never_pushes_a_zero) {
    cog_device *device = open_cpu();
    enum { N = 100000 };
    float *x = ref_alloc(N, 4), *y = ref_alloc(N, 4);
    for (int zeros = 0; zeros < 2; zeros++) {
        const cog_quantizer q = configured("sign", N);
        bench b = set_up(&q, device, 0);
        ref_fill(zeros ? IN_ZEROS : IN_NORMAL, 7, x, N);
        const size_t bytes = pack(&b, 1, &(cog_term){x, 1.0f});
        cr_expect_eq(bytes, zeros ? 8 + 2 * N / 8 : 8 + N / 8);
        memset(y, 0, N * 4);
        decode(&q, device, b.payload, 1.0f, 0, N, y);
        int64_t n_wrong = 0;
        for (int64_t i = 0; i < N; i++)
            n_wrong += x[i] == 0 ? y[i] != 0 || b.residual[i] != 0 : y[i] * x[i] <= 0;
        cr_expect_eq(n_wrong, 0);
        tear_down(&b);
    }
    free(x);
    free(y);
    cog_device_close(device);
}

Test(sign, each_rule_of_the_format_is_checked) {
    cog_device *device = open_cpu();
    enum { N = 70, N_WORDS = 3 };
    const cog_quantizer q = configured("sign", N);
    bench b = set_up(&q, device, 0);
    float *x = ref_alloc(N, 4);
    ref_fill(IN_NORMAL, 4, x, N);
    x[5] = 0;
    const size_t bytes = pack(&b, 1, &(cog_term){x, 1.0f});
    uint32_t *flags = (uint32_t *)(void *)b.payload, *scale = flags + 1, *negative = scale + 1;
    uint32_t *zero = negative + N_WORDS;
    cr_assert_eq(bytes, 4 * (2 + 2 * N_WORDS));
    const format_rule rules[] = {{"flags are known", flags, 2},
                                 {"the flag tells the length", flags, 1},
                                 {"a scale is not negative", scale, 0x80000000u},
                                 {"one NaN is allowed", scale, *scale ^ 0x7fc00001u},
                                 {"a zero has no sign", negative, 1u << 5},
                                 {"there are zeros when the flag says so", zero, 1u << 5},
                                 {"no sign past the end", negative + 2, 1u << 6},
                                 {"no zero past the end", zero + 2, 1u << 31}};
    expect_rules(&b, bytes, rules, sizeof(rules) / sizeof(rules[0]));
    free(x);
    tear_down(&b);
    cog_device_close(device);
}

/* -0 + 1 * -0 = -0 and -0 + 1 * +0 = +0: the sign of a step of size 0 shows. */
Test(sign, a_step_of_no_size_keeps_its_sign_in_every_instruction_set) {
    cog_device *device = open_cpu();
    enum { N = 100 };
    cog_quantizer q = configured("sign", N);
    uint32_t payload[2 + 4] = {0, 0, 0x0f0f0f0fu, 0x12345678u, 0, 0xf};
    cr_assert_eq(q.ops->check(&q, payload, sizeof(payload)), COG_OK);
    const cog_tile_ops *sets[4];
    cog_tile_list(sets);
    for (int s = 0; sets[s] != NULL; s++) {
        q.tile_ops = sets[s];
        float y[N];
        for (int i = 0; i < N; i++) y[i] = -0.0f;
        decode(&q, device, payload, 1.0f, 0, N, y);
        for (int i = 0; i < N; i++)
            cr_expect_eq(signbit(y[i]) != 0, payload[2 + i / 32] >> i % 32 & 1, "%s, entry %d",
                         sets[s]->name, i);
    }
    cog_device_close(device);
}
