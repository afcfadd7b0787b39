#pragma once
#include <mongoc/mongoc.h>
#include <stdlib.h>

/* bson_t is aligned to 128 bytes: Swift imports it as an opaque type, so a field of it needs a
   function. */
static inline size_t weir_bson_length(const bson_t *_Nonnull document) { return document->len; }

/* A place for a reply. The library initialises what it is given anew, so that `bson_new`, which
   remembers in the document itself that it must be freed, would leak. */
static inline bson_t *_Nonnull weir_reply_new(void) {
    bson_t *reply = (bson_t *)aligned_alloc(_Alignof(bson_t), sizeof(bson_t));
    if (!reply) abort();
    bson_init(reply);
    return reply;
}

static inline void weir_reply_free(bson_t *_Nonnull reply) {
    bson_destroy(reply);
    free(reply);
}
