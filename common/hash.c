/* SPDX-License-Identifier: Apache-2.0 */
#include "common/hash.h"

#include <assert.h>
#include <sodium.h>
#include <string.h>
#define XXH_STATIC_LINKING_ONLY
#include <xxhash.h>

static_assert(sizeof(XXH3_state_t) <= sizeof(((struct sl_xxh3 *)0)->opaque),
              "the state of XXH3 fits");

static void canonical(XXH128_hash_t h, struct sl_blob_id *ret)
{
    XXH128_canonical_t c;
    XXH128_canonicalFromHash(&c, h);
    memcpy(ret->bytes, c.digest, SL_XXH_BYTES);
}

void sl_xxh3_128(const void *data, size_t n, struct sl_blob_id *ret)
{
    canonical(XXH3_128bits(data, n), ret);
}

void sl_xxh3_init(struct sl_xxh3 *s)
{
    XXH3_INITSTATE((XXH3_state_t *)s->opaque);
    XXH3_128bits_reset((XXH3_state_t *)s->opaque);
}

void sl_xxh3_update(struct sl_xxh3 *s, const void *data, size_t n)
{
    XXH3_128bits_update((XXH3_state_t *)s->opaque, data, n);
}

void sl_xxh3_final(const struct sl_xxh3 *s, struct sl_blob_id *ret)
{
    canonical(XXH3_128bits_digest((const XXH3_state_t *)s->opaque), ret);
}

bool sl_blob_id_equal(const struct sl_blob_id *a, const struct sl_blob_id *b)
{
    return memcmp(a->bytes, b->bytes, SL_XXH_BYTES) == 0;
}

void sl_blake2b_256(const void *data, size_t n, uint8_t ret[SL_DIGEST_BYTES])
{
    crypto_generichash(ret, SL_DIGEST_BYTES, data, n, NULL, 0);
}

void sl_hex(const uint8_t *bytes, size_t n, char *ret)
{
    sodium_bin2hex(ret, 2 * n + 1, bytes, n);
}

bool sl_unhex(const char *hex, size_t n, uint8_t *ret)
{
    size_t got;
    const char *end;
    if (strlen(hex) != 2 * n)
        return false;
    if (sodium_hex2bin(ret, n, hex, 2 * n, NULL, &got, &end) != 0)
        return false;
    return got == n && *end == '\0';
}
