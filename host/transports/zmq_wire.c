/* zmq_wire.c - sockets, messages of parts, and the monitor. */
#include "zmq_wire.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <zmq.h>

#include "../check.h"
#include "../frame.h"

enum {
    CHUNK = 262144,        /* passes a link of 256 KB/s within a second of silence */
    MAX_RETRANSMIT = 3000, /* ms that TCP tries to reach a peer to which something is under way */
    FAILED_HANDSHAKES = ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH,
    /* The other end hung up. It may have been killed; or it was the first to see that the two do
     * not understand each other, and will be again whenever ZeroMQ tries again. */
    CUT_HANDSHAKE = ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL,
    MOST_CUTS = 10, /* more than servers make that die */
};

static cog_status fail(const char *what) {
    COG_FAIL(COG_ERR_TRANSPORT, "%s: %s", what, zmq_strerror(zmq_errno()));
}

/* --- open and close -------------------------------------------------------------------------- */

static bool set(void *socket, int option, int value) {
    return zmq_setsockopt(socket, option, &value, sizeof(value)) == 0;
}

/* Queues are as long as they must be: the server asks no worker twice, so they stay short. */
static bool set_options(void *socket, int type, double silence) {
    const int ms = (int)fmax(10, 1000 * silence);
    const int64_t most = CHUNK + COG_ZMQ_CURVE_BYTES; /* of a part, as it travels */
    const bool router = type != ZMQ_ROUTER || set(socket, ZMQ_ROUTER_MANDATORY, 1);
    return router && set(socket, ZMQ_LINGER, 0) && set(socket, ZMQ_SNDHWM, 0) &&
           set(socket, ZMQ_RCVHWM, 0) && set(socket, ZMQ_HEARTBEAT_IVL, ms / 5) &&
           set(socket, ZMQ_HEARTBEAT_TIMEOUT, ms) && set(socket, ZMQ_HEARTBEAT_TTL, ms) &&
           set(socket, ZMQ_TCP_MAXRT, MAX_RETRANSMIT) &&
           zmq_setsockopt(socket, ZMQ_MAXMSGSIZE, &most, sizeof(most)) == 0;
}

static cog_status open_monitor(cog_zmq_wire *wire) {
    static const char endpoint[] = "inproc://monitor"; /* names are the context's own */
    if (zmq_socket_monitor(wire->socket, endpoint,
                           ZMQ_EVENT_DISCONNECTED | FAILED_HANDSHAKES | CUT_HANDSHAKE) != 0)
        return fail("no monitor of connections");
    wire->monitor = zmq_socket(wire->context, ZMQ_PAIR);
    if (wire->monitor == NULL || !set(wire->monitor, ZMQ_LINGER, 0) ||
        zmq_connect(wire->monitor, endpoint) != 0)
        return fail("no monitor of connections");
    return COG_OK;
}

cog_status cog_zmq_open(cog_zmq_wire *wire, int type, double silence) {
    wire->unshaken = false;
    wire->n_cuts = 0;
    wire->context = zmq_ctx_new();
    if (wire->context == NULL) return fail("no ZeroMQ");
    wire->socket = zmq_socket(wire->context, type);
    if (wire->socket == NULL || !set_options(wire->socket, type, silence) ||
        !cog_zmq_curve_apply(wire->socket, &wire->curve))
        return fail("no ZeroMQ socket");
    return open_monitor(wire);
}

/* ZeroMQ would leave the file. It goes while nobody else can be there. */
void cog_zmq_close(cog_zmq_wire *wire) {
    if (wire->file[0] != '\0') unlink(wire->file);
    wire->file[0] = '\0';
    if (wire->socket != NULL) zmq_socket_monitor(wire->socket, NULL, 0);
    if (wire->monitor != NULL) zmq_close(wire->monitor);
    if (wire->socket != NULL) zmq_close(wire->socket);
    if (wire->context != NULL)
        while (zmq_ctx_term(wire->context) != 0 && zmq_errno() == EINTR) continue;
    wire->monitor = wire->socket = wire->context = NULL;
}

/* The file of an ipc address; NULL for other addresses, and for names that are no files. */
static const char *file_of(const char *address) {
    static const char ipc[] = "ipc://";
    const char *path = address + strlen(ipc);
    const bool is_file = strncmp(address, ipc, strlen(ipc)) == 0 && path[0] != '@';
    return is_file && strlen(path) < sizeof(((cog_zmq_wire *)0)->file) ? path : NULL;
}

/* Does somebody listen there? ZeroMQ would take the file away, and the next workers with it. */
static bool is_taken(const char *file) {
    struct sockaddr_un there = {.sun_family = AF_UNIX};
    _Static_assert(sizeof(there.sun_path) >= sizeof(((cog_zmq_wire *)0)->file), "it is copied");
    strcpy(there.sun_path, file);
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    const bool taken =
        fd >= 0 &&
        (connect(fd, (const struct sockaddr *)&there, sizeof(there)) == 0 || errno == EAGAIN);
    if (fd >= 0) close(fd);
    return taken;
}

