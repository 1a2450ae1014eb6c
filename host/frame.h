/* frame.h - frames as bytes: what leaves a process is written and read here.
 *
 *     48 bytes of header, little endian (transport.h), then the payload
 *     checksum = xxh64(key; header with a checksum of 0, payload)
 *
 * The key comes from the token of a job, so frames of another job, or of nobody, have wrong
 * checksums. That keeps strays out, damaged frames too; it is no signature: whoever can read the
 * wire can forge it. A link that checks its bytes itself, among ranks that started together, may
 * do without.
 *
 * A header is judged before anything is allocated for what it announces.
 */
#ifndef COG_HOST_FRAME_H
#define COG_HOST_FRAME_H

#include "transport.h"

enum { COG_FRAME_HEADER_BYTES = sizeof(cog_frame_header) };

/* The key of a job. NULL and "": that of jobs without a token. */
uint64_t cog_frame_key(const char *token);

/* Fill in the checksum of a header for its payload. */
void cog_frame_seal(cog_frame_header *header, uint64_t key, const void *payload);

/* Faults to inject (faults.h): the bytes of a frame, sealed, and then damaged. To be freed. */
cog_status cog_frame_spoil(const cog_frame_header *header, uint64_t key, const void *payload,
                           cog_damage damage, uint8_t **wire, size_t *bytes);

/* Read a header from a stranger's bytes, `bytes` of them.
 * ERR_FORMAT   not 48, no magic, another version, an unknown kind, or an announced payload above
 *              max_payload */
cog_status cog_frame_read(const void *wire, size_t bytes, size_t max_payload,
                          cog_frame_header *out);

/* ERR_FORMAT when the payload is not as long as announced, or the checksum is wrong. */
cog_status cog_frame_verify(const cog_frame_header *header, uint64_t key, const void *payload,
                            size_t bytes);

#endif
