/* parcel.c - free lists by size; broadcast payloads are counted references. */
#include "parcel.h"

#include <stdlib.h>
#include <string.h>

#include "check.h"

enum {
    LINE = _Alignof(cog_parcel),
    SMALLEST = 64,           /* most frames of a simulation with tiny payloads */
    SPARE_BYTES = 512,       /* the longest sentence */
    SHARE_FROM_BYTES = 1024, /* below, comparing costs as much as a copy saves */
};

/* Class 0 holds SMALLEST bytes; the octave above 2^e is cut in four. */
static int class_of(uint64_t bytes, uint64_t *capacity) {
    if (bytes <= SMALLEST) {
        *capacity = SMALLEST;
        return 0;
    }
    const int e = 63 - __builtin_clzll(bytes - 1);
    const int quarter = (int)((bytes - 1) >> (e - 2) & 3);
    *capacity = (uint64_t)(5 + quarter) << (e - 2);
    return 4 * (e - 6) + quarter + 1;
}

static uint64_t whole_lines(uint64_t bytes) { return (bytes + LINE - 1) / LINE * LINE; }

static cog_parcel *reuse(cog_parcel_pool *pool, int size_class) {
    pthread_mutex_lock(&pool->mutex);
    cog_parcel *parcel = pool->free[size_class];
    if (parcel != NULL) pool->free[size_class] = parcel->next;
    pthread_mutex_unlock(&pool->mutex);
    return parcel;
}

static cog_status take_room(cog_parcel_pool *pool, uint64_t bytes, cog_parcel **out) {
    uint64_t capacity;
    const int size_class = class_of(bytes, &capacity);
    cog_parcel *parcel = reuse(pool, size_class);
    if (parcel == NULL) parcel = aligned_alloc(LINE, sizeof(*parcel) + whole_lines(capacity));
    COG_CHECK(parcel != NULL, COG_ERR_MEMORY, "no memory for a frame of %llu bytes",
              (unsigned long long)bytes);
    *parcel = (cog_parcel){.references = 1, .size_class = size_class};
    *out = parcel;
    return COG_OK;
}

cog_status cog_parcel_pool_open(cog_parcel_pool *pool) {
    *pool = (cog_parcel_pool){.open = false};
    COG_CHECK(pthread_mutex_init(&pool->mutex, NULL) == 0, COG_ERR_MEMORY, "no lock for a pool");
    pool->open = true;
    return take_room(pool, SPARE_BYTES, &pool->spare);
}

void cog_parcel_pool_close(cog_parcel_pool *pool) {
    if (!pool->open) return;
    cog_parcel_give(pool, pool->last_broadcast);
    for (int i = 0; i < COG_PARCEL_CLASSES; i++) {
        for (cog_parcel *next, *parcel = pool->free[i]; parcel != NULL; parcel = next) {
            next = parcel->next;
            free(parcel);
        }
    }
    free(pool->spare);
    pthread_mutex_destroy(&pool->mutex);
    *pool = (cog_parcel_pool){.open = false};
}

cog_status cog_parcel_room(cog_parcel_pool *pool, const cog_frame_header *header,
                           cog_parcel **out) {
    cog_parcel *parcel;
    COG_TRY(take_room(pool, header->bytes, &parcel));
    parcel->frame = (cog_frame){.header = *header, .payload = parcel->room};
    *out = parcel;
    return COG_OK;
}

cog_status cog_parcel_take(cog_parcel_pool *pool, const cog_frame_header *header,
                           const void *payload, cog_parcel **out) {
    COG_TRY(cog_parcel_room(pool, header, out));
    if (header->bytes > 0) memcpy((*out)->room, payload, header->bytes);
    return COG_OK;
}

/* An edition spares the comparison, which takes as long as the copy that it saves. */
static bool same_payload(const cog_parcel_pool *pool, int64_t edition,
                         const cog_frame_header *header, const void *payload) {
    const cog_parcel *last = pool->last_broadcast;
    if (last == NULL || last->frame.header.bytes != header->bytes) return false;
    if (edition != 0) return edition == pool->last_edition && payload == pool->last_payload;
    return memcmp(last->room, payload, header->bytes) == 0;
}

static void add_reference(cog_parcel_pool *pool, cog_parcel *lender) {
    pthread_mutex_lock(&pool->mutex);
    lender->references++;
    pthread_mutex_unlock(&pool->mutex);
}

cog_status cog_parcel_broadcast(cog_parcel_pool *pool, int64_t edition,
                                const cog_frame_header *header, const void *payload,
                                cog_parcel **out) {
    if (header->bytes < SHARE_FROM_BYTES) return cog_parcel_take(pool, header, payload, out);
    if (!same_payload(pool, edition, header, payload)) {
        cog_parcel *lender;
        COG_TRY(cog_parcel_take(pool, header, payload, &lender));
        cog_parcel_give(pool, pool->last_broadcast);
        pool->last_broadcast = lender;
        pool->last_payload = payload;
        pool->last_edition = edition;
    }
    cog_parcel *parcel;
    COG_TRY(take_room(pool, 0, &parcel));
    parcel->lender = pool->last_broadcast;
    parcel->frame = (cog_frame){.header = *header, .payload = parcel->lender->room};
    add_reference(pool, parcel->lender);
    *out = parcel;
    return COG_OK;
}

cog_parcel *cog_parcel_fault(cog_parcel_pool *pool, int source, cog_status status) {
    const char *sentence = cog_last_error();
    cog_parcel *parcel;
    cog_frame_header header = cog_frame_make(COG_FRAME_FAULT, source, 0);
    header.message = status;
    header.bytes = strnlen(sentence, SPARE_BYTES);
    if (cog_parcel_take(pool, &header, sentence, &parcel) == COG_OK) return parcel;
    pthread_mutex_lock(&pool->mutex);
    parcel = pool->spare;
    pool->spare = NULL;
    pthread_mutex_unlock(&pool->mutex);
    if (parcel == NULL) return NULL;
    memcpy(parcel->room, sentence, header.bytes);
    parcel->frame = (cog_frame){.header = header, .payload = parcel->room};
    return parcel;
}

static void drop_reference(cog_parcel_pool *pool, cog_parcel *parcel) {
    if (--parcel->references > 0) return;
    parcel->next = pool->free[parcel->size_class];
    pool->free[parcel->size_class] = parcel;
}

void cog_parcel_give(cog_parcel_pool *pool, cog_parcel *parcel) {
    if (parcel == NULL) return;
    pthread_mutex_lock(&pool->mutex);
    if (parcel->lender != NULL) drop_reference(pool, parcel->lender);
    drop_reference(pool, parcel);
    pthread_mutex_unlock(&pool->mutex);
}

void cog_parcel_push(cog_parcel_list *list, cog_parcel *parcel) {
    parcel->next = NULL;
    if (list->last != NULL)
        list->last->next = parcel;
    else
        list->first = parcel;
    list->last = parcel;
}

void cog_parcel_push_front(cog_parcel_list *list, cog_parcel *parcel) {
    parcel->next = list->first;
    list->first = parcel;
    if (list->last == NULL) list->last = parcel;
}

cog_parcel *cog_parcel_pop(cog_parcel_list *list) {
    cog_parcel *parcel = list->first;
    if (parcel == NULL) return NULL;
    list->first = parcel->next;
    if (list->first == NULL) list->last = NULL;
    return parcel;
}

void cog_parcel_give_all(cog_parcel_pool *pool, cog_parcel_list *list) {
    for (cog_parcel *parcel; (parcel = cog_parcel_pop(list)) != NULL;)
        cog_parcel_give(pool, parcel);
}
