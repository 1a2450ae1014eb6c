/* harness.h - Criterion; under ThreadSanitizer, a plain stand-in.
 *
 * Criterion shares memory with its test processes at addresses that ThreadSanitizer keeps for
 * itself, so no Criterion program starts there. The stand-in knows the few macros below, runs the
 * tests of its file one after the other in one process and stops at the first that fails. It also
 * serves programs of several processes, which define COG_PLAIN_HARNESS.
 */
#ifndef COG_TESTS_HARNESS_H
#define COG_TESTS_HARNESS_H

#if !defined(__SANITIZE_THREAD__) && !defined(COG_PLAIN_HARNESS)
#include <criterion/criterion.h>
#else
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct plain_test {
    const char *name;
    void (*run)(void);
    struct plain_test *next;
} plain_test;

static plain_test *plain_tests;

static inline void plain_fail(const char *file, int line, const char *what, const char *format,
                              ...) {
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "%s:%d: %s: ", file, line, what);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

#define PLAIN_CHECK(condition, ...)                                                \
    do {                                                                           \
        if (!(condition)) plain_fail(__FILE__, __LINE__, #condition, __VA_ARGS__); \
    } while (0)
#define PLAIN_EQ(a, b, ...)            PLAIN_CHECK((a) == (b), __VA_ARGS__)
#define PLAIN_NEQ(a, b, ...)           PLAIN_CHECK((a) != (b), __VA_ARGS__)
#define PLAIN_STR_EQ(a, b, ...)        PLAIN_CHECK(strcmp((a), (b)) == 0, __VA_ARGS__)
#define PLAIN_NULL(a, ...)             PLAIN_CHECK((a) == NULL, __VA_ARGS__)
#define PLAIN_FLOAT_EQ(a, b, eps, ...) PLAIN_CHECK(fabs((double)(a) - (b)) <= (eps), __VA_ARGS__)

#define cr_assert(...)          PLAIN_CHECK(__VA_ARGS__, " ")
#define cr_assert_eq(...)       PLAIN_EQ(__VA_ARGS__, " ")
#define cr_assert_neq(...)      PLAIN_NEQ(__VA_ARGS__, " ")
#define cr_assert_str_eq(...)   PLAIN_STR_EQ(__VA_ARGS__, " ")
#define cr_assert_null(...)     PLAIN_NULL(__VA_ARGS__, " ")
#define cr_assert_float_eq(...) PLAIN_FLOAT_EQ(__VA_ARGS__, " ")

#define PLAIN_LT(a, b, ...)     PLAIN_CHECK((a) < (b), __VA_ARGS__)
#define PLAIN_LEQ(a, b, ...)    PLAIN_CHECK((a) <= (b), __VA_ARGS__)
#define PLAIN_GT(a, b, ...)     PLAIN_CHECK((a) > (b), __VA_ARGS__)
#define PLAIN_GEQ(a, b, ...)    PLAIN_CHECK((a) >= (b), __VA_ARGS__)
#define PLAIN_NOT_NULL(a, ...)  PLAIN_CHECK((a) != NULL, __VA_ARGS__)
#define cr_expect(...)          PLAIN_CHECK(__VA_ARGS__, " ")
#define cr_expect_eq(...)       PLAIN_EQ(__VA_ARGS__, " ")
#define cr_expect_neq(...)      PLAIN_NEQ(__VA_ARGS__, " ")
#define cr_expect_null(...)     PLAIN_NULL(__VA_ARGS__, " ")
#define cr_expect_not_null(...) PLAIN_NOT_NULL(__VA_ARGS__, " ")
#define cr_expect_lt(...)       PLAIN_LT(__VA_ARGS__, " ")
#define cr_expect_leq(...)      PLAIN_LEQ(__VA_ARGS__, " ")
#define cr_expect_gt(...)       PLAIN_GT(__VA_ARGS__, " ")
#define cr_expect_geq(...)      PLAIN_GEQ(__VA_ARGS__, " ")
#define cr_expect_float_eq(...) PLAIN_FLOAT_EQ(__VA_ARGS__, " ")

#define Test(suite, law)                                                      \
    static void suite##_##law(void);                                          \
    __attribute__((constructor)) static void register_##suite##_##law(void) { \
        static plain_test test = {#suite "::" #law, suite##_##law, NULL};     \
        test.next = plain_tests;                                              \
        plain_tests = &test;                                                  \
    }                                                                         \
    static void suite##_##law(void)

int main(int argc, char **argv) {
    int count = 0;
#ifdef COG_HARNESS_BEGIN
    COG_HARNESS_BEGIN(argc, argv);
#else
    (void)argc, (void)argv;
#endif
    for (const plain_test *test = plain_tests; test != NULL; test = test->next, count++) {
        fprintf(stderr, "%s\n", test->name);
        test->run();
    }
    printf("%d tests passed\n", count);
    return count == 0;
}
#endif
#endif
