/* faulty.h - a transport over which faults strike (faults.h).
 *
 * The transport itself knows nothing of it: its table of functions is replaced by one that lets
 * through, changes or swallows what passes. In one process, where frames never are bytes, a damaged
 * frame travels as an envelope of the bytes that it would be on a wire, and is read as if it came
 * from there (frame.h). Frames to a worker are stamped with the life for which they are meant: what
 * was sent to one that was killed never reaches the next. */
#ifndef COG_HOST_FAULTY_H
#define COG_HOST_FAULTY_H

#include "faults.h"
#include "transport.h"

typedef struct cog_faulty cog_faulty;

/* Before handle and worker are set, which are those of a cog_worker: to begin anew it takes a LOAD
 * frame. `faults` is borrowed.
 * ERR_UNSUPPORTED   a fault that this transport cannot have */
cog_status cog_faulty_wrap(cog_transport *transport, const cog_faults *faults, cog_faulty **out);
/* Accepts NULL. The transport has stopped: it is as it was before. */
void cog_faulty_unwrap(cog_faulty *faulty);

#endif
