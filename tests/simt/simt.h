/* simt.h - what the SIMT executor tells its user: reports, counters and the order of threads.
 *
 * The executor runs unmodified CUDA kernel files on the CPU, one thread of the grid at a time, and
 * looks at every access to global and shared memory. It reports, in a sentence each:
 *
 *     accesses out of bounds, misaligned, to freed memory or to the host's; reads of what was never
 *     written, copies to the host included; races between threads of a block and between blocks;
 *     divergent or unreached barriers; verbs of a warp whose mask names lanes that do not come.
 *
 * The launch of a kernel with a report returns cudaErrorLaunchFailure, whose cudaGetErrorString()
 * is the reports. Everything is done when it returns; calls from several host threads take turns.
 *
 * Streams can be captured and graphs launched; graph.cpp tells what is refused meanwhile.
 *
 * Not seen: bounds of a static shared array or a local one (UBSan sees the index), memcpy and
 * memset in kernels, __device__ variables, missing fences but for those that races show, host code
 * that reads device memory, order between streams. A kernel that waits for another block hangs
 * unless it draws its number from an atomic ticket. Times mean nothing. */
#ifndef SIMT_H
#define SIMT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A request is what one warp asks for at once; a sector is 32 bytes. `unique` sectors are counted
 * once a launch: what must cross the DRAM bus with an ideal cache; `sectors` without any cache. */
typedef struct simt_counters {
    uint64_t launches, blocks, barriers;
    uint64_t load_requests, load_bytes, load_sectors, load_unique;
    uint64_t store_requests, store_bytes, store_sectors, store_unique;
    uint64_t atomic_requests, atomics; /* on global memory; one for each lane */
    uint64_t shared_requests;
    uint64_t bank_conflicts; /* wavefronts on shared memory beyond the least possible */
    uint64_t shared_atomics;
    uint64_t to_device_bytes, to_host_bytes; /* copied */
} simt_counters;

void simt_reset_counters(void);
void simt_read_counters(simt_counters *out);

/* 0 (default): blocks, warps and lanes in ascending order; any other seed: its own shuffled order.
 * The environment variable COG_SIMT_SEED is the first seed. */
void simt_set_seed(uint64_t seed);

/* How many errors were found since the last reset, and the sentences about the first of them, a
 * line each. The text is valid until the next call of the executor. */
uint64_t simt_report_count(void);
const char *simt_report_text(void);
void simt_reset_reports(void);

/* Device memory counts as never written again: what poisoned outputs are made with. */
void simt_forget(void *device_memory, size_t bytes);
/* The first byte of the range that was never written, or `bytes`. */
size_t simt_first_unwritten(const void *device_memory, size_t bytes);

#ifdef __cplusplus
}
#endif
#endif
