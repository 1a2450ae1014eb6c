/* mpi_post.c - sends under way, and the looks at what has come. */
#include "mpi_post.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../check.h"
#include "../frame.h"
#include "../mailbox.h"

enum {
    NAP_NS = 20000, /* between two looks of a rank that has waited long: others may want its core */
    FIRST_FLIGHTS = 16,
    /* Up to here a copy costs less than a second message: with its header, what Open MPI sends
     * between processes of a node at once. A multiple of 16. */
    SHORT = 3840,
    /* From here on a copy costs more than a PULL, which is a message there and back. */
    LEND_FROM = 32768,
    LENT = 1, /* as checksum of a header that comes alone */
    SETTLE_SECONDS = 5,
};

/* That long is waited without a nap: longer than most frames take, as a nap of 20 us takes 70. */
static const double awake_seconds = 1e-3;

cog_status cog_mpi_check(int code, const char *what) {
    if (code == MPI_SUCCESS) return COG_OK;
    char text[MPI_MAX_ERROR_STRING];
    int length = 0;
    MPI_Error_string(code, text, &length);
    COG_FAIL(COG_ERR_TRANSPORT, "%s: %.*s", what, length, text);
}

cog_status cog_mpi_post_open(cog_mpi_post *post) {
    *post = (cog_mpi_post){.comm = MPI_COMM_NULL};
    return cog_parcel_pool_open(&post->pool);
}

void cog_mpi_post_close(cog_mpi_post *post) {
    cog_parcel_pool_close(&post->pool);
    free(post->parcels);
    free(post->requests);
    free(post->left);
    free(post->loans);
    *post = (cog_mpi_post){.comm = MPI_COMM_NULL};
}

/* --- out -------------------------------------------------------------------------------------- */

/* Gives back what has left. One call asks for all, as every call gives MPI a turn to work. */
static cog_status reap(cog_mpi_post *post) {
    int n = 0, n_left = 0;
    if (post->n_flights == 0) return COG_OK;
    COG_TRY(cog_mpi_check(
        MPI_Testsome(2 * post->n_flights, post->requests, &n_left, post->left, MPI_STATUSES_IGNORE),
        "a send"));
    for (int i = 0; i < post->n_flights && n_left != 0; i++) {
        MPI_Request *r = &post->requests[2 * i];
        if (r[0] == MPI_REQUEST_NULL && r[1] == MPI_REQUEST_NULL) {
            cog_parcel_give(&post->pool, post->parcels[i]);
            continue;
        }
        post->parcels[n] = post->parcels[i];
        memmove(&post->requests[2 * n++], r, 2 * sizeof(*r));
    }
    if (n_left != 0) post->n_flights = n;
    return COG_OK;
}

static bool grow(void **array, size_t bytes) {
    void *larger = realloc(*array, bytes);
    if (larger != NULL) *array = larger;
    return larger != NULL;
}

static cog_status make_room(cog_mpi_post *post) {
    if (post->n_flights < post->room) return COG_OK;
    const int room = post->room > 0 ? 2 * post->room : FIRST_FLIGHTS;
    const size_t n = (size_t)room;
    COG_CHECK(grow((void **)&post->parcels, n * sizeof(*post->parcels)) &&
                  grow((void **)&post->requests, 2 * n * sizeof(*post->requests)) &&
                  grow((void **)&post->left, 2 * n * sizeof(*post->left)),
              COG_ERR_MEMORY, "no memory for %d frames under way", room);
    post->room = room;
    return COG_OK;
}

/* Header and payload in one piece. */
static cog_status join(cog_mpi_post *post, const cog_frame_header *header, const void *payload,
                       cog_parcel **out) {
    cog_frame_header whole = *header;
    whole.bytes += COG_FRAME_HEADER_BYTES;
    COG_TRY(cog_parcel_room(&post->pool, &whole, out));
    memcpy((*out)->room, header, COG_FRAME_HEADER_BYTES);
    if (header->bytes > 0) memcpy((*out)->room + COG_FRAME_HEADER_BYTES, payload, header->bytes);
    return COG_OK;
}

