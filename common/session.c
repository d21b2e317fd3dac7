/* SPDX-License-Identifier: Apache-2.0 */
/* The nonce of a record is the counter of its direction, and each direction has a key of
 * its own, so a pair (key, nonce) repeats only if a counter does. Counters come from one
 * place per direction (sl_peer_next, sl_caller_next) and are never given out twice. A
 * repeated request carries the identical ciphertext, which is the same encryption, not
 * another one under the same nonce; a repeated reply is encrypted again under a fresh
 * counter. */
#include "common/session.h"

#include <assert.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* --- keys ------------------------------------------------------------------------- */

struct sl_keys {
    atomic_uint refs;
    uint64_t session;
    uint8_t send[SL_NOISE_KEY], recv[SL_NOISE_KEY];
    sl_seal_watch watch;
    void *watch_ctx;
};

struct sl_keys *sl_keys_new(uint64_t session, const uint8_t send[SL_NOISE_KEY],
                            const uint8_t recv[SL_NOISE_KEY])
{
    struct sl_keys *k = calloc(1, sizeof(*k));
    if (k == NULL)
        return NULL;
    atomic_init(&k->refs, 1);
    k->session = session;
    memcpy(k->send, send, SL_NOISE_KEY);
    memcpy(k->recv, recv, SL_NOISE_KEY);
    return k;
}

struct sl_keys *sl_keys_ref(struct sl_keys *k)
{
    atomic_fetch_add_explicit(&k->refs, 1, memory_order_relaxed);
    return k;
}

void sl_keys_unref(struct sl_keys *k)
{
    if (k == NULL || atomic_fetch_sub_explicit(&k->refs, 1, memory_order_acq_rel) != 1)
        return;
    sodium_memzero(k, sizeof(*k));
    free(k);
}

uint64_t sl_keys_session(const struct sl_keys *k)
{
    return k->session;
}

void sl_keys_watch(struct sl_keys *k, sl_seal_watch watch, void *ctx)
{
    k->watch = watch;
    k->watch_ctx = ctx;
}

void sl_record_seal(const struct sl_keys *k, const struct sl_envelope *head,
                    uint8_t *frame, size_t plain_bytes)
{
    assert(head->kind == SL_ENV_REQUEST || head->kind == SL_ENV_RESPONSE);
    assert(head->session == k->session);
    if (k->watch != NULL)
        k->watch(k->watch_ctx, k->session, k->send, head->counter);
    uint8_t *body = frame + SL_ENVELOPE_BYTES;
    sl_envelope_pack(head, frame);
    sl_noise_seal(k->send, head->counter, frame, SL_ENVELOPE_BYTES, body, plain_bytes,
                  body);
}

enum sl_code sl_record_open(const struct sl_keys *k, enum sl_envelope_kind want,
                            uint8_t *frame, size_t n, struct sl_envelope *ret_head,
                            size_t *ret_plain_bytes, struct sl_err *err)
{
    struct sl_envelope head;
    enum sl_code rc = sl_envelope_parse(frame, n, &head, err);
    if (rc != SL_OK)
        return rc;
    if (head.kind != want)
        return sl_err_set(err, SL_E_PROTO, "record: kind %d, expected %d", (int)head.kind,
                          (int)want);
    if (head.session != k->session)
        return sl_err_set(err, SL_E_PROTO, "record: of another session");
    if (n < SL_RECORD_EXTRA)
        return sl_err_set(err, SL_E_PROTO, "record: %zu bytes, at least %d", n,
                          SL_RECORD_EXTRA);
    if (head.counter >= SL_SESSION_MAX_MESSAGES)
        return sl_err_set(err, SL_E_PROTO,
                          "record: counter beyond the life of a session");
    uint8_t *body = frame + SL_ENVELOPE_BYTES;
    if (!sl_noise_open(k->recv, head.counter, frame, SL_ENVELOPE_BYTES, body,
                       n - SL_ENVELOPE_BYTES, body))
        return sl_err_set(err, SL_E_CRYPTO, "record: does not authenticate");
    *ret_head = head;
    *ret_plain_bytes = n - SL_RECORD_EXTRA;
    return SL_OK;
}

/* --- replay window ---------------------------------------------------------------- */

/* Clears the bits of counters from..to-1 (at most the whole ring). */
static void window_clear(struct sl_window *w, uint64_t from, uint64_t to)
{
    if (to - from >= SL_WINDOW) {
        memset(w->bits, 0, sizeof(w->bits));
        return;
    }
    for (uint64_t c = from; c < to; c++)
        w->bits[c % SL_WINDOW / 64] &= ~((uint64_t)1 << (c % 64));
}

