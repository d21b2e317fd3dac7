/* SPDX-License-Identifier: Apache-2.0 */
/* Names follow the Noise Protocol Framework, revision 34: sections 5.1 (CipherState), 5.2
 * (SymmetricState), 5.3 (HandshakeState), 9 (pre-shared keys), 12 (functions). The
 * initiator and the responder walk the same tokens; what differs is which halves of the
 * pairs they hold. */
#include "common/noise.h"

#include <assert.h>
#include <sodium.h>
#include <string.h>

static_assert(SL_NOISE_KEY == crypto_scalarmult_BYTES, "X25519");
static_assert(SL_NOISE_KEY == crypto_aead_chacha20poly1305_ietf_KEYBYTES, "ChaCha20");
static_assert(SL_NOISE_TAG == crypto_aead_chacha20poly1305_ietf_ABYTES, "Poly1305");

#define BLAKE2B_BLOCK 128 /* BLOCKLEN of section 12.3 */

static void nonce_of(uint64_t n, uint8_t nonce[12])
{
    memset(nonce, 0, 4);
    for (int i = 0; i < 8; i++)
        nonce[4 + i] = (uint8_t)(n >> (8 * i));
}

void sl_noise_seal(const uint8_t key[SL_NOISE_KEY], uint64_t nonce, const void *ad,
                   size_t ad_bytes, const uint8_t *plain, size_t bytes, uint8_t *out)
{
    uint8_t npub[12];
    nonce_of(nonce, npub);
    crypto_aead_chacha20poly1305_ietf_encrypt(out, NULL, plain, bytes, ad, ad_bytes, NULL,
                                              npub, key);
}

bool sl_noise_open(const uint8_t key[SL_NOISE_KEY], uint64_t nonce, const void *ad,
                   size_t ad_bytes, const uint8_t *cipher, size_t n, uint8_t *out)
{
    uint8_t npub[12];
    nonce_of(nonce, npub);
    return crypto_aead_chacha20poly1305_ietf_decrypt(out, NULL, NULL, cipher, n, ad,
                                                     ad_bytes, npub, key) == 0;
}

void sl_noise_public(const uint8_t secret[SL_NOISE_KEY], uint8_t ret_public[SL_NOISE_KEY])
{
    crypto_scalarmult_base(ret_public, secret);
}

/* --- HMAC and HKDF over BLAKE2b-512 (section 4.3) --------------------------------- */

struct hmac {
    crypto_generichash_state inner, outer;
};

static void hmac_init(struct hmac *m, const uint8_t key[SL_NOISE_HASH])
{
    uint8_t pad[BLAKE2B_BLOCK];
    crypto_generichash_init(&m->inner, NULL, 0, SL_NOISE_HASH);
    crypto_generichash_init(&m->outer, NULL, 0, SL_NOISE_HASH);
    memset(pad, 0x36, sizeof(pad));
    for (size_t i = 0; i < SL_NOISE_HASH; i++)
        pad[i] ^= key[i];
    crypto_generichash_update(&m->inner, pad, sizeof(pad));
    memset(pad, 0x5c, sizeof(pad));
    for (size_t i = 0; i < SL_NOISE_HASH; i++)
        pad[i] ^= key[i];
    crypto_generichash_update(&m->outer, pad, sizeof(pad));
    sodium_memzero(pad, sizeof(pad));
}

static void hmac_final(struct hmac *m, uint8_t ret[SL_NOISE_HASH])
{
    crypto_generichash_final(&m->inner, ret, SL_NOISE_HASH);
    crypto_generichash_update(&m->outer, ret, SL_NOISE_HASH);
    crypto_generichash_final(&m->outer, ret, SL_NOISE_HASH);
    sodium_memzero(m, sizeof(*m));
}

