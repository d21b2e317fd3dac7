/* SPDX-License-Identifier: Apache-2.0 */
#include "common/join_token.h"

#include <ctype.h>
#include <sodium.h>
#include <string.h>

#include "common/hash.h"

#define PREFIX "sljt1-"
#define PREFIX_CHARS (sizeof(PREFIX) - 1)
#define BODY_BYTES 80
#define RAW_BYTES (BODY_BYTES + 4)
#define BASE32_CHARS ((RAW_BYTES * 8 + 4) / 5) /* 135: 672 bits and 3 zero bits */

static const char alphabet[] = "abcdefghijklmnopqrstuvwxyz234567";

static void checksum(const uint8_t raw[RAW_BYTES], uint8_t ret[4])
{
    uint8_t digest[SL_DIGEST_BYTES];
    sl_blake2b_256(raw, BODY_BYTES, digest);
    memcpy(ret, digest, 4);
}

void sl_join_token_format(const struct sl_join_token *t,
                          char ret_text[SL_JOIN_TOKEN_TEXT])
{
    uint8_t raw[RAW_BYTES + 1] = {0};
    memcpy(raw, t->server, 32);
    memcpy(raw + 32, t->id, 16);
    memcpy(raw + 48, t->psk, 32);
    checksum(raw, raw + BODY_BYTES);
    memcpy(ret_text, PREFIX, PREFIX_CHARS);
    for (size_t i = 0; i < BASE32_CHARS; i++) {
        size_t bit = 5 * i;
        unsigned two = (unsigned)raw[bit / 8] << 8 | (unsigned)raw[bit / 8 + 1];
        ret_text[PREFIX_CHARS + i] = alphabet[two >> (11 - bit % 8) & 31];
    }
    ret_text[PREFIX_CHARS + BASE32_CHARS] = '\0';
    sodium_memzero(raw, sizeof(raw));
}

/* raw must be zero. false: a character that base32 does not have, or bits after the end.
 */
static bool decode(const char *text, uint8_t raw[RAW_BYTES + 1])
{
    for (size_t i = 0; i < BASE32_CHARS; i++) {
        int c = tolower((unsigned char)text[i]);
        const char *p = c == '\0' ? NULL : strchr(alphabet, c);
        if (p == NULL)
            return false;
        size_t bit = 5 * i;
        unsigned two = (unsigned)(p - alphabet) << (11 - bit % 8);
        raw[bit / 8] |= (uint8_t)(two >> 8);
        raw[bit / 8 + 1] |= (uint8_t)two;
    }
    return raw[RAW_BYTES] == 0;
}

static enum sl_code bad(struct sl_err *err, const char *what)
{
    return sl_err_set(err, SL_E_INPUT, "join token: %s", what);
}

enum sl_code sl_join_token_parse(const char *text, struct sl_join_token *ret,
                                 struct sl_err *err)
{
    while (isspace((unsigned char)*text))
        text++;
    size_t n = strlen(text);
    while (n > 0 && isspace((unsigned char)text[n - 1]))
        n--;
    if (n < PREFIX_CHARS || strncasecmp(text, PREFIX, PREFIX_CHARS) != 0)
        return bad(err, "does not start with \"" PREFIX "\"");
    if (n != PREFIX_CHARS + BASE32_CHARS)
        return sl_err_set(err, SL_E_INPUT, "join token: %zu characters, expected %d", n,
                          (int)(PREFIX_CHARS + BASE32_CHARS));
    uint8_t raw[RAW_BYTES + 1] = {0}, sum[4];
    enum sl_code rc = SL_OK;
    if (!decode(text + PREFIX_CHARS, raw))
        rc = bad(err, "only the letters a to z and the digits 2 to 7 are allowed");
    checksum(raw, sum);
    if (rc == SL_OK && sodium_memcmp(sum, raw + BODY_BYTES, 4) != 0)
        rc = bad(err, "checksum is wrong; mistyped or cut off?");
    if (rc == SL_OK) {
        memcpy(ret->server, raw, 32);
        memcpy(ret->id, raw + 32, 16);
        memcpy(ret->psk, raw + 48, 32);
    }
    sodium_memzero(raw, sizeof(raw));
    return rc;
}
