/* planted.h - small kernels with one known error or one known cost each. */
#ifndef SIMT_PLANTED_H
#define SIMT_PLANTED_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Launches the kernel of that name with what it needs of x, y and n; cudaErrorInvalidValue when
 * there is none. */
int planted(const char *name, unsigned grid, unsigned block, size_t shared_bytes, float *x,
            float *y, int n);

#ifdef __cplusplus
}
#endif
#endif