/* outputs[i] for i < n_outputs <= 3; none may be `ck` itself. */
static void hkdf(const uint8_t ck[SL_NOISE_HASH], const uint8_t *material, size_t n,
                 int n_outputs, uint8_t outputs[][SL_NOISE_HASH])
{
    uint8_t temp[SL_NOISE_HASH];
    struct hmac m;
    hmac_init(&m, ck);
    crypto_generichash_update(&m.inner, material, n);
    hmac_final(&m, temp);
    for (int i = 0; i < n_outputs; i++) {
        uint8_t number = (uint8_t)(i + 1);
        hmac_init(&m, temp);
        if (i > 0)
            crypto_generichash_update(&m.inner, outputs[i - 1], SL_NOISE_HASH);
        crypto_generichash_update(&m.inner, &number, 1);
        hmac_final(&m, outputs[i]);
    }
    sodium_memzero(temp, sizeof(temp));
}

/* --- SymmetricState --------------------------------------------------------------- */

static void mix_hash(struct sl_noise *x, const void *data, size_t n)
{
    crypto_generichash_state st;
    crypto_generichash_init(&st, NULL, 0, SL_NOISE_HASH);
    crypto_generichash_update(&st, x->h, SL_NOISE_HASH);
    crypto_generichash_update(&st, data, n);
    crypto_generichash_final(&st, x->h, SL_NOISE_HASH);
}

static void take_key(struct sl_noise *x, const uint8_t temp_k[SL_NOISE_HASH])
{
    memcpy(x->k, temp_k, SL_NOISE_KEY); /* the first 32 of HASHLEN 64 bytes */
    x->has_key = true;
    x->n = 0;
}

static void mix_key(struct sl_noise *x, const uint8_t *material, size_t n)
{
    uint8_t out[2][SL_NOISE_HASH];
    hkdf(x->ck, material, n, 2, out);
    memcpy(x->ck, out[0], SL_NOISE_HASH);
    take_key(x, out[1]);
    sodium_memzero(out, sizeof(out));
}

static void mix_key_and_hash(struct sl_noise *x, const uint8_t psk[SL_NOISE_KEY])
{
    uint8_t out[3][SL_NOISE_HASH];
    hkdf(x->ck, psk, SL_NOISE_KEY, 3, out);
    memcpy(x->ck, out[0], SL_NOISE_HASH);
    mix_hash(x, out[1], SL_NOISE_HASH);
    take_key(x, out[2]);
    sodium_memzero(out, sizeof(out));
}

static void encrypt_and_hash(struct sl_noise *x, const uint8_t *plain, size_t n,
                             uint8_t *out)
{
    sl_noise_seal(x->k, x->n++, x->h, SL_NOISE_HASH, plain, n, out);
    mix_hash(x, out, n + SL_NOISE_TAG);
}

static bool decrypt_and_hash(struct sl_noise *x, const uint8_t *cipher, size_t n,
                             uint8_t *out)
{
    uint8_t h[SL_NOISE_HASH];
    memcpy(h, x->h, sizeof(h));
    mix_hash(x, cipher, n); /* before out, which may lie where cipher does */
    return sl_noise_open(x->k, x->n++, h, SL_NOISE_HASH, cipher, n, out);
}

/* --- tokens ----------------------------------------------------------------------- */

/* false when the shared secret is zero: the public key is a point of low order. */
static bool mix_dh(struct sl_noise *x, const uint8_t secret[SL_NOISE_KEY],
                   const uint8_t public[SL_NOISE_KEY])
{
    uint8_t shared[SL_NOISE_KEY];
    bool good = crypto_scalarmult(shared, secret, public) == 0;
    if (good)
        mix_key(x, shared, sizeof(shared));
    sodium_memzero(shared, sizeof(shared));
    return good;
}

/* Token e, once the public ephemeral is known to this side. */
static void token_e(struct sl_noise *x, const uint8_t public[SL_NOISE_KEY])
{
    mix_hash(x, public, SL_NOISE_KEY);
    if (x->pattern ==
        SL_NOISE_IKPSK2) /* section 9.2: an ephemeral is key material, too */
        mix_key(x, public, SL_NOISE_KEY);
}

