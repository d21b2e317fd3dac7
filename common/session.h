/* SPDX-License-Identifier: Apache-2.0 */
/* session.h - records of an established session: keys, counters, replay window, reply
 * cache.
 *
 * Two halves, so that sealing and opening run on workers. struct sl_keys is immutable and
 * reference counted; sl_record_seal and sl_record_open are pure functions of it and may
 * run on any thread. The state of a session (counters, window, cache) belongs to the loop
 * thread:
 *
 *   coordinator:  open on a worker -> sl_peer_accept -> execute -> sl_peer_answered ->
 *                 sl_peer_next -> seal on a worker -> send
 *   client:       sl_caller_next -> seal -> send ... open -> sl_caller_answered
 *
 * Requests may be repeated byte for byte and arrive out of order; a counter is
 * authenticated first and marked in a window of SL_WINDOW entries after. A counter of a
 * direction is given out once, so no nonce is used twice. No clock, no random source:
 * now_ms is an argument, any monotonic clock. */
#ifndef SL_COMMON_SESSION_H
#define SL_COMMON_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/envelope.h"
#include "common/error.h"
#include "common/noise.h"

#define SL_WINDOW 1024   /* counters that a receiver remembers */
#define SL_AHEAD_MAX 512 /* newest counter beyond oldest unanswered one */
#define SL_SESSION_MAX_MS                                                                \
    ((uint64_t)3600 * 1000) /* the client handshakes again after this */
#define SL_SESSION_GRACE_MS                                                              \
    ((uint64_t)300 * 1000) /* and the coordinator forgets after this more */
#define SL_SESSION_MAX_MESSAGES ((uint64_t)1 << 32) /* counters of a direction */
#define SL_REPLY_CACHE_BYTES ((size_t)64 << 10)     /* kept replies of one session */

/* --- keys: any thread ------------------------------------------------------------- */

struct sl_keys;

/* Called before a record is sealed, on the sealing thread; for tests that watch for
 * nonces. */
typedef void (*sl_seal_watch)(void *ctx, uint64_t session,
                              const uint8_t key[SL_NOISE_KEY], uint64_t counter);

/* Keys of one session with one reference; NULL when there is no memory. Copies all
 * inputs. */
struct sl_keys *sl_keys_new(uint64_t session, const uint8_t send[SL_NOISE_KEY],
                            const uint8_t recv[SL_NOISE_KEY]);
struct sl_keys *sl_keys_ref(struct sl_keys *k);
void sl_keys_unref(struct sl_keys *k); /* the last one wipes; NULL allowed */
uint64_t sl_keys_session(const struct sl_keys *k);
/* Before the keys are shared between threads. NULL = nobody watches. */
void sl_keys_watch(struct sl_keys *k, sl_seal_watch watch, void *ctx);

/* Seals in place. frame has SL_RECORD_EXTRA + plain_bytes bytes and the plaintext at
 * frame + SL_ENVELOPE_BYTES; head->kind is REQUEST or RESPONSE, head->session that of the
 * keys. Each head->counter at most once per keys: only sl_peer_next and sl_caller_next
 * hand them out. */
void sl_record_seal(const struct sl_keys *k, const struct sl_envelope *head,
                    uint8_t *frame, size_t plain_bytes);

/* Opens in place a frame of n bytes; the plaintext starts at frame + SL_ENVELOPE_BYTES,
 * its length goes to *ret_plain_bytes. `want` = kind that this side receives. SL_E_PROTO
 * for another kind, session or shape, SL_E_CRYPTO when it does not authenticate (the
 * frame is then spoiled). */
enum sl_code sl_record_open(const struct sl_keys *k, enum sl_envelope_kind want,
                            uint8_t *frame, size_t n, struct sl_envelope *ret_head,
                            size_t *ret_plain_bytes, struct sl_err *err);

/* --- replay window ---------------------------------------------------------------- */