enum sl_window_verdict sl_window_mark(struct sl_window *w, uint64_t counter)
{
    if (counter >= SL_SESSION_MAX_MESSAGES) /* so counter + 1 never wraps */
        return SL_WINDOW_OLD;
    if (counter >= w->next) {
        window_clear(w, w->next, counter + 1);
        w->next = counter + 1;
    } else if (w->next - counter > SL_WINDOW) {
        return SL_WINDOW_OLD;
    }
    uint64_t *word = &w->bits[counter % SL_WINDOW / 64],
             bit = (uint64_t)1 << (counter % 64);
    if ((*word & bit) != 0)
        return SL_WINDOW_SEEN;
    *word |= bit;
    return SL_WINDOW_NEW;
}

/* --- the coordinator's side ---
 *
 * entries holds what is known about requests at or above p->oldest, unordered (few):
 *
 *     (none) --accept--> UNDER_WAY --answered--> KEPT      --accept--> RESEND
 *                            |     --answered--> REPEAT    --accept--> UNDER_WAY, EXECUTE
 *                            |                   LOST      --accept--> DROP
 *                            +------forget-----> REPEAT
 *
 * LOST: the bytes of a kept reply did not fit the cache. An entry goes when the client
 * says, in the `other` of a later request, that it no longer waits for that one. */

enum entry_state { ENTRY_UNDER_WAY, ENTRY_KEPT, ENTRY_REPEAT, ENTRY_LOST };

struct sl_reply_entry {
    uint64_t request, cookie;
    enum entry_state state;
    uint32_t bytes;
    uint8_t *reply;
};

static void entry_clear(struct sl_peer *p, struct sl_reply_entry *e)
{
    p->cache_bytes -= e->bytes;
    free(e->reply);
    e->reply = NULL;
    e->bytes = 0;
}

void sl_peer_deinit(struct sl_peer *p)
{
    if (p == NULL)
        return;
    for (uint32_t i = 0; i < p->n_entries; i++)
        free(p->entries[i].reply);
    free(p->entries);
    *p = (struct sl_peer){0};
}

static struct sl_reply_entry *find_entry(struct sl_peer *p, uint64_t request)
{
    for (uint32_t i = p->n_entries; i-- > 0;)
        if (p->entries[i].request == request)
            return &p->entries[i];
    return NULL;
}

/* The client waits for nothing below `oldest`. */
static void settle(struct sl_peer *p, uint64_t oldest)
{
    if (oldest <= p->oldest)
        return;
    p->oldest = oldest;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < p->n_entries; i++) {
        if (p->entries[i].request < oldest)
            entry_clear(p, &p->entries[i]);
        else
            p->entries[kept++] = p->entries[i];
    }
    p->n_entries = kept;
}

static bool add_entry(struct sl_peer *p, uint64_t request, uint64_t cookie)
{
    if (p->n_entries > SL_AHEAD_MAX)
        return false;
    if (p->n_entries == p->cap_entries) {
        uint32_t cap = p->cap_entries == 0 ? 4 : 2 * p->cap_entries;
        struct sl_reply_entry *grown = realloc(p->entries, cap * sizeof(*grown));
        if (grown == NULL)
            return false;
        p->entries = grown;
        p->cap_entries = cap;
    }
    p->entries[p->n_entries++] = (struct sl_reply_entry){
        .request = request, .cookie = cookie, .state = ENTRY_UNDER_WAY};
    return true;
}

static struct sl_accept accept_again(struct sl_reply_entry *e, uint64_t cookie)
{
    struct sl_accept a = {.verdict = SL_ACCEPT_DROP};
    switch (e->state) {
    case ENTRY_UNDER_WAY:
        a.verdict = SL_ACCEPT_UNDER_WAY;
        a.old_cookie = e->cookie;
        e->cookie = cookie;
        break;
    case ENTRY_KEPT:
        a.verdict = SL_ACCEPT_RESEND;
        a.reply = e->reply;
        a.reply_bytes = e->bytes;
        break;
    case ENTRY_REPEAT:
        a.verdict = SL_ACCEPT_EXECUTE;
        e->state = ENTRY_UNDER_WAY;
        e->cookie = cookie;
        break;
    case ENTRY_LOST:
        break;
    }
    return a;
}

