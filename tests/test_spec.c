/* test_spec.c - spec strings: what is accepted, what is said about the rest. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "rng.h"
#include "spec.h"

Test(spec, pieces_are_found) {
    cog_spec s;
    cr_assert_eq(cog_spec_parse("lwpd:weight=4,wait=6,family=ring", &s), COG_OK);
    cr_expect_str_eq(s.name, "lwpd");
    cr_expect_null(s.argument);
    int64_t weight, absent;
    const char *family;
    cr_expect_eq(cog_spec_int(&s, "weight", 2, 1, 8, &weight), COG_OK);
    cr_expect_eq(cog_spec_int(&s, "absent", 5, 1, 8, &absent), COG_OK);
    cr_expect_eq(cog_spec_text(&s, "family", "net", &family), COG_OK);
    cr_expect_eq(weight, 4);
    cr_expect_eq(absent, 5);
    cr_expect_str_eq(family, "ring");
    cr_expect_eq(cog_spec_finish(&s), COG_ERR_SPEC);
    cr_expect_not_null(strstr(cog_last_error(), "no key 'wait'; it has weight, absent, family"),
                       "%s", cog_last_error());
}

Test(spec, an_argument_may_come_first) {
    cog_spec s;
    cr_assert_eq(cog_spec_parse("libsvm:/tmp/a9a,test=/tmp/b", &s), COG_OK);
    cr_expect_str_eq(s.argument, "/tmp/a9a");
    cr_expect_eq(s.n_keys, 1);
    cr_expect_eq(cog_spec_finish(&s), COG_ERR_SPEC, "an argument nobody took is an error");
}

Test(spec, malformed_text_is_refused) {
    char too_long[600], many[400] = "x:a=1";
    memset(too_long, 'x', sizeof(too_long));
    too_long[sizeof(too_long) - 1] = '\0';
    for (int i = 0; i < COG_SPEC_MAX_KEYS; i++) sprintf(many + strlen(many), ",k%d=1", i);
    const char *bad[] = {"",       ":a=1",      "x:",     "x:=1", "x:a=1,b", "x:a=1,,b=2",
                         "x:a=1,", "x:a=1,a=2", too_long, many,   NULL};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        cog_spec s;
        cr_expect_eq(cog_spec_parse(bad[i], &s), COG_ERR_SPEC, "'%.40s'", bad[i] ? bad[i] : "NULL");
    }
}

Test(spec, values_that_are_no_numbers_or_out_of_range_are_named) {
    static const char *const bad_ints[] = {"x:k=",  "x:k=a",  "x:k=1.5",
                                           "x:k=9", "x:k=-1", "x:k=99999999999999999999"};
    static const char *const bad_reals[] = {"x:k=",    "x:k=a", "x:k=inf",
                                            "x:k=nan", "x:k=9", "x:k=1e999"};
    for (size_t i = 0; i < sizeof(bad_ints) / sizeof(bad_ints[0]); i++) {
        cog_spec s;
        int64_t value = 77;
        cr_assert_eq(cog_spec_parse(bad_ints[i], &s), COG_OK);
        cr_expect_eq(cog_spec_int(&s, "k", 1, 0, 8, &value), COG_ERR_SPEC, "%s", bad_ints[i]);
        cr_expect_eq(value, 77, "outputs are untouched on failure");
        cr_expect_not_null(strstr(cog_last_error(), "'k' of 'x'"), "%s", cog_last_error());
    }
    for (size_t i = 0; i < sizeof(bad_reals) / sizeof(bad_reals[0]); i++) {
        cog_spec s;
        double value = 77;
        cr_assert_eq(cog_spec_parse(bad_reals[i], &s), COG_OK);
        cr_expect_eq(cog_spec_real(&s, "k", 1, 0, 8, &value), COG_ERR_SPEC, "%s", bad_reals[i]);
        cr_expect_eq(value, 77);
    }
}

Test(spec, choices_list_their_alternatives) {
    static const char *const names[] = {"ring", "kron", "net", NULL};
    cog_spec s;
    int choice = -1;
    cr_assert_eq(cog_spec_parse("lwpd:family=kron", &s), COG_OK);
    cr_expect_eq(cog_spec_choice(&s, "family", names, &choice), COG_OK);
    cr_expect_eq(choice, 1);
    cr_assert_eq(cog_spec_parse("lwpd:family=knit", &s), COG_OK);
    cr_expect_eq(cog_spec_choice(&s, "family", names, &choice), COG_ERR_SPEC);
    cr_expect_not_null(strstr(cog_last_error(), "ring|kron|net"), "%s", cog_last_error());
}

/* Known answers of Philox4x32-10 from the Random123 distribution (kat_vectors): key and counter
 * all zero give 6627e8d5 e169c58d bc57ac4c 9b00dbd8. Words are handed out last first. */
Test(rng, streams_are_philox) {
    cog_rng rng = cog_rng_make(0, (cog_stream)0, 0, 0);
    cr_expect_eq(cog_rng_u32(&rng), 0x9b00dbd8u);
    cr_expect_eq(cog_rng_u32(&rng), 0xbc57ac4cu);
    cr_expect_eq(cog_rng_u32(&rng), 0xe169c58du);
    cr_expect_eq(cog_rng_u32(&rng), 0x6627e8d5u);
}

Test(rng, numbers_have_the_moments_of_their_law) {
    enum { DRAWS = 200000 };
    cog_rng rng = cog_rng_make(3, COG_STREAM_TEST, 1, 2);
    double sum = 0, squares = 0, normal = 0, normal2 = 0, normal4 = 0;
    int count[6] = {0};
    for (int i = 0; i < DRAWS; i++) {
        const double u = cog_rng_uniform(&rng), z = cog_rng_normal(&rng);
        cr_assert(u > 0 && u < 1);
        sum += u, squares += u * u;
        normal += z, normal2 += z * z, normal4 += z * z * z * z;
        count[cog_rng_below(&rng, 6)]++;
    }
    /* five standard errors of each mean */
    cr_expect_float_eq(sum / DRAWS, 0.5, 5 * sqrt(1.0 / 12 / DRAWS));
    cr_expect_float_eq(squares / DRAWS, 1.0 / 3, 5 * sqrt(4.0 / 45 / DRAWS));
    cr_expect_float_eq(normal / DRAWS, 0, 5 * sqrt(1.0 / DRAWS));
    cr_expect_float_eq(normal2 / DRAWS, 1, 5 * sqrt(2.0 / DRAWS));
    cr_expect_float_eq(normal4 / DRAWS, 3, 5 * sqrt(96.0 / DRAWS));
    for (int i = 0; i < 6; i++)
        cr_expect_float_eq(count[i], DRAWS / 6.0, 5 * sqrt(DRAWS * 5.0 / 36), "face %d: %d", i,
                           count[i]);
}