struct sl_window { /* {0} = nothing seen; counters start at 0 */
    uint64_t next; /* newest seen + 1 */
    uint64_t bits[SL_WINDOW / 64];
};

enum sl_window_verdict { SL_WINDOW_NEW, SL_WINDOW_SEEN, SL_WINDOW_OLD };

/* Marks the counter when it is new. */
enum sl_window_verdict sl_window_mark(struct sl_window *w, uint64_t counter);

/* --- the coordinator's side of one session ---------------------------------------- */

struct sl_reply_entry;

struct sl_peer { /* {0} = empty */
    struct sl_window window;
    uint64_t next;   /* counter of the next reply */
    uint64_t oldest; /* requests below are answered, says the client */
    struct sl_reply_entry *entries;
    uint32_t n_entries, cap_entries;
    size_t cache_bytes;
};

void sl_peer_deinit(struct sl_peer *p);

enum sl_accept_verdict {
    SL_ACCEPT_EXECUTE, /* new, or a read that is repeated: execute, then sl_peer_answered
                        */
    SL_ACCEPT_RESEND,  /* reply bytes are kept: seal them again with a fresh counter */
    SL_ACCEPT_UNDER_WAY, /* the first one is still being executed; do not execute again */
    SL_ACCEPT_DROP,      /* too old, answered already, out of bounds: say nothing */
};

struct sl_accept {
    enum sl_accept_verdict verdict;
    const uint8_t *reply; /* RESEND: borrowed until the next call */
    size_t reply_bytes;
    uint64_t
        old_cookie; /* UNDER_WAY: what the earlier one came with; replaced by the new */
};

/* What to do with an authenticated request. cookie is the caller's name for this arrival
 * (for instance the transport's request); of a repeated request that is still under way
 * the later arrival is the one worth answering, since the earlier one's connection may be
 * gone. */
struct sl_accept sl_peer_accept(struct sl_peer *p, const struct sl_envelope *head,
                                uint64_t cookie);

/* The request's reply is ready. keep: the plaintext is copied and answers repetitions
 * (requests that change state); otherwise a repetition is executed again. *ret_cookie
 * (may be NULL) = that of the latest arrival. false when the request is not under way
 * (the reply goes nowhere). */
bool sl_peer_answered(struct sl_peer *p, uint64_t request, bool keep,
                      const uint8_t *reply, size_t reply_bytes, uint64_t *ret_cookie);

/* The request's connection is gone and nobody will answer: a repetition is executed. */
void sl_peer_forget(struct sl_peer *p, uint64_t request);

/* Next counter of a reply; false after SL_SESSION_MAX_MESSAGES. */
bool sl_peer_next(struct sl_peer *p, uint64_t *ret_counter);

/* --- the client's side of one session --------------------------------------------- */

struct sl_caller {
    uint64_t born_ms, next;
    struct sl_window window; /* of replies */
    uint64_t *open;          /* unanswered requests, ascending */
    uint32_t n_open, cap_open;
};

void sl_caller_init(struct sl_caller *c, uint64_t now_ms);
void sl_caller_deinit(struct sl_caller *c);

/* Counter of the next request and the `other` field of its head. SL_E_LIMIT while it
 * would run more than SL_AHEAD_MAX ahead of the oldest unanswered one (wait for a reply),
 * SL_E_STATE when the session is used up, SL_E_NOMEM. */
enum sl_code sl_caller_next(struct sl_caller *c, uint64_t *ret_counter,
                            uint64_t *ret_oldest);

/* An authenticated reply: closes request head->other. false for a replay or a request not
 * open. */
bool sl_caller_answered(struct sl_caller *c, const struct sl_envelope *head);

/* The request is given up: no longer counted as unanswered. */
void sl_caller_abandon(struct sl_caller *c, uint64_t request);

/* It is time for a new handshake: an hour, or messages used up. */
bool sl_caller_due(const struct sl_caller *c, uint64_t now_ms);

#endif
