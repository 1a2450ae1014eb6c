/* ranks.h - a test program of several processes: every rank runs every test, in the same order.
 *
 *     mpirun -n 9 ranks_x mpi       the ranks of mpirun
 *     ranks_x zmq                   this process is the server, and forks eight workers
 *     ranks_x nccl                  the same; skipped (status 77) where there are no nine GPUs
 *
 * To be included before harness.h.
 */
#ifndef COG_TESTS_RANKS_H
#define COG_TESTS_RANKS_H

#include <stdbool.h>

enum { N_WORKERS = 8 };

/* Of this process; 0 is the server. */
int ranks_self(void);

/* The spec with which this process opens the transport under test; `keys` ("ring=1"; may be "")
 * come besides. Valid until the next call. */
const char *ranks_spec(const char *keys);

/* Does the transport under test have an all-reduce? One with the bits of a ring, where it is asked
 * to (ring=1) and in bf16? */
bool ranks_can_reduce(void);
bool ranks_have_ring(void);

/* Called by main before the tests: finds out who this process is, or starts workers. */
void ranks_begin(int argc, char **argv);
#define COG_HARNESS_BEGIN ranks_begin
#define COG_PLAIN_HARNESS

static inline bool is_server(void) { return ranks_self() == 0; }

#endif
