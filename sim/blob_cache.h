/* SPDX-License-Identifier: Apache-2.0 */
/* blob_cache.h - blobs that virtual clients have received, kept once however many clients
 * hold them. Every client still asks for and is sent all bytes (they are counted); what
 * arrives the first time is written, what arrives again must be the same bytes. Owns: the
 * blobs. Thread: loop thread. */
#ifndef SL_SIM_BLOB_CACHE_H
#define SL_SIM_BLOB_CACHE_H

#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/wire.h"

struct sl_blob_entry {
    struct sl_blob_ref ref;
    uint8_t *bytes;
    uint64_t *chunks; /* bit c: chunk c (of SL_CHUNK_BYTES) is there */
    uint32_t holders;
    int checked; /* 1 once the whole blob has passed its checksum */
};

struct sl_blob_cache {
    struct sl_blob_entry *entry;
    size_t n, cap;
    uint8_t *spare; /* memory of the last blob that was given up */
    uint64_t spare_bytes;
};

void sl_blob_cache_deinit(struct sl_blob_cache *c); /* NULL and {0} allowed */

/* One more holder. */
enum sl_code sl_blob_cache_begin(struct sl_blob_cache *c, const struct sl_blob_ref *ref,
                                 struct sl_err *err);
enum sl_code sl_blob_cache_write(struct sl_blob_cache *c, const struct sl_blob_ref *ref,
                                 uint64_t offset, const uint8_t *data, size_t n,
                                 struct sl_err *err);
/* All bytes, checked; valid until the holder's release. */
enum sl_code sl_blob_cache_finish(struct sl_blob_cache *c, const struct sl_blob_ref *ref,
                                  const uint8_t **ret, struct sl_err *err);
void sl_blob_cache_release(struct sl_blob_cache *c, const struct sl_blob_ref *ref);

#endif
