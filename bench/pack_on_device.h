/* pack_on_device.h - the half of cograd-bench-pack that times a GPU. */
#ifndef COG_BENCH_PACK_ON_DEVICE_H
#define COG_BENCH_PACK_ON_DEVICE_H

#include <stdint.h>
#include <stdio.h>

#include "cograd/device.h"

/* One line for every spec, on a message of n entries: packs next to device copies of the message.
 * `record` gets an object for each, or is NULL; *n_records counts them. ERR_UNSUPPORTED in a build
 * without CUDA. */
cog_status bench_on_device(cog_device *device, int64_t n, int n_specs, const char *const *specs,
                           int n_warm, int n_runs, FILE *record, int *n_records);

#endif
