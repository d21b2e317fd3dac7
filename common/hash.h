/* SPDX-License-Identifier: Apache-2.0 */
/* hash.h - the two digests of Starling, and hexadecimal.
 * XXH3-128 (libxxhash, canonical big-endian bytes) checks transfers and names blobs on the wire;
 * BLAKE2b-256 (libsodium) names models and plans. Thread: any. */
#ifndef SL_COMMON_HASH_H
#define SL_COMMON_HASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SL_XXH_BYTES 16
#define SL_DIGEST_BYTES 32
#define SL_DIGEST_HEX (2 * SL_DIGEST_BYTES + 1) /* with the closing zero */

struct sl_blob_id {
    uint8_t bytes[SL_XXH_BYTES];
};

void sl_xxh3_128(const void *data, size_t n, struct sl_blob_id *ret);

/* The same digest over pieces; s is opened by init and needs no closing. */
struct sl_xxh3 {
    _Alignas(64) uint8_t opaque[640];
};
void sl_xxh3_init(struct sl_xxh3 *s);
void sl_xxh3_update(struct sl_xxh3 *s, const void *data, size_t n);
void sl_xxh3_final(const struct sl_xxh3 *s, struct sl_blob_id *ret);

bool sl_blob_id_equal(const struct sl_blob_id *a, const struct sl_blob_id *b);

void sl_blake2b_256(const void *data, size_t n, uint8_t ret[SL_DIGEST_BYTES]);

/* Lower-case hex of n bytes and a closing zero: ret holds 2n + 1 characters. */
void sl_hex(const uint8_t *bytes, size_t n, char *ret);
/* Reads exactly 2n hex digits (either case) into n bytes; false for anything else. */
bool sl_unhex(const char *hex, size_t n, uint8_t *ret);

#endif
