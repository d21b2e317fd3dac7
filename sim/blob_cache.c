/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/blob_cache.h"

#include <stdlib.h>
#include <string.h>

#include "common/mem.h"

void sl_blob_cache_deinit(struct sl_blob_cache *c)
{
    if (c == NULL)
        return;
    for (size_t i = 0; i < c->n; i++) {
        free(c->entry[i].bytes);
        free(c->entry[i].chunks);
    }
    free(c->entry);
    free(c->spare);
    *c = (struct sl_blob_cache){0};
}

static struct sl_blob_entry *find(const struct sl_blob_cache *c,
                                  const struct sl_blob_ref *ref)
{
    for (size_t i = 0; i < c->n; i++)
        if (sl_blob_id_equal(&c->entry[i].ref.id, &ref->id) &&
            c->entry[i].ref.size == ref->size)
            return &c->entry[i];
    return NULL;
}

/* Memory for a blob; a model is as large as the one before it. */
static uint8_t *take_memory(struct sl_blob_cache *c, uint64_t bytes)
{
    if (c->spare == NULL || c->spare_bytes != bytes)
        return malloc(bytes);
    uint8_t *p = c->spare;
    c->spare = NULL;
    return p;
}

enum sl_code sl_blob_cache_begin(struct sl_blob_cache *c, const struct sl_blob_ref *ref,
                                 struct sl_err *err)
{
    struct sl_blob_entry *e = find(c, ref);
    if (e != NULL) {
        e->holders++;
        return SL_OK;
    }
    if (c->n == c->cap) {
        size_t cap = c->cap == 0 ? 4 : 2 * c->cap;
        struct sl_blob_entry *more = realloc(c->entry, cap * sizeof(*more));
        if (more == NULL)
            return sl_err_set(err, SL_E_NOMEM, "received blob");
        c->entry = more;
        c->cap = cap;
    }
    struct sl_blob_entry fresh = {.ref = *ref, .holders = 1};
    size_t n_chunks = (size_t)((ref->size + SL_CHUNK_BYTES - 1) / SL_CHUNK_BYTES);
    fresh.bytes = take_memory(c, ref->size);
    fresh.chunks = sl_calloc((n_chunks + 63) / 64, sizeof(*fresh.chunks));
    if (fresh.bytes == NULL || fresh.chunks == NULL) {
        free(fresh.bytes);
        free(fresh.chunks);
        return sl_err_set(err, SL_E_NOMEM, "received blob");
    }
    c->entry[c->n++] = fresh;
    return SL_OK;
}

enum sl_code sl_blob_cache_write(struct sl_blob_cache *c, const struct sl_blob_ref *ref,
                                 uint64_t offset, const uint8_t *data, size_t n,
                                 struct sl_err *err)
{
    struct sl_blob_entry *e = find(c, ref);
    if (e == NULL || offset > ref->size || n > ref->size - offset)
        return sl_err_set(err, SL_E_PROTO, "chunk beyond the end of its blob");
    size_t chunk = (size_t)(offset / SL_CHUNK_BYTES);
    uint64_t bit = (uint64_t)1 << (chunk % 64);
    bool whole =
        offset % SL_CHUNK_BYTES == 0 && (n == SL_CHUNK_BYTES || offset + n == ref->size);
    if (whole && (e->chunks[chunk / 64] & bit) != 0)
        return memcmp(e->bytes + offset, data, n) == 0
                   ? SL_OK
                   : sl_err_set(err, SL_E_PROTO,
                                "chunk differs from the one sent before");
    memcpy(e->bytes + offset, data, n);
    if (whole)
        e->chunks[chunk / 64] |= bit;
    return SL_OK;
}

enum sl_code sl_blob_cache_finish(struct sl_blob_cache *c, const struct sl_blob_ref *ref,
                                  const uint8_t **ret, struct sl_err *err)
{
    struct sl_blob_entry *e = find(c, ref);
    if (e == NULL)
        return sl_err_set(err, SL_E_PROTO, "blob was never begun");
    if (!e->checked) {
        struct sl_blob_id id;
        sl_xxh3_128(e->bytes, (size_t)ref->size, &id);
        if (!sl_blob_id_equal(&id, &ref->id))
            return sl_err_set(err, SL_E_PROTO, "blob fails its checksum");
        e->checked = 1;
    }
    *ret = e->bytes;
    return SL_OK;
}

void sl_blob_cache_release(struct sl_blob_cache *c, const struct sl_blob_ref *ref)
{
    struct sl_blob_entry *e = find(c, ref);
    if (e == NULL || --e->holders > 0)
        return;
    free(c->spare);
    c->spare = e->bytes;
    c->spare_bytes = ref->size;
    free(e->chunks);
    *e = c->entry[--c->n];
}