cog_status cog_zmq_bind(cog_zmq_wire *wire, const char *address) {
    const char *file = file_of(address);
    COG_CHECK(file == NULL || !is_taken(file), COG_ERR_TRANSPORT, "cannot listen at '%s': %s",
              address, strerror(EADDRINUSE));
    COG_CHECK(zmq_bind(wire->socket, address) == 0, COG_ERR_TRANSPORT, "cannot listen at '%s': %s",
              address, zmq_strerror(zmq_errno()));
    if (file != NULL) strcpy(wire->file, file);
    return COG_OK;
}

cog_status cog_zmq_connect(cog_zmq_wire *wire, const char *address) {
    COG_CHECK(zmq_connect(wire->socket, address) == 0, COG_ERR_TRANSPORT,
              "cannot connect to '%s': %s", address, zmq_strerror(zmq_errno()));
    return COG_OK;
}

/* --- out ------------------------------------------------------------------------------------- */

static bool send_with(void *socket, const void *data, size_t bytes, int flags) {
    int sent;
    do sent = zmq_send(socket, data, bytes, flags);
    while (sent < 0 && zmq_errno() == EINTR);
    return sent >= 0;
}

static bool send_part(void *socket, const void *data, size_t bytes, bool more) {
    return send_with(socket, data, bytes, more ? ZMQ_SNDMORE : 0);
}

/* Queues have no end, so nobody waits - but on a DEALER whose connection ZeroMQ gave up for good:
 * for a connection that will never be. Reports that as a peer that was not reached. */
static bool send_first(cog_zmq_wire *wire, const cog_zmq_id *to, const cog_frame_header *sealed,
                       bool *reached) {
    const int more = sealed->bytes > 0 ? ZMQ_SNDMORE : 0;
    *reached = to == NULL || send_part(wire->socket, to->bytes, to->n, true);
    if (!*reached) return zmq_errno() == EHOSTUNREACH;
    *reached = send_with(wire->socket, sealed, sizeof(*sealed), more | ZMQ_DONTWAIT);
    return *reached || zmq_errno() == EAGAIN;
}

static bool send_chunks(void *socket, const unsigned char *payload, size_t bytes) {
    for (size_t at = 0; at < bytes; at += CHUNK) {
        const size_t left = bytes - at;
        if (!send_part(socket, payload + at, left < CHUNK ? left : CHUNK, left > CHUNK))
            return false;
    }
    return true;
}

cog_status cog_zmq_send(cog_zmq_wire *wire, const cog_zmq_id *to, const cog_frame_header *header,
                        const void *payload, bool *reached) {
    cog_frame_header sealed = *header;
    cog_frame_seal(&sealed, wire->key, payload);
    if (!send_first(wire, to, &sealed, reached) ||
        (*reached && !send_chunks(wire->socket, payload, sealed.bytes)))
        return fail("a frame could not be sent");
    return COG_OK;
}

static bool send_bytes(cog_zmq_wire *wire, const cog_zmq_id *to, const uint8_t *bytes, size_t n) {
    const size_t head = n < COG_FRAME_HEADER_BYTES ? n : COG_FRAME_HEADER_BYTES;
    return (to == NULL || send_part(wire->socket, to->bytes, to->n, true)) &&
           send_part(wire->socket, bytes, head, n > head) &&
           send_chunks(wire->socket, bytes + head, n - head);
}

cog_status cog_zmq_send_badly(cog_zmq_wire *wire, const cog_zmq_id *to,
                              const cog_frame_header *header, const void *payload,
                              cog_damage damage) {
    uint8_t *bytes;
    size_t n;
    COG_TRY(cog_frame_spoil(header, wire->key, payload, damage, &bytes, &n));
    const bool sent = send_bytes(wire, to, bytes, n) || zmq_errno() == EHOSTUNREACH;
    free(bytes);
    return sent ? COG_OK : fail("a frame could not be sent");
}

/* --- in -------------------------------------------------------------------------------------- */

/* One part, if it is there. */
static bool take_part(void *socket, zmq_msg_t *part) {
    int got;
    zmq_msg_init(part);
    do got = zmq_msg_recv(part, socket, ZMQ_DONTWAIT);
    while (got < 0 && zmq_errno() == EINTR);
    if (got < 0) zmq_msg_close(part);
    return got >= 0;
}

static void skip_parts(void *socket, bool more) {
    for (zmq_msg_t part; more && take_part(socket, &part); zmq_msg_close(&part))
        more = zmq_msg_more(&part);
}