static bool token_es(struct sl_noise *x)
{
    return x->initiator ? mix_dh(x, x->e, x->rs) : mix_dh(x, x->s, x->re);
}

static bool token_se(struct sl_noise *x)
{
    return x->initiator ? mix_dh(x, x->s, x->re) : mix_dh(x, x->e, x->rs);
}

/* Tokens of message 2 after e. */
static bool tokens_of_2(struct sl_noise *x)
{
    if (!mix_dh(x, x->e, x->re) || !token_se(x))
        return false;
    if (x->pattern == SL_NOISE_IKPSK2)
        mix_key_and_hash(x, x->psk);
    return true;
}

/* --- HandshakeState --------------------------------------------------------------- */

static const char *pattern_name(enum sl_noise_pattern pattern)
{
    return pattern == SL_NOISE_IK ? "Noise_IK_25519_ChaChaPoly_BLAKE2b"
                                  : "Noise_IKpsk2_25519_ChaChaPoly_BLAKE2b";
}

void sl_noise_init(struct sl_noise *x, enum sl_noise_pattern pattern, bool initiator,
                   const void *prologue, size_t prologue_bytes,
                   const uint8_t static_secret[SL_NOISE_KEY],
                   const uint8_t ephemeral_secret[SL_NOISE_KEY], const uint8_t *remote)
{
    *x = (struct sl_noise){
        .pattern = pattern, .step = SL_NOISE_STEP_1, .initiator = initiator};
    memcpy(x->s, static_secret, SL_NOISE_KEY);
    memcpy(x->e, ephemeral_secret, SL_NOISE_KEY);
    sl_noise_public(x->s, x->s_pub);
    sl_noise_public(x->e, x->e_pub);
    if (initiator)
        memcpy(x->rs, remote, SL_NOISE_KEY);
    const char *name =
        pattern_name(pattern); /* at most HASHLEN bytes: padded with zeros */
    memcpy(x->h, name, strlen(name));
    memcpy(x->ck, x->h, SL_NOISE_HASH);
    mix_hash(x, prologue, prologue_bytes);
    mix_hash(x, initiator ? x->rs : x->s_pub, SL_NOISE_KEY); /* pre-message <- s */
}

void sl_noise_set_psk(struct sl_noise *x, const uint8_t psk[SL_NOISE_KEY])
{
    memcpy(x->psk, psk, SL_NOISE_KEY);
    x->has_psk = true;
}

static enum sl_code fail(struct sl_noise *x, enum sl_code rc, const char *what,
                         struct sl_err *err)
{
    x->step = SL_NOISE_STEP_NONE;
    return sl_err_set(err, rc, "handshake: %s", what);
}

static enum sl_code check_turn(struct sl_noise *x, bool writing, struct sl_err *err)
{
    bool first = x->step == SL_NOISE_STEP_1, second = x->step == SL_NOISE_STEP_2;
    if ((!first && !second) || (first == x->initiator) != writing)
        return fail(x, SL_E_BUG, "message out of turn", err);
    if (second && x->pattern == SL_NOISE_IKPSK2 && !x->has_psk)
        return fail(x, SL_E_BUG, "message 2 needs the pre-shared key", err);
    return SL_OK;
}

static enum sl_noise_step after(enum sl_noise_step step)
{
    return step == SL_NOISE_STEP_1 ? SL_NOISE_STEP_2 : SL_NOISE_STEP_DONE;
}

static size_t extra_of(enum sl_noise_step step)
{
    return step == SL_NOISE_STEP_1 ? SL_NOISE_MSG1_EXTRA : SL_NOISE_MSG2_EXTRA;
}

static const char low_order[] = "the peer's key is a point of low order";

