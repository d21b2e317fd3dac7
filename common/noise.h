/* SPDX-License-Identifier: Apache-2.0 */
/* noise.h - the handshakes Noise_IK_25519_ChaChaPoly_BLAKE2b and Noise_IKpsk2 of the same
 * suite (Noise Protocol Framework, revision 34), as a state machine without clock, socket
 * or random source: the caller draws the ephemeral key.
 *
 *     <- s                                  the initiator knows the responder's key
 *     -> e, es, s, ss                       message 1, readable before the psk is known
 *     <- e, ee, se (, psk)                  message 2
 *
 * A shared secret of zero (a peer's point of low order) ends the handshake. All keys are
 * wiped by sl_noise_wipe. Thread: one handshake belongs to one thread at a time. */
#ifndef SL_COMMON_NOISE_H
#define SL_COMMON_NOISE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

#define SL_NOISE_KEY 32
#define SL_NOISE_HASH 64
#define SL_NOISE_TAG 16
/* Bytes beyond the payload. */
#define SL_NOISE_MSG1_EXTRA (SL_NOISE_KEY + SL_NOISE_KEY + SL_NOISE_TAG + SL_NOISE_TAG)
#define SL_NOISE_MSG2_EXTRA (SL_NOISE_KEY + SL_NOISE_TAG)

enum sl_noise_pattern { SL_NOISE_IK, SL_NOISE_IKPSK2 };

enum sl_noise_step {
    SL_NOISE_STEP_NONE, /* {0}, failed or wiped */
    SL_NOISE_STEP_1,    /* message 1 is to be written or read */
    SL_NOISE_STEP_2,
    SL_NOISE_STEP_DONE, /* keys may be split off */
};

/* A plain value, so that a handshake can be tried on a copy. Wipe every copy. */
struct sl_noise {
    enum sl_noise_pattern pattern;
    enum sl_noise_step step;
    bool initiator, has_key, has_psk;
    uint8_t ck[SL_NOISE_HASH], h[SL_NOISE_HASH], k[SL_NOISE_KEY];
    uint64_t n;
    uint8_t s[SL_NOISE_KEY], s_pub[SL_NOISE_KEY]; /* own static pair */
    uint8_t e[SL_NOISE_KEY], e_pub[SL_NOISE_KEY]; /* own ephemeral pair */
    uint8_t rs[SL_NOISE_KEY], re[SL_NOISE_KEY];   /* the peer's public keys */
    uint8_t psk[SL_NOISE_KEY];
};

/* The public key of an X25519 secret. */
void sl_noise_public(const uint8_t secret[SL_NOISE_KEY],
                     uint8_t ret_public[SL_NOISE_KEY]);

/* Initiator: remote = the responder's public key. Responder: remote = NULL. All inputs
 * are copied. The handshake starts at step 1. */
void sl_noise_init(struct sl_noise *x, enum sl_noise_pattern pattern, bool initiator,
                   const void *prologue, size_t prologue_bytes,
                   const uint8_t static_secret[SL_NOISE_KEY],
                   const uint8_t ephemeral_secret[SL_NOISE_KEY], const uint8_t *remote);

/* IKpsk2 only; before message 2 is written or read. */
void sl_noise_set_psk(struct sl_noise *x, const uint8_t psk[SL_NOISE_KEY]);

/* Writes the message whose turn it is: payload_bytes + SL_NOISE_MSG1_EXTRA or MSG2_EXTRA
 * bytes. SL_E_BUG out of turn or without the psk, SL_E_CRYPTO for a low-order point,
 * SL_E_LIMIT when `cap` is too small. After a failure only wipe is allowed. */
enum sl_code sl_noise_write(struct sl_noise *x, const void *payload, size_t payload_bytes,
                            uint8_t *out, size_t cap, size_t *ret_n, struct sl_err *err);

/* Reads the message whose turn it is; payload needs n - EXTRA bytes. SL_E_PROTO when the
 * message is too short, SL_E_LIMIT when payload does not fit cap, SL_E_CRYPTO when it
 * does not authenticate. After a failure only wipe is allowed. After message 1 the
 * responder finds the initiator's key in x->rs. */
enum sl_code sl_noise_read(struct sl_noise *x, const uint8_t *msg, size_t n,
                           uint8_t *payload, size_t cap, size_t *ret_payload_bytes,
                           struct sl_err *err);

/* After message 2: the keys of the two directions, as this side sends and receives. x->h
 * is the handshake hash. */
void sl_noise_split(const struct sl_noise *x, uint8_t ret_send[SL_NOISE_KEY],
                    uint8_t ret_recv[SL_NOISE_KEY]);

/* Overwrites everything; NULL and {0} allowed. */
void sl_noise_wipe(struct sl_noise *x);

/* ChaCha20-Poly1305 as Noise uses it: nonce = 4 zero bytes, then n as 64 bit
 * little-endian. Output may be the input buffer. seal writes bytes + SL_NOISE_TAG; open
 * reads n bytes and writes n - SL_NOISE_TAG, false when it does not authenticate (or is
 * shorter than a tag). */
void sl_noise_seal(const uint8_t key[SL_NOISE_KEY], uint64_t nonce, const void *ad,
                   size_t ad_bytes, const uint8_t *plain, size_t bytes, uint8_t *out);
bool sl_noise_open(const uint8_t key[SL_NOISE_KEY], uint64_t nonce, const void *ad,
                   size_t ad_bytes, const uint8_t *cipher, size_t n, uint8_t *out);

#endif
