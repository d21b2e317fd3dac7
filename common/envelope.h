/* SPDX-License-Identifier: Apache-2.0 */
/* envelope.h - the clear header in front of every frame, and its bytes.
 *
 *     0        2                2+h                        end
 *     | h LE16 | Envelope       | body                       |
 *
 * Envelope is the protobuf message of proto/envelope.proto; its fields are required and
 * of fixed size, so h is always SL_ENVELOPE_PROTO_BYTES:
 *
 *     08 vv            version (1)
 *     10 kk            kind
 *     19 8 bytes LE    session
 *     21 8 bytes LE    counter
 *     29 8 bytes LE    other
 *
 * The body of a record is ciphertext with its tag, of a handshake the Noise message, of
 * no-session nothing. The first SL_ENVELOPE_BYTES of a frame are the associated data of
 * its record.
 *
 *     kind        from         session      counter            other
 *     IK1         client       0            0                  0
 *     IKPSK1      client       0            0                  0
 *     REPLY       coordinator  0            0                  0
 *     REQUEST     client       its own      of this direction  oldest open request
 *     RESPONSE    coordinator  its own      of this direction  counter of the request
 *     NO_SESSION  coordinator  the unknown  0                  0
 *
 * An open request is one without a reply.
 *
 * Also the payloads of the two handshake messages, likewise protobuf. envelope.c and
 * wire.c are the only callers of generated code. Thread: any. */
#ifndef SL_COMMON_ENVELOPE_H
#define SL_COMMON_ENVELOPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

#define SL_ENVELOPE_VERSION 1
#define SL_ENVELOPE_PROTO_BYTES 31
#define SL_ENVELOPE_BYTES (2 + SL_ENVELOPE_PROTO_BYTES) /* where the body starts */
/* A record is so much longer than its plaintext: header and AEAD tag. */
#define SL_RECORD_EXTRA (SL_ENVELOPE_BYTES + 16)

#define SL_HELLO_MAX 256 /* caller's bytes in a handshake payload */
#define SL_TOKEN_ID 16   /* bytes of a join token's id */
#define SL_HELLO_BYTES_MAX                                                               \
    (SL_HELLO_MAX + 64) /* encoded payload of a handshake message */
#define SL_HANDSHAKE_FRAME_MAX (SL_ENVELOPE_BYTES + 112 + SL_HELLO_BYTES_MAX)

enum sl_envelope_kind {
    SL_ENV_IK1 = 1,
    SL_ENV_IKPSK1,
    SL_ENV_REPLY,
    SL_ENV_REQUEST,
    SL_ENV_RESPONSE,
    SL_ENV_NO_SESSION,
};

struct sl_envelope {
    enum sl_envelope_kind kind;
    uint64_t session, counter, other;
};

/* Writes SL_ENVELOPE_BYTES to the start of a frame. */
void sl_envelope_pack(const struct sl_envelope *e, uint8_t *frame);

/* Reads the header of a frame of n bytes. SL_E_PROTO for anything that pack does not
 * write: other length, version, kind, or encoding. The body is frame + SL_ENVELOPE_BYTES.
 */
enum sl_code sl_envelope_parse(const uint8_t *frame, size_t n, struct sl_envelope *ret,
                               struct sl_err *err);

/* Payload of message 1. */
struct sl_hello {
    bool has_token;
    uint8_t token[SL_TOKEN_ID];
    uint8_t bytes[SL_HELLO_MAX]; /* the caller's */
    size_t n;                    /* 0..SL_HELLO_MAX */
};

enum sl_welcome_status {
    SL_WELCOME = 1,
    SL_REFUSED_REVOKED,
    SL_REFUSED_UNKNOWN_KEY,
    SL_REFUSED_TOKEN, /* unknown, used or withdrawn */
};

/* Payload of message 2. */
struct sl_welcome {
    enum sl_welcome_status status;
    uint64_t session; /* 0 when refused */
    uint8_t bytes[SL_HELLO_MAX];
    size_t n;
};

/* Encoders write at most SL_HELLO_BYTES_MAX to out and return the length; n must be in
 * its limit. Decoders: SL_E_PROTO or SL_E_LIMIT for anything out of shape. */
size_t sl_hello_pack(const struct sl_hello *h, uint8_t *out);
enum sl_code sl_hello_parse(const uint8_t *in, size_t n, struct sl_hello *ret,
                            struct sl_err *err);
size_t sl_welcome_pack(const struct sl_welcome *w, uint8_t *out);
enum sl_code sl_welcome_parse(const uint8_t *in, size_t n, struct sl_welcome *ret,
                              struct sl_err *err);

#endif