bool cog_zmq_begin(cog_zmq_wire *wire, cog_zmq_id *from) {
    for (zmq_msg_t part; take_part(wire->socket, &part); zmq_msg_close(&part)) {
        const size_t n = zmq_msg_size(&part);
        const bool more = zmq_msg_more(&part), fits = n <= sizeof(from->bytes) && more;
        if (fits) {
            memcpy(from->bytes, zmq_msg_data(&part), n);
            from->n = n;
            zmq_msg_close(&part);
            return true;
        }
        wire->refused++;
        skip_parts(wire->socket, more);
    }
    return false;
}

/* Parts into the room of the payload; what does not fit is no payload of this header. */
static size_t take_payload(void *socket, bool more, const cog_frame_header *header,
                           unsigned char *room) {
    size_t at = 0;
    for (zmq_msg_t part; more && take_part(socket, &part); zmq_msg_close(&part)) {
        const size_t n = zmq_msg_size(&part);
        if (at <= header->bytes && n <= header->bytes - at)
            memcpy(room + at, zmq_msg_data(&part), n);
        at += n;
        more = zmq_msg_more(&part);
    }
    return at;
}

static cog_status finish(cog_zmq_wire *wire, size_t limit, cog_parcel **out, cog_zmq_about *about,
                         bool *read_all) {
    zmq_msg_t part;
    cog_frame_header header;
    *read_all = true;
    COG_CHECK(take_part(wire->socket, &part), COG_ERR_FORMAT, "a message without a header");
    const bool more = zmq_msg_more(&part);
    const size_t bytes = zmq_msg_size(&part);
    const uint32_t magic = COG_FRAME_MAGIC;
    about->fd = zmq_msg_get(&part, ZMQ_SRCFD);
    about->is_frame =
        bytes >= sizeof(magic) && memcmp(zmq_msg_data(&part), &magic, sizeof(magic)) == 0;
    cog_status status = cog_frame_read(zmq_msg_data(&part), bytes, limit, &header);
    zmq_msg_close(&part);
    if (status == COG_OK) status = cog_parcel_room(wire->pool, &header, out);
    if (status != COG_OK) {
        *read_all = !more;
        return status;
    }
    const size_t came = take_payload(wire->socket, more, &header, (*out)->room);
    return cog_frame_verify(&header, wire->key, (*out)->room, came);
}

cog_status cog_zmq_finish(cog_zmq_wire *wire, size_t limit, cog_parcel **out,
                          cog_zmq_about *about) {
    bool read_all;
    *about = (cog_zmq_about){.fd = -1};
    const cog_status status = finish(wire, limit, out, about, &read_all);
    if (status == COG_OK) return COG_OK;
    skip_parts(wire->socket, !read_all);
    cog_parcel_give(wire->pool, *out);
    *out = NULL;
    if (status != COG_ERR_FORMAT) return status;
    wire->refused++;
    return COG_OK;
}

cog_status cog_zmq_next(cog_zmq_wire *wire, size_t limit, cog_parcel **out, bool *there) {
    zmq_pollitem_t item = {.socket = wire->socket, .events = ZMQ_POLLIN};
    cog_zmq_about unused;
    *there = zmq_poll(&item, 1, 0) > 0;
    return *there ? cog_zmq_finish(wire, limit, out, &unused) : COG_OK;
}

/* --- news ------------------------------------------------------------------------------------ */

/* 16 bits of event and 32 of descriptor; the address follows as a part of its own. */
static bool take_event(cog_zmq_wire *wire, uint16_t *event, int32_t *fd) {
    zmq_msg_t part;
    if (!take_part(wire->monitor, &part)) return false;
    const unsigned char *data = zmq_msg_data(&part);
    *event = 0;
    *fd = -1;
    if (zmq_msg_size(&part) >= 6) {
        memcpy(event, data, sizeof(*event));
        memcpy(fd, data + 2, sizeof(*fd));
    }
    const bool more = zmq_msg_more(&part);
    zmq_msg_close(&part);
    skip_parts(wire->monitor, more);
    return true;
}

int cog_zmq_ended(cog_zmq_wire *wire) {
    uint16_t event;
    int32_t fd;
    while (take_event(wire, &event, &fd)) {
        if (event == ZMQ_EVENT_DISCONNECTED) return fd;
        const bool is_cut = event == CUT_HANDSHAKE;
        wire->n_cuts += is_cut;
        wire->refused += !is_cut;
        wire->unshaken = wire->unshaken || !is_cut || wire->n_cuts > MOST_CUTS;
    }
    return -1;
}

bool cog_zmq_wait(cog_zmq_wire *wire, double seconds) {
    zmq_pollitem_t items[] = {{.socket = wire->socket, .events = ZMQ_POLLIN},
                              {.socket = wire->monitor, .events = ZMQ_POLLIN}};
    const double ms = ceil(1000 * fmin(fmax(seconds, 0), 1e6));
    return zmq_poll(items, 2, (long)ms) >= 0;
}
