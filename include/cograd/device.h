/* device.h - where vectors live and arithmetic runs: one ordered queue of work.
 *
 * Calls that take a cog_device are enqueued and return at once; they run in order.
 * cog_device_sync() waits. Two handles on one GPU run concurrently. A handle is used by one
 * thread at a time.
 */
#ifndef COG_DEVICE_H
#define COG_DEVICE_H

#include <stddef.h>

#include "cograd/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cog_device cog_device;

typedef enum cog_device_kind { COG_CPU, COG_CUDA, COG_N_DEVICE_KINDS } cog_device_kind;

/* spec   "cpu" | "cpu:threads=2" (threads of one matrix product, default 1) | "cuda:ordinal=0"
 * ERR_SPEC          a device or a key that does not exist
 * ERR_UNSUPPORTED   the library was built without that device
 * ERR_DEVICE        there is no such GPU, or none that can be used */
cog_status cog_device_open(const char *spec, cog_device **out);
void cog_device_close(cog_device *device); /* accepts NULL */

cog_device_kind cog_device_kind_of(const cog_device *device);

/* The cudaStream_t behind a CUDA device, as void *; NULL on the CPU. */
void *cog_device_stream(const cog_device *device);

cog_status cog_device_sync(cog_device *device);

#ifdef __cplusplus
}
#endif
#endif