static cog_status isend(cog_mpi_post *post, int to, int tag, const void *data, size_t bytes,
                        MPI_Request *request) {
    return cog_mpi_check(MPI_Isend(data, (int)bytes, MPI_BYTE, to, tag, post->comm, request),
                         "MPI_Isend");
}

/* One message, of what a parcel holds or of what is lent. */
static cog_status take_off(cog_mpi_post *post, int to, int tag, cog_parcel *parcel,
                           const void *data, size_t bytes) {
    MPI_Request *r = &post->requests[2 * post->n_flights];
    r[0] = r[1] = MPI_REQUEST_NULL;
    post->parcels[post->n_flights++] = parcel;
    return isend(post, to, tag, data, bytes, &r[0]);
}

/* The server never waits for a worker that computes: it sends a copy, and goes on. */
cog_status cog_mpi_send_copy(cog_mpi_post *post, int to, int tag, const cog_frame_header *header,
                             const void *payload) {
    cog_parcel *p;
    COG_TRY(reap(post));
    COG_TRY(make_room(post));
    const bool joined = header->bytes <= SHORT;
    COG_TRY(joined ? join(post, header, payload, &p)
                   : cog_parcel_broadcast(&post->pool, post->edition, header, payload, &p));
    MPI_Request *r = &post->requests[2 * post->n_flights];
    r[0] = r[1] = MPI_REQUEST_NULL;
    post->parcels[post->n_flights++] = p;
    if (joined) return isend(post, to, tag, p->room, p->frame.header.bytes, &r[0]);
    COG_TRY(isend(post, to, COG_MPI_AHEAD, p->frame.payload, header->bytes, &r[0]));
    return isend(post, to, COG_MPI_BEHIND, &p->frame.header, COG_FRAME_HEADER_BYTES, &r[1]);
}

cog_status cog_mpi_lend(cog_mpi_post *post, int to, const cog_frame_header *header,
                        const void *payload) {
    cog_mpi_loan *loan = &post->loans[to];
    if (header->bytes < LEND_FROM || loan->open)
        return cog_mpi_send_copy(post, to, COG_MPI_FRAME, header, payload);
    *loan = (cog_mpi_loan){.open = true, .payload = payload, .header = *header};
    cog_frame_header alone = *header;
    alone.checksum = LENT;
    cog_parcel *p;
    COG_TRY(reap(post));
    COG_TRY(make_room(post));
    COG_TRY(cog_parcel_take(&post->pool, &(cog_frame_header){.bytes = sizeof(alone)}, &alone, &p));
    return take_off(post, to, COG_MPI_FRAME, p, p->room, sizeof(alone));
}

/* The payload is on its way from where it lies. */
static cog_status serve_pull(cog_mpi_post *post, int rank) {
    COG_CHECK(rank < post->n_loans && post->loans[rank].open, COG_ERR_FORMAT,
              "rank %d asks for what was not lent to it", rank);
    cog_mpi_loan *loan = &post->loans[rank];
    loan->open = false;
    COG_TRY(make_room(post));
    return take_off(post, rank, COG_MPI_LENT, loan->copy,
                    loan->copy != NULL ? loan->copy->frame.payload : loan->payload,
                    loan->header.bytes);
}

static bool is_lending(const cog_mpi_post *post) {
    bool lends = false;
    for (int i = 0; i < post->n_flights; i++) lends = lends || post->parcels[i] == NULL;
    return lends;
}

/* Who has pulled is receiving, which takes as long as a copy. */
cog_status cog_mpi_settle(cog_mpi_post *post) {
    for (int rank = 1; rank < post->n_loans; rank++) {
        cog_mpi_loan *loan = &post->loans[rank];
        if (loan->open && loan->copy == NULL)
            COG_TRY(cog_parcel_broadcast(&post->pool, post->edition, &loan->header, loan->payload,
                                         &loan->copy));
    }
    const double deadline = cog_clock_seconds() + SETTLE_SECONDS;
    while (is_lending(post)) {
        COG_TRY(reap(post));
        COG_CHECK(cog_clock_seconds() < deadline, COG_ERR_TRANSPORT,
                  "a rank does not take the payload that it asked for");
    }
    return COG_OK;
}