struct sl_accept sl_peer_accept(struct sl_peer *p, const struct sl_envelope *head,
                                uint64_t cookie)
{
    const struct sl_accept drop = {.verdict = SL_ACCEPT_DROP};
    if (head->other > head->counter || head->counter - head->other > SL_AHEAD_MAX)
        return drop; /* not a client that keeps the rule of sl_caller_next */
    if (head->counter < p->oldest)
        return drop; /* late: answered long ago, says the client itself */
    enum sl_window_verdict v = sl_window_mark(&p->window, head->counter);
    if (v == SL_WINDOW_OLD)
        return drop;
    settle(p, head->other);
    if (v == SL_WINDOW_NEW)
        return add_entry(p, head->counter, cookie)
                   ? (struct sl_accept){.verdict = SL_ACCEPT_EXECUTE}
                   : drop;
    struct sl_reply_entry *e = find_entry(p, head->counter);
    return e == NULL ? drop : accept_again(e, cookie);
}

static void keep_reply(struct sl_peer *p, struct sl_reply_entry *e, const uint8_t *reply,
                       size_t n)
{
    uint8_t *copy = NULL;
    if (n <= SL_REPLY_CACHE_BYTES - p->cache_bytes)
        copy = malloc(n > 0 ? n : 1);
    if (copy == NULL) {
        e->state = ENTRY_LOST;
        return;
    }
    if (n > 0)
        memcpy(copy, reply, n);
    e->reply = copy;
    e->bytes = (uint32_t)n;
    e->state = ENTRY_KEPT;
    p->cache_bytes += n;
}

bool sl_peer_answered(struct sl_peer *p, uint64_t request, bool keep,
                      const uint8_t *reply, size_t reply_bytes, uint64_t *ret_cookie)
{
    struct sl_reply_entry *e = find_entry(p, request);
    if (e == NULL || e->state != ENTRY_UNDER_WAY)
        return false;
    if (ret_cookie != NULL)
        *ret_cookie = e->cookie;
    if (keep)
        keep_reply(p, e, reply, reply_bytes);
    else
        e->state = ENTRY_REPEAT;
    return true;
}

void sl_peer_forget(struct sl_peer *p, uint64_t request)
{
    struct sl_reply_entry *e = find_entry(p, request);
    if (e != NULL && e->state == ENTRY_UNDER_WAY)
        e->state = ENTRY_REPEAT;
}

bool sl_peer_next(struct sl_peer *p, uint64_t *ret_counter)
{
    if (p->next >= SL_SESSION_MAX_MESSAGES)
        return false;
    *ret_counter = p->next++;
    return true;
}

/* --- the client's side ------------------------------------------------------------ */

void sl_caller_init(struct sl_caller *c, uint64_t now_ms)
{
    *c = (struct sl_caller){.born_ms = now_ms};
}

void sl_caller_deinit(struct sl_caller *c)
{
    if (c == NULL)
        return;
    free(c->open);
    *c = (struct sl_caller){0};
}

static bool grow_open(struct sl_caller *c)
{
    if (c->n_open < c->cap_open)
        return true;
    uint32_t cap = c->cap_open == 0 ? 8 : 2 * c->cap_open;
    uint64_t *grown = realloc(c->open, cap * sizeof(*grown));
    if (grown == NULL)
        return false;
    c->open = grown;
    c->cap_open = cap;
    return true;
}

enum sl_code sl_caller_next(struct sl_caller *c, uint64_t *ret_counter,
                            uint64_t *ret_oldest)
{
    if (c->next >= SL_SESSION_MAX_MESSAGES)
        return SL_E_STATE;
    uint64_t oldest = c->n_open > 0 ? c->open[0] : c->next;
    if (c->next - oldest > SL_AHEAD_MAX)
        return SL_E_LIMIT;
    if (!grow_open(c))
        return SL_E_NOMEM;
    c->open[c->n_open++] = c->next;
    *ret_counter = c->next++;
    *ret_oldest = oldest;
    return SL_OK;
}

static bool close_request(struct sl_caller *c, uint64_t request)
{
    for (uint32_t i = 0; i < c->n_open; i++) {
        if (c->open[i] != request)
            continue;
        memmove(&c->open[i], &c->open[i + 1], (c->n_open - i - 1) * sizeof(c->open[0]));
        c->n_open--;
        return true;
    }
    return false;
}

bool sl_caller_answered(struct sl_caller *c, const struct sl_envelope *head)
{
    return sl_window_mark(&c->window, head->counter) == SL_WINDOW_NEW &&
           close_request(c, head->other);
}

void sl_caller_abandon(struct sl_caller *c, uint64_t request)
{
    close_request(c, request);
}

bool sl_caller_due(const struct sl_caller *c, uint64_t now_ms)
{
    return now_ms - c->born_ms >= SL_SESSION_MAX_MS || c->next >= SL_SESSION_MAX_MESSAGES;
}
