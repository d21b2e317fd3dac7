/* SPDX-License-Identifier: Apache-2.0 */
/* handshake.h - how sessions come to be: struct sl_link is the client's end, struct
 * sl_gate the coordinator's with its table of sessions. Pure machines: frames, time and
 * random bytes are arguments; now_ms is any monotonic clock.
 *
 *   link:  DOWN --start--> WAITING --reply--> UP --start (an hour, no-session)--> ...
 *   gate:  IK1, IKPSK1 --> pending --first valid request--> the client's session
 *
 * A refusal (revoked or unknown key, bad token) is said in the encrypted payload of
 * message 2, so nobody but the coordinator can refuse. Only the first valid request of a
 * pending session ends the client's earlier one and uses a join token up.
 *
 * A refused token answers with a psk of zeros, which the link accepts for a refusal only:
 * message 2 still authenticates the coordinator's static key. NO_SESSION is clear text;
 * it makes a link start a handshake, at most once in SL_HANDSHAKE_EVERY_MS, and nothing
 * else.
 * Thread: loop thread only. */
#ifndef SL_COMMON_HANDSHAKE_H
#define SL_COMMON_HANDSHAKE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/envelope.h"
#include "common/error.h"
#include "common/session.h"

#define SL_HANDSHAKE_EVERY_MS 1000
#define SL_HANDSHAKE_PATIENCE_MS 10000 /* without a reply, start() is allowed again */
#define SL_PENDING_MAX_MS 30000 /* a session without a valid request is forgotten */
#define SL_PENDING_PER_KEY 4    /* of one client; the oldest gives way */

/* --- client ----------------------------------------------------------------------- */

struct sl_link_config {
    uint8_t secret[SL_NOISE_KEY]; /* own identity */
    uint8_t server[SL_NOISE_KEY]; /* the pinned key of the coordinator */
    bool has_token;               /* IKpsk2 until sl_link_drop_token */
    uint8_t token[SL_TOKEN_ID], psk[SL_NOISE_KEY];
    uint8_t hello[SL_HELLO_MAX]; /* the caller's bytes in message 1 */
    size_t hello_bytes;
};

struct sl_link {
    struct sl_link_config config;
    struct sl_noise noise; /* the handshake under way */
    bool waiting, started_once, wanted;
    uint64_t started_ms;
    struct sl_keys *keys; /* NULL before the first session; owned */
    struct sl_caller caller;
    uint8_t welcome[SL_HELLO_MAX]; /* the coordinator's bytes in message 2 */
    size_t welcome_bytes;
};

void sl_link_init(struct sl_link *l, const struct sl_link_config *config); /* copies */
void sl_link_deinit(struct sl_link *l);                                    /* wipes */
void sl_link_drop_token(struct sl_link *l); /* enrolled: from now on plain IK */

/* Milliseconds until a handshake should start: 0 = now, UINT64_MAX = not needed. */
uint64_t sl_link_handshake_in(const struct sl_link *l, uint64_t now_ms);

/* Starts one; frame has SL_HANDSHAKE_FRAME_MAX bytes. ephemeral: fresh random bytes.
 * Whatever was under way is abandoned; an established session goes on until the reply. */
enum sl_code sl_link_start(struct sl_link *l, uint64_t now_ms,
                           const uint8_t ephemeral[SL_NOISE_KEY], uint8_t *frame,
                           size_t *ret_n, struct sl_err *err);

/* The answer to that frame. SL_OK: l->keys and l->caller are those of a new session
 * (whatever was unanswered in the old one must be sent again in the new). SL_E_REFUSED:
 * the coordinator does not want this key or token; the program ends with exit status 3.
 * SL_E_CRYPTO, SL_E_PROTO: not a valid answer to it; the link still waits. */
enum sl_code sl_link_reply(struct sl_link *l, uint64_t now_ms, const uint8_t *frame,
                           size_t n, struct sl_err *err);

/* A NO_SESSION frame named this session: when it is the current one, a handshake is due.
 */
void sl_link_no_session(struct sl_link *l, uint64_t session);

/* --- coordinator ------------------------------------------------------------------ */

enum sl_key_status { SL_KEY_UNKNOWN, SL_KEY_ENROLLED, SL_KEY_REVOKED };