static cog_status send_up(cog_mpi_post *post, int tag, const void *data, size_t bytes) {
    return cog_mpi_check(MPI_Send(data, (int)bytes, MPI_BYTE, 0, tag, post->comm), "MPI_Send");
}

/* A worker's messages wait for nobody but the server, whom the worker would wait for next. */
cog_status cog_mpi_send_up(cog_mpi_post *post, const cog_frame_header *header,
                           const void *payload) {
    unsigned char joined[COG_FRAME_HEADER_BYTES + SHORT];
    memcpy(joined, header, COG_FRAME_HEADER_BYTES);
    if (header->bytes <= SHORT) {
        if (header->bytes > 0) memcpy(joined + COG_FRAME_HEADER_BYTES, payload, header->bytes);
        return send_up(post, COG_MPI_FRAME, joined, COG_FRAME_HEADER_BYTES + header->bytes);
    }
    MPI_Request request;
    COG_TRY(isend(post, 0, COG_MPI_AHEAD, payload, header->bytes, &request));
    COG_TRY(send_up(post, COG_MPI_BEHIND, joined, COG_FRAME_HEADER_BYTES));
    return cog_mpi_check(MPI_Wait(&request, MPI_STATUS_IGNORE), "MPI_Wait");
}

cog_status cog_mpi_flush(cog_mpi_post *post) {
    while (post->n_flights > 0) COG_TRY(reap(post));
    return COG_OK;
}

void cog_mpi_forget(cog_mpi_post *post) {
    for (int i = 0; i < post->n_flights; i++) cog_parcel_give(&post->pool, post->parcels[i]);
    for (int rank = 0; rank < post->n_loans; rank++)
        if (post->loans[rank].open) cog_parcel_give(&post->pool, post->loans[rank].copy);
    post->n_flights = post->n_loans = 0;
}

/* --- in --------------------------------------------------------------------------------------- */

static cog_status read_header(const cog_mpi_post *post, int source, const unsigned char *from,
                              cog_frame_header *header) {
    COG_TRY(cog_frame_read(from, COG_FRAME_HEADER_BYTES, post->max_payload, header));
    COG_CHECK(header->source == source, COG_ERR_FORMAT, "a frame of rank %d names %d as its source",
              source, (int)header->source);
    return COG_OK;
}

/* What arrived, as a frame without, or with all, of its payload. */
static cog_status read_joined(const cog_mpi_post *post, int source, int bytes, cog_parcel *parcel) {
    cog_frame_header header;
    const size_t behind = (size_t)bytes - COG_FRAME_HEADER_BYTES;
    COG_TRY(read_header(post, source, parcel->room, &header));
    COG_CHECK(behind == (header.bytes <= SHORT ? header.bytes : 0), COG_ERR_FORMAT,
              "a frame of %llu bytes came with %zu", (unsigned long long)header.bytes, behind);
    parcel->frame = (cog_frame){.header = header, .payload = parcel->room + COG_FRAME_HEADER_BYTES};
    return COG_OK;
}

static cog_status receive_into(cog_parcel *parcel, MPI_Message *message, int bytes) {
    return cog_mpi_check(MPI_Mrecv(parcel->room, bytes, MPI_BYTE, message, MPI_STATUS_IGNORE),
                         "MPI_Mrecv");
}

static cog_status ask_for(cog_mpi_post *post, void *room, size_t bytes, int source, int tag) {
    return cog_mpi_check(
        MPI_Recv(room, (int)bytes, MPI_BYTE, source, tag, post->comm, MPI_STATUS_IGNORE),
        "MPI_Recv");
}

/* A header alone: the payload into its room, from where it was lent. */
static cog_status pull(cog_mpi_post *post, cog_frame_header header, int source, cog_parcel **out) {
    int self;
    MPI_Comm_rank(post->comm, &self);
    const cog_frame_header wanted = cog_frame_make((cog_frame_kind)COG_MPI_PULL, self, 0);
    header.checksum = 0;
    cog_parcel_give(&post->pool, *out);
    *out = NULL;
    COG_TRY(cog_parcel_room(&post->pool, &header, out));
    COG_TRY(cog_mpi_send_up(post, &wanted, NULL));
    return ask_for(post, (*out)->room, header.bytes, source, COG_MPI_LENT);
}

