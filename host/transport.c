/* transport.c - choosing a transport by its spec, and the checks they all share. */
#include "transport.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "registry.h"

static cog_status open_and_finish(cog_transport *transport, cog_spec *spec) {
    COG_TRY(transport->ops->open(transport, spec));
    return cog_spec_finish(spec);
}

/* Those that are not in every build are worth more than a list of those that are. */
static cog_status check_built_in(const char *name) {
#ifndef COG_WITH_NCCL
    COG_CHECK(strcmp(name, "nccl") != 0, COG_ERR_UNSUPPORTED,
              "this cograd was built without the transport 'nccl': it needs CUDA and NCCL, which "
              "'./run toolkit' fetches, and the build preset 'cuda'");
#endif
    (void)name;
    return COG_OK;
}

cog_status cog_transport_create(const char *text, int n_workers, cog_transport **out) {
    cog_spec spec;
    const cog_transport_ops *ops;
    COG_TRY(cog_spec_parse(text, &spec));
    COG_TRY(check_built_in(spec.name));
    COG_TRY(cog_find_transport(spec.name, &ops));
    COG_CHECK(n_workers >= 1, COG_ERR_ARGUMENT, "a transport needs at least 1 worker, not %d",
              n_workers);
    cog_transport *transport = calloc(1, sizeof(*transport));
    COG_CHECK(transport != NULL, COG_ERR_MEMORY, "no memory for a transport");
    transport->ops = ops;
    transport->n_workers = n_workers;
    transport->self = -1;
    const cog_status status = open_and_finish(transport, &spec);
    if (status != COG_OK) {
        cog_transport_destroy(transport);
        return status;
    }
    *out = transport;
    return COG_OK;
}

void cog_transport_destroy(cog_transport *transport) {
    if (transport == NULL) return;
    transport->ops->close(transport);
    free(transport);
}

cog_status cog_transport_check(const cog_transport *transport, int from, int to,
                               const cog_frame_header *header, const void *payload) {
    const int worker = from == 0 ? to : from;
    COG_CHECK((from == 0) != (to == 0) && worker >= 1 && worker <= transport->n_workers,
              COG_ERR_ARGUMENT,
              "frames go between the server, rank 0, and ranks 1..%d; this one from %d to %d",
              transport->n_workers, from, to);
    COG_CHECK(header->magic == COG_FRAME_MAGIC && header->version == COG_FRAME_VERSION,
              COG_ERR_ARGUMENT, "a frame of rank %d has no proper header", from);
    COG_CHECK(header->source == from, COG_ERR_ARGUMENT, "a frame of rank %d names %d as its source",
              from, (int)header->source);
    COG_CHECK(header->bytes <= transport->max_payload, COG_ERR_ARGUMENT,
              "a frame of %llu bytes is larger than the %zu that were agreed on",
              (unsigned long long)header->bytes, transport->max_payload);
    COG_CHECK(header->bytes == 0 || payload != NULL, COG_ERR_ARGUMENT,
              "a frame of %llu bytes has no payload", (unsigned long long)header->bytes);
    return COG_OK;
}

cog_status cog_transport_check_start(const cog_transport *transport) {
    COG_CHECK(transport->n_workers >= 1, COG_ERR_ARGUMENT,
              "a transport needs at least 1 worker, not %d", transport->n_workers);
    COG_CHECK(transport->self == 0 || (transport->handle != NULL && transport->worker != NULL),
              COG_ERR_ARGUMENT, "a transport was started without workers to hand frames to");
    return COG_OK;
}

cog_status cog_transport_check_elapse(double flops, double factor, double delay) {
    COG_CHECK(isfinite(flops) && flops >= 0 && isfinite(factor) && factor >= 1 && isfinite(delay) &&
                  delay >= 0,
              COG_ERR_ARGUMENT, "work of %g operations, %g times slower and %g s late, is absurd",
              flops, factor, delay);
    return COG_OK;
}

cog_status cog_frame_fault_status(const cog_frame *frame) {
    const bool known = frame->header.message > COG_OK && frame->header.message <= COG_ERR_IO;
    const cog_status status = known ? (cog_status)frame->header.message : COG_ERR_TRANSPORT;
    const int length = frame->header.bytes < 512 ? (int)frame->header.bytes : 512;
    COG_FAIL(status, "worker %d: %.*s", (int)frame->header.source - 1, length,
             length > 0 ? (const char *)frame->payload : "");
}