enum sl_code sl_noise_write(struct sl_noise *x, const void *payload, size_t payload_bytes,
                            uint8_t *out, size_t cap, size_t *ret_n, struct sl_err *err)
{
    enum sl_code rc = check_turn(x, true, err);
    if (rc != SL_OK)
        return rc;
    size_t extra = extra_of(x->step);
    if (payload_bytes > cap || cap - payload_bytes < extra)
        return fail(x, SL_E_LIMIT, "buffer too small for the message", err);
    memcpy(out, x->e_pub, SL_NOISE_KEY);
    token_e(x, x->e_pub);
    size_t at = SL_NOISE_KEY;
    if (x->step == SL_NOISE_STEP_1) {
        if (!token_es(x))
            return fail(x, SL_E_CRYPTO, low_order, err);
        encrypt_and_hash(x, x->s_pub, SL_NOISE_KEY, out + at);
        at += SL_NOISE_KEY + SL_NOISE_TAG;
        if (!mix_dh(x, x->s, x->rs))
            return fail(x, SL_E_CRYPTO, low_order, err);
    } else if (!tokens_of_2(x)) {
        return fail(x, SL_E_CRYPTO, low_order, err);
    }
    encrypt_and_hash(x, payload, payload_bytes, out + at);
    x->step = after(x->step);
    *ret_n = payload_bytes + extra;
    return SL_OK;
}

/* Message 1 up to its payload: e, es, s, ss. */
static enum sl_code read_head_of_1(struct sl_noise *x, const uint8_t *msg,
                                   struct sl_err *err)
{
    if (!token_es(x))
        return fail(x, SL_E_CRYPTO, low_order, err);
    if (!decrypt_and_hash(x, msg + SL_NOISE_KEY, SL_NOISE_KEY + SL_NOISE_TAG, x->rs))
        return fail(x, SL_E_CRYPTO, "message 1 is not for this key", err);
    if (!mix_dh(x, x->s, x->rs))
        return fail(x, SL_E_CRYPTO, low_order, err);
    return SL_OK;
}

enum sl_code sl_noise_read(struct sl_noise *x, const uint8_t *msg, size_t n,
                           uint8_t *payload, size_t cap, size_t *ret_payload_bytes,
                           struct sl_err *err)
{
    enum sl_code rc = check_turn(x, false, err);
    if (rc != SL_OK)
        return rc;
    size_t extra = extra_of(x->step);
    if (n < extra)
        return fail(x, SL_E_PROTO, "message too short", err);
    if (n - extra > cap)
        return fail(x, SL_E_LIMIT, "payload too long", err);
    memcpy(x->re, msg, SL_NOISE_KEY);
    token_e(x, x->re);
    size_t at = SL_NOISE_KEY;
    if (x->step == SL_NOISE_STEP_1) {
        rc = read_head_of_1(x, msg, err);
        if (rc != SL_OK)
            return rc;
        at += SL_NOISE_KEY + SL_NOISE_TAG;
    } else if (!tokens_of_2(x)) {
        return fail(x, SL_E_CRYPTO, low_order, err);
    }
    if (!decrypt_and_hash(x, msg + at, n - at, payload))
        return fail(x, SL_E_CRYPTO, "message does not authenticate", err);
    x->step = after(x->step);
    *ret_payload_bytes = n - extra;
    return SL_OK;
}

void sl_noise_split(const struct sl_noise *x, uint8_t ret_send[SL_NOISE_KEY],
                    uint8_t ret_recv[SL_NOISE_KEY])
{
    assert(x->step == SL_NOISE_STEP_DONE);
    uint8_t out[2][SL_NOISE_HASH];
    hkdf(x->ck, NULL, 0, 2, out);
    memcpy(x->initiator ? ret_send : ret_recv, out[0], SL_NOISE_KEY);
    memcpy(x->initiator ? ret_recv : ret_send, out[1], SL_NOISE_KEY);
    sodium_memzero(out, sizeof(out));
}

void sl_noise_wipe(struct sl_noise *x)
{
    if (x != NULL)
        sodium_memzero(x, sizeof(*x));
}
