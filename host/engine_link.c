/* engine_link.c - a link is a worker's transport that was opened before its engine. */
#include "check.h"
#include "cograd/engine.h"
#include "transport.h"

static const cog_transport *transport_of(const cog_link *link) {
    return (const cog_transport *)link;
}

cog_status cog_link_open(const char *spec, cog_link **out) {
    cog_transport *transport;
    COG_TRY(cog_transport_create(spec, 1, &transport)); /* it learns how many there are */
    if (transport->self <= 0) {
        const char *name = transport->ops->name;
        cog_transport_destroy(transport);
        COG_FAIL(COG_ERR_ARGUMENT, "the transport '%s' leads to no server with connect=ADDRESS",
                 name);
    }
    *out = (cog_link *)transport;
    return COG_OK;
}

void cog_link_close(cog_link *link) { cog_transport_destroy((cog_transport *)link); }

const char *cog_link_settings(const cog_link *link) {
    const char *settings = transport_of(link)->settings;
    return settings != NULL ? settings : "";
}

int32_t cog_link_n_workers(const cog_link *link) { return transport_of(link)->n_workers; }

int32_t cog_link_worker(const cog_link *link) { return transport_of(link)->self - 1; }