static cog_status fetch_joined(cog_mpi_post *post, int source, MPI_Message *message, int bytes,
                               cog_parcel **out) {
    const cog_frame_header whole = {.bytes = (uint64_t)bytes};
    COG_CHECK(bytes >= COG_FRAME_HEADER_BYTES && bytes <= COG_FRAME_HEADER_BYTES + SHORT,
              COG_ERR_FORMAT, "rank %d sent %d bytes", source, bytes);
    COG_TRY(cog_parcel_room(&post->pool, &whole, out));
    COG_TRY(receive_into(*out, message, bytes));
    COG_TRY(read_joined(post, source, bytes, *out));
    const cog_frame_header header = (*out)->frame.header;
    return header.bytes <= SHORT ? COG_OK : pull(post, header, source, out);
}

/* The sender sent its header right behind it. */
static cog_status fetch_ahead(cog_mpi_post *post, int source, MPI_Message *message, int bytes,
                              cog_parcel **out) {
    const cog_frame_header room = {.bytes = (uint64_t)bytes};
    unsigned char behind[COG_FRAME_HEADER_BYTES];
    COG_CHECK((size_t)bytes <= post->max_payload, COG_ERR_FORMAT,
              "rank %d sent a payload of %d bytes, and %zu are the most", source, bytes,
              post->max_payload);
    COG_TRY(cog_parcel_room(&post->pool, &room, out));
    COG_TRY(receive_into(*out, message, bytes));
    COG_TRY(ask_for(post, behind, sizeof(behind), source, COG_MPI_BEHIND));
    COG_TRY(read_header(post, source, behind, &(*out)->frame.header));
    COG_CHECK((*out)->frame.header.bytes == (uint64_t)bytes, COG_ERR_FORMAT,
              "a frame of %llu bytes came with %d", (unsigned long long)(*out)->frame.header.bytes,
              bytes);
    return COG_OK;
}

/* The frame that is there on this tag; *out, the caller's to give back, stays NULL without one. */
static cog_status look(cog_mpi_post *post, int tag, cog_parcel **out) {
    MPI_Message message;
    MPI_Status at;
    int found, bytes;
    COG_TRY(cog_mpi_check(MPI_Improbe(MPI_ANY_SOURCE, tag, post->comm, &found, &message, &at),
                          "MPI_Improbe"));
    if (!found) return COG_OK;
    MPI_Get_count(&at, MPI_BYTE, &bytes);
    const cog_status status = at.MPI_TAG == COG_MPI_AHEAD
                                  ? fetch_ahead(post, at.MPI_SOURCE, &message, bytes, out)
                                  : fetch_joined(post, at.MPI_SOURCE, &message, bytes, out);
    if (status == COG_OK) return COG_OK;
    cog_parcel_give(&post->pool, *out);
    *out = NULL;
    return status;
}

/* Every look gives MPI a turn, which hands the core over where ranks outnumber cores. */
static void rest(double waited) {
    const struct timespec nap = {.tv_nsec = NAP_NS};
    if (waited >= awake_seconds) nanosleep(&nap, NULL);
}

/* A PULL is served at once, and nobody's frame. */
static cog_status serve_pulls(cog_mpi_post *post, cog_parcel **out) {
    if (*out == NULL || (*out)->frame.header.kind != COG_MPI_PULL) return COG_OK;
    const int rank = (*out)->frame.header.source;
    cog_parcel_give(&post->pool, *out);
    *out = NULL;
    return serve_pull(post, rank);
}

/* What one sends is found in its order: a payload that is ahead before the header behind it. */
cog_status cog_mpi_wait(cog_mpi_post *post, bool control_only, double deadline, cog_parcel **out) {
    const double begin = cog_clock_seconds();
    while (*out == NULL) {
        if (!post->is_server) COG_TRY(look(post, COG_MPI_CONTROL, out));
        if (*out == NULL && !control_only) COG_TRY(look(post, MPI_ANY_TAG, out));
        COG_TRY(serve_pulls(post, out));
        if (*out != NULL) break;
        COG_TRY(reap(post));
        const double now = cog_clock_seconds();
        if (now >= deadline) break;
        rest(now - begin);
    }
    return COG_OK;
}
