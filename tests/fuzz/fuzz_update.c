/* fuzz_update.c - updates off the wire, with messages of every quantizer: whatever is accepted can
 * be added to a vector and written again.
 *
 *     byte 0: the quantizer      the rest: rounds in wire format (update.h) */
#include "fuzz.h"
#include "replica.h"

enum { N = 200, BLOCKS = 2, ROWS = 8 };

static const char *const specs[] = {
    "identity", "bf16", "topk:ratio=0.05", "topk:ratio=0.05,values=bf16",
    "sign",     "qsgd", "randk:ratio=0.1", "fosgd"};
enum { N_SPECS = sizeof(specs) / sizeof(specs[0]) };

static cog_quantizer configure(int which) {
    cog_spec spec;
    cog_quantizer q;
    FUZZ_CHECK(cog_spec_parse(specs[which], &spec) == COG_OK);
    FUZZ_CHECK(cog_quantizer_configure(&spec, N, &q) == COG_OK);
    return q;
}

/* The replica does what a worker does with an update that it was sent. */
static void apply(const cog_quantizer *q, cog_device *device, const cog_update *update) {
    cog_replica *replica;
    FUZZ_CHECK(cog_replica_open("sgd:rate=0.1", q, device, BLOCKS, &replica) == COG_OK);
    FUZZ_CHECK(cog_replica_apply(replica, 0, update) == COG_OK);
    cog_replica_close(replica);
}

static void check_accepted(const cog_update *u, const uint8_t *wire, size_t used) {
    for (int i = 0; i < u->n_messages; i++) {
        const cog_update_message *m = &u->messages[i];
        FUZZ_CHECK(m->row >= 0 && m->row < ROWS && m->n_terms >= 0);
        FUZZ_CHECK(m->first_term >= 0 && m->first_term + m->n_terms <= u->n_terms);
        FUZZ_CHECK((const uint8_t *)m->payload >= wire &&
                   (const uint8_t *)m->payload + m->bytes <= wire + used);
    }
    for (int i = 0; i < u->n_terms; i++)
        FUZZ_CHECK(u->terms[i].block >= 0 && u->terms[i].block < BLOCKS);
    FUZZ_CHECK(cog_update_wire_bytes(u) == used);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1) return 0;
    const cog_quantizer q = configure(data[0] % N_SPECS);
    const size_t n = size - 1;
    uint8_t *wire = fuzz_copy(data + 1, n);
    cog_update update = {0};
    size_t used = 0;
    if (cog_update_read(&update, &q, ROWS, BLOCKS, wire, n, &used) == COG_OK) {
        cog_device *device;
        FUZZ_CHECK(used <= n);
        check_accepted(&update, wire, used);
        FUZZ_CHECK(cog_device_open("cpu", &device) == COG_OK);
        apply(&q, device, &update);
        cog_device_close(device);
    }
    cog_update_free(&update);
    free(wire);
    return 0;
}

/* A message of each quantizer, as its own pack writes it. */
static size_t pack(const cog_quantizer *q, uint8_t *payload) {
    cog_device *device;
    float x[N], residual[N];
    void *scratch = calloc(1, cog_quantizer_scratch_bytes(q, NULL) + 64);
    void *state = calloc(1, cog_quantizer_state_bytes(q) + 64);
    void *room = calloc(1, q->ops->payload_bytes(q) + 64);
    for (int i = 0; i < N; i++) x[i] = (float)((i * 37 % 101) - 50) / 10;
    const cog_term term = {x, 1};
    FUZZ_CHECK(scratch != NULL && state != NULL && room != NULL);
    FUZZ_CHECK(cog_device_open("cpu", &device) == COG_OK);
    FUZZ_CHECK(q->ops->on[COG_CPU]->pack(q, device, 1, &term, residual, state, scratch, room) ==
               COG_OK);
    cog_device_close(device);
    const size_t bytes = cog_quantizer_used_bytes(q, room);
    FUZZ_CHECK(bytes <= 2000);
    memcpy(payload, room, bytes);
    free(scratch);
    free(state);
    free(room);
    return bytes;
}

size_t fuzz_seed(int i, uint8_t *out) {
    if (i >= 2 * N_SPECS) return 0;
    const bool has_terms = i < N_SPECS; /* a message that goes into no block is one too */
    const cog_quantizer q = configure(i % N_SPECS);
    static _Alignas(8) uint8_t payload[2000];
    const size_t bytes = pack(&q, payload);
    cog_update update = {0};
    for (int m = 0; m < (bytes < 900 ? 3 : 1); m++) {
        FUZZ_CHECK(cog_update_message_add(&update, 2 * m, payload, bytes) == COG_OK);
        if (has_terms) FUZZ_CHECK(cog_update_term_add(&update, m % BLOCKS, 0.5f) == COG_OK);
    }
    const size_t size = cog_update_wire_bytes(&update);
    FUZZ_CHECK(size < FUZZ_MOST);
    out[0] = (uint8_t)(i % N_SPECS);
    cog_update_write(&update, out + 1);
    cog_update_free(&update);
    return 1 + size;
}
