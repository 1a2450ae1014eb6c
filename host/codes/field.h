/* field.h - finite fields, small enough for a table: the source of designs, graphs and Hadamard
 * matrices. */
#ifndef COG_HOST_CODES_FIELD_H
#define COG_HOST_CODES_FIELD_H

#include <stdbool.h>
#include <stdint.h>

#include "cograd/status.h"

/* Powers of a primitive element x of the field of p^digits elements, at most 2^16 of them. An
 * element is a polynomial over the integers mod p: its digits in base p. */
typedef struct cog_field {
    int32_t p, digits, size; /* size = p^digits */
    int32_t *power;          /* [size - 1] power[i] = x^i; freed with free() */
} cog_field;

cog_status cog_field_open(int p, int digits, cog_field *out);
void cog_field_close(cog_field *field);

int32_t cog_field_add(const cog_field *field, int32_t a, int32_t b);
int32_t cog_field_subtract(const cog_field *field, int32_t a, int32_t b);

/* n = p^e for a prime p. */
bool cog_is_prime_power(int32_t n, int32_t *p, int32_t *e);

#endif