struct sl_gate_config {
    uint8_t secret[SL_NOISE_KEY];
    uint32_t max_sessions; /* pending and established, 1..1,000,000 */
    uint32_t
        handshakes_per_second; /* of all peers together; more are dropped unanswered */
    uint8_t welcome[SL_HELLO_MAX]; /* the caller's bytes in message 2 */
    size_t welcome_bytes;
    void *ctx;
    /* What is known about a client's key, and under which number. */
    enum sl_key_status (*find_key)(void *ctx, const uint8_t key[SL_NOISE_KEY],
                                   uint32_t *ret_client);
    /* The psk of a token that can still be used by this key; false refuses. */
    bool (*find_token)(void *ctx, const uint8_t token[SL_TOKEN_ID],
                       const uint8_t key[SL_NOISE_KEY], uint8_t ret_psk[SL_NOISE_KEY]);
};

struct sl_session {
    struct sl_keys *keys;
    struct sl_peer peer;
    uint8_t key[SL_NOISE_KEY]; /* the client's static key */
    uint8_t token[SL_TOKEN_ID];
    bool has_token; /* made with a token: enrol at the first request */
    bool established;
    uint32_t client; /* UINT32_MAX until it is enrolled */
    uint64_t id, born_ms;
    uint32_t n_calls;                            /* the caller's: requests under way */
    struct sl_session *next_by_id, *next_by_key; /* the gate's */
    uint32_t slot;
};

struct sl_gate;

enum sl_code sl_gate_new(const struct sl_gate_config *config, struct sl_gate **ret,
                         struct sl_err *err); /* copies *config */
void sl_gate_free(struct sl_gate *g);

/* Called just before a session is freed, from any call below (a replaced, expired,
 * revoked one). */
void sl_gate_on_end(struct sl_gate *g, void (*on_end)(void *ctx, struct sl_session *s),
                    void *ctx);

enum sl_gate_verdict {
    SL_GATE_DROP,   /* answer nothing */
    SL_GATE_ANSWER, /* send the reply bytes */
    SL_GATE_RECORD, /* a request in *ret_session: open it with its keys, then
                       sl_gate_accept */
};

/* Random bytes a handshake needs, fresh in every call that may carry one. */
struct sl_gate_random {
    uint8_t ephemeral[SL_NOISE_KEY];
    uint64_t session;
};

/* Takes one frame. reply has SL_HANDSHAKE_FRAME_MAX bytes; never longer than the frame it
 * answers except by a handshake that authenticated. ret_session, ret_head: set for
 * RECORD. */
enum sl_gate_verdict sl_gate_frame(struct sl_gate *g, uint64_t now_ms,
                                   const uint8_t *frame, size_t n,
                                   const struct sl_gate_random *random, uint8_t *reply,
                                   size_t *ret_n, struct sl_session **ret_session,
                                   struct sl_envelope *ret_head);

/* The session of an id, or NULL. Sessions may end while a worker opens a record: look up
 * again. */
struct sl_session *sl_gate_find(struct sl_gate *g, uint64_t id);

/* A record of s was opened and authenticated. Makes a pending session the client's
 * (ending the earlier one; *ret_first = true: enrol now if it has a token), then decides
 * as sl_peer_accept. A pending session whose key was revoked meanwhile ends: verdict DROP
 * and *ret_ended = true. */
struct sl_accept sl_gate_accept(struct sl_gate *g, uint64_t now_ms, struct sl_session *s,
                                const struct sl_envelope *head, uint64_t cookie,
                                bool *ret_first, bool *ret_ended);

/* The established session of a client's key, or NULL. */
struct sl_session *sl_gate_of_key(struct sl_gate *g, const uint8_t key[SL_NOISE_KEY]);

void sl_gate_end(struct sl_gate *g, struct sl_session *s);
/* Ends every session of a key (revocation). */
void sl_gate_end_key(struct sl_gate *g, const uint8_t key[SL_NOISE_KEY]);

/* Looks at up to `budget` sessions and ends the expired ones; call it about once a
 * second. */
void sl_gate_expire(struct sl_gate *g, uint64_t now_ms, uint32_t budget);

struct sl_gate_stats {
    uint64_t handshakes, refused, failed, over_quota, no_session;
    uint32_t sessions, established;
};
struct sl_gate_stats sl_gate_stats(const struct sl_gate *g);

/* The NO_SESSION answer to a request (SL_ENVELOPE_BYTES bytes). */
void sl_no_session_frame(uint64_t session, uint8_t frame[SL_ENVELOPE_BYTES]);

#endif
