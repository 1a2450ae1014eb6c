/* field.c - powers of a primitive element.
 *
 * With x^digits = r for a polynomial r of lower degree, multiplication by x is a shift that adds
 * the overflowing digit times r. r is found by trying: it is primitive when the powers of x run
 * through all size - 1 elements before they return to 1. Of the polynomials about one in 3 * digits
 * is. */
#include <stdlib.h>

#include "../check.h"
#include "field.h"

enum { MAX_SIZE = 1 << 16 };

/* a + factor * b, digit by digit. */
static int32_t add_times(const cog_field *f, int32_t a, int32_t b, int32_t factor) {
    int64_t sum = 0;
    for (int64_t place = 1; place < f->size; place *= f->p)
        sum += (a / place + factor * (b / place % f->p)) % f->p * place;
    return (int32_t)sum;
}

int32_t cog_field_add(const cog_field *f, int32_t a, int32_t b) { return add_times(f, a, b, 1); }

int32_t cog_field_subtract(const cog_field *f, int32_t a, int32_t b) {
    return add_times(f, a, b, f->p - 1);
}

/* Fills power[]; true when x is primitive for this r. */
static bool runs_through_all(cog_field *f, int32_t r) {
    const int32_t top = f->size / f->p;
    int32_t element = 1;
    for (int32_t i = 0; i < f->size - 1; i++) {
        if (element == 0 || (element == 1 && i > 0)) return false;
        f->power[i] = element;
        element = add_times(f, element % top * f->p, r, element / top);
    }
    return element == 1;
}

cog_status cog_field_open(int p, int digits, cog_field *out) {
    int64_t size = 1;
    for (int i = 0; i < digits && size <= MAX_SIZE; i++) size *= p;
    COG_CHECK(size <= MAX_SIZE, COG_ERR_ARGUMENT, "a field of %d^%d elements is beyond the %d here",
              p, digits, MAX_SIZE);
    *out = (cog_field){.p = p, .digits = digits, .size = (int32_t)size};
    out->power = malloc((size_t)size * sizeof(int32_t));
    COG_CHECK(out->power != NULL, COG_ERR_MEMORY, "no memory for a field of %d^%d elements", p,
              digits);
    for (int32_t r = 1; r < out->size; r++)
        if (runs_through_all(out, r)) return COG_OK;
    cog_field_close(out);
    COG_FAIL(COG_ERR_ARGUMENT, "there is no field of %d^%d elements", p, digits);
}

void cog_field_close(cog_field *field) {
    free(field->power);
    field->power = NULL;
}

bool cog_is_prime_power(int32_t n, int32_t *p, int32_t *e) {
    int32_t divisor = 2;
    while ((int64_t)divisor * divisor <= n && n % divisor != 0) divisor++;
    if (n < 2) return false;
    *p = n % divisor == 0 ? divisor : n;
    for (*e = 0; n % *p == 0; n /= *p) ++*e;
    return n == 1;
}
