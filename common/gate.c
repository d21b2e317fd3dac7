/* SPDX-License-Identifier: Apache-2.0 */
/* The coordinator's end of the handshake and its table of sessions.
 *
 * A session hangs in three places: a hash by id, a hash by the client's key (seeded,
 * since clients choose their keys), and an array of slots that the expiry sweep walks.
 * Per key there are at most one established session and SL_PENDING_PER_KEY pending ones.
 */
#include "common/handshake.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

static const char prologue[] = "starling session 1"; /* as in handshake.c */

struct sl_gate {
    struct sl_gate_config config;
    struct sl_session **by_id, **by_key; /* n_buckets each */
    uint32_t n_buckets;                  /* power of two */
    struct sl_session **slots;           /* n_sessions used */
    uint32_t n_sessions, cap_slots, sweep, n_established;
    uint8_t hash_key[crypto_shorthash_KEYBYTES];
    int64_t paid_us; /* time up to which handshakes are paid for */
    void (*on_end)(void *ctx, struct sl_session *s);
    void *on_end_ctx;
    struct sl_gate_stats stats;
};

/* --- table
 * -------------------------------------------------------------------------------------
 */

static uint32_t power_of_two(uint32_t n)
{
    uint32_t p = 16;
    while (p < n)
        p *= 2;
    return p;
}

static struct sl_session **id_bucket(struct sl_gate *g, uint64_t id)
{
    return &g->by_id[id & (g->n_buckets - 1)]; /* ids are random */
}

static struct sl_session **key_bucket(struct sl_gate *g, const uint8_t key[SL_NOISE_KEY])
{
    uint8_t h[crypto_shorthash_BYTES];
    crypto_shorthash(h, key, SL_NOISE_KEY, g->hash_key);
    uint32_t v;
    memcpy(&v, h, sizeof(v));
    return &g->by_key[v & (g->n_buckets - 1)];
}

struct sl_session *sl_gate_find(struct sl_gate *g, uint64_t id)
{
    struct sl_session *s = *id_bucket(g, id);
    while (s != NULL && s->id != id)
        s = s->next_by_id;
    return s;
}

static bool same_key(const struct sl_session *s, const uint8_t key[SL_NOISE_KEY])
{
    return memcmp(s->key, key, SL_NOISE_KEY) == 0;
}

struct sl_session *sl_gate_of_key(struct sl_gate *g, const uint8_t key[SL_NOISE_KEY])
{
    struct sl_session *s = *key_bucket(g, key);
    while (s != NULL && !(same_key(s, key) && s->established))
        s = s->next_by_key;
    return s;
}

static bool grow_slots(struct sl_gate *g)
{
    if (g->n_sessions < g->cap_slots)
        return true;
    uint32_t cap = g->cap_slots == 0 ? 16 : 2 * g->cap_slots;
    struct sl_session **grown = realloc(g->slots, cap * sizeof(struct sl_session *));
    if (grown == NULL)
        return false;
    g->slots = grown;
    g->cap_slots = cap;
    return true;
}

static void link_in(struct sl_gate *g, struct sl_session *s)
{
    struct sl_session **b = id_bucket(g, s->id);
    s->next_by_id = *b;
    *b = s;
    b = key_bucket(g, s->key);
    s->next_by_key = *b;
    *b = s;
    s->slot = g->n_sessions;
    g->slots[g->n_sessions++] = s;
}

static void link_out(struct sl_gate *g, struct sl_session *s)
{
    struct sl_session **at = id_bucket(g, s->id);
    while (*at != s)
        at = &(*at)->next_by_id;
    *at = s->next_by_id;
    at = key_bucket(g, s->key);
    while (*at != s)
        at = &(*at)->next_by_key;
    *at = s->next_by_key;
    struct sl_session *last = g->slots[--g->n_sessions];
    g->slots[s->slot] = last;
    last->slot = s->slot;
    g->n_established -= s->established;
}

static void session_free(struct sl_session *s)
{
    sl_keys_unref(s->keys);
    sl_peer_deinit(&s->peer);
    sodium_memzero(s, sizeof(*s));
    free(s);
}

void sl_gate_end(struct sl_gate *g, struct sl_session *s)
{
    link_out(g, s);
    if (g->on_end != NULL)
        g->on_end(g->on_end_ctx, s);
    session_free(s);
}

void sl_gate_end_key(struct sl_gate *g, const uint8_t key[SL_NOISE_KEY])
{
    struct sl_session *s = *key_bucket(g, key);
    while (s != NULL) {
        struct sl_session *next = s->next_by_key;
        if (same_key(s, key))
            sl_gate_end(g, s);
        s = next;
    }
}

/* Room for one more pending session of this key: the oldest of SL_PENDING_PER_KEY gives
 * way. */
static void make_room(struct sl_gate *g, const uint8_t key[SL_NOISE_KEY])
{
    struct sl_session *oldest = NULL;
    unsigned n = 0;
    for (struct sl_session *s = *key_bucket(g, key); s != NULL; s = s->next_by_key) {
        if (!same_key(s, key) || s->established)
            continue;
        n++;
        oldest = s; /* newer ones are in front */
    }
    if (n >= SL_PENDING_PER_KEY)
        sl_gate_end(g, oldest);
}

/* --- life
 * ---------------------------------------------------------------------------------------
 */

enum sl_code sl_gate_new(const struct sl_gate_config *config, struct sl_gate **ret,
                         struct sl_err *err)
{
    if (config->max_sessions < 1 || config->max_sessions > 1000000)
        return sl_err_set(err, SL_E_RANGE, "max_sessions %u: allowed is 1 to 1000000",
                          (unsigned)config->max_sessions);
    if (config->welcome_bytes > SL_HELLO_MAX)
        return sl_err_set(err, SL_E_RANGE, "welcome: at most %d bytes", SL_HELLO_MAX);
    struct sl_gate *g = calloc(1, sizeof(*g));
    if (g == NULL)
        return sl_err_set(err, SL_E_NOMEM, "session table: out of memory");
    g->config = *config;
    g->paid_us = INT64_MIN / 2;
    g->n_buckets = power_of_two(config->max_sessions);
    g->by_id = calloc(g->n_buckets, sizeof(struct sl_session *));
    g->by_key = calloc(g->n_buckets, sizeof(struct sl_session *));
    if (g->by_id == NULL || g->by_key == NULL) {
        sl_gate_free(g);
        return sl_err_set(err, SL_E_NOMEM, "session table: out of memory");
    }
    /* seeded from the secret: whoever does not know it cannot aim at one bucket */
    crypto_generichash(g->hash_key, sizeof(g->hash_key), config->secret, SL_NOISE_KEY,
                       (const uint8_t *)prologue, sizeof(prologue));
    *ret = g;
    return SL_OK;
}

void sl_gate_free(struct sl_gate *g)
{
    if (g == NULL)
        return;
    for (uint32_t i = 0; i < g->n_sessions; i++) {
        if (g->on_end != NULL)
            g->on_end(g->on_end_ctx, g->slots[i]);
        session_free(g->slots[i]);
    }
    free(g->slots);
    free(g->by_id);
    free(g->by_key);
    sodium_memzero(g, sizeof(*g));
    free(g);
}

void sl_gate_on_end(struct sl_gate *g, void (*on_end)(void *ctx, struct sl_session *s),
                    void *ctx)
{
    g->on_end = on_end;
    g->on_end_ctx = ctx;
}

struct sl_gate_stats sl_gate_stats(const struct sl_gate *g)
{
    struct sl_gate_stats st = g->stats;
    st.sessions = g->n_sessions;
    st.established = g->n_established;
    return st;
}

/* An established session outlives the hour after which its client handshakes again by a
 * grace. */
static bool expired(const struct sl_session *s, uint64_t now_ms)
{
    uint64_t span =
        s->established ? SL_SESSION_MAX_MS + SL_SESSION_GRACE_MS : SL_PENDING_MAX_MS;
    return now_ms - s->born_ms >= span;
}

void sl_gate_expire(struct sl_gate *g, uint64_t now_ms, uint32_t budget)
{
    for (uint32_t i = 0; i < budget && g->n_sessions > 0; i++) {
        if (g->sweep >= g->n_sessions) {
            if (i >= g->n_sessions)
                return; /* all were looked at */
            g->sweep = 0;
        }
        struct sl_session *s = g->slots[g->sweep];
        if (expired(s, now_ms))
            sl_gate_end(g, s); /* the last one now stands in this slot */
        else
            g->sweep++;
    }
}

/* --- handshake -------------------------------------------------------------------- */

/* At most one second's worth in a burst: each handshake pays for its share of a second,
 * and unpaid time older than a second is lost. */
static bool within_quota(struct sl_gate *g, uint64_t now_ms)
{
    const int64_t second = 1000000, now = (int64_t)now_ms * 1000;
    if (g->config.handshakes_per_second == 0)
        return false;
    int64_t share = second / g->config.handshakes_per_second;
    if (g->paid_us < now - second)
        g->paid_us = now - second;
    if (g->paid_us + share > now)
        return false;
    g->paid_us += share;
    return true;
}

/* What message 1 leads to. For a token: the psk that message 2 is made with. */
static enum sl_welcome_status judge(struct sl_gate *g, const struct sl_noise *x,
                                    const struct sl_hello *hello, uint32_t *ret_client,
                                    uint8_t ret_psk[SL_NOISE_KEY])
{
    const struct sl_gate_config *c = &g->config;
    enum sl_key_status known = c->find_key(c->ctx, x->rs, ret_client);
    bool token_good = x->pattern == SL_NOISE_IKPSK2 && hello->has_token &&
                      c->find_token(c->ctx, hello->token, x->rs, ret_psk);
    if (known != SL_KEY_ENROLLED)
        *ret_client = UINT32_MAX;
    if (known == SL_KEY_REVOKED)
        return SL_REFUSED_REVOKED;
    if (x->pattern == SL_NOISE_IKPSK2)
        return token_good ? SL_WELCOME : SL_REFUSED_TOKEN;
    return known == SL_KEY_ENROLLED ? SL_WELCOME : SL_REFUSED_UNKNOWN_KEY;
}

static struct sl_session *add_session(struct sl_gate *g, uint64_t now_ms,
                                      const struct sl_noise *done,
                                      const struct sl_hello *hello, uint32_t client,
                                      uint64_t id)
{
    uint8_t send[SL_NOISE_KEY], recv[SL_NOISE_KEY];
    struct sl_session *s = grow_slots(g) ? calloc(1, sizeof(*s)) : NULL;
    if (s == NULL)
        return NULL;
    sl_noise_split(done, send, recv);
    s->keys = sl_keys_new(id, send, recv);
    sodium_memzero(send, sizeof(send));
    sodium_memzero(recv, sizeof(recv));
    if (s->keys == NULL) {
        free(s);
        return NULL;
    }
    s->id = id;
    s->born_ms = now_ms;
    s->client = client;
    s->has_token = hello->has_token;
    memcpy(s->token, hello->token, SL_TOKEN_ID);
    memcpy(s->key, done->rs, SL_NOISE_KEY);
    link_in(g, s);
    return s;
}

static bool id_is_free(struct sl_gate *g, uint64_t id)
{
    return id != 0 && sl_gate_find(g, id) == NULL;
}

/* Message 2: the whole frame; 0 when it could not be made. */
static size_t write_reply(struct sl_gate *g, struct sl_noise *x,
                          enum sl_welcome_status status, uint64_t id, uint8_t *reply)
{
    struct sl_welcome w = {.status = status, .session = status == SL_WELCOME ? id : 0};
    if (status == SL_WELCOME) {
        w.n = g->config.welcome_bytes;
        memcpy(w.bytes, g->config.welcome, w.n);
    }
    uint8_t payload[SL_HELLO_BYTES_MAX];
    size_t n = 0;
    struct sl_envelope head = {.kind = SL_ENV_REPLY};
    sl_envelope_pack(&head, reply);
    if (sl_noise_write(x, payload, sl_welcome_pack(&w, payload),
                       reply + SL_ENVELOPE_BYTES,
                       SL_HANDSHAKE_FRAME_MAX - SL_ENVELOPE_BYTES, &n, NULL) != SL_OK)
        return 0;
    return SL_ENVELOPE_BYTES + n;
}

/* Message 1 was read: judge, answer, and keep a pending session when it is welcome. */
static size_t answer_handshake(struct sl_gate *g, uint64_t now_ms, struct sl_noise *x,
                               const struct sl_hello *hello, uint64_t id, uint8_t *reply)
{
    uint8_t psk[SL_NOISE_KEY] = {0};
    uint32_t client = UINT32_MAX;
    enum sl_welcome_status status = judge(g, x, hello, &client, psk);
    if (status != SL_WELCOME)
        memset(psk, 0, sizeof(psk));
    if (x->pattern == SL_NOISE_IKPSK2)
        sl_noise_set_psk(x, psk);
    sodium_memzero(psk, sizeof(psk));
    if (status == SL_WELCOME) {
        make_room(g, x->rs);
        if (g->n_sessions >= g->config.max_sessions || !id_is_free(g, id))
            return 0;
    }
    size_t n = write_reply(g, x, status, id, reply);
    if (n == 0)
        return 0;
    if (status != SL_WELCOME)
        g->stats.refused++;
    else if (add_session(g, now_ms, x, hello, client, id) == NULL)
        return 0;
    return n;
}

static enum sl_gate_verdict take_handshake(struct sl_gate *g, uint64_t now_ms,
                                           enum sl_noise_pattern pattern,
                                           const uint8_t *msg, size_t n,
                                           const struct sl_gate_random *random,
                                           uint8_t *reply, size_t *ret_n)
{
    if (n < SL_NOISE_MSG1_EXTRA || n > SL_NOISE_MSG1_EXTRA + SL_HELLO_BYTES_MAX) {
        g->stats.failed++;
        return SL_GATE_DROP;
    }
    if (!within_quota(g, now_ms)) {
        g->stats.over_quota++;
        return SL_GATE_DROP;
    }
    struct sl_noise x;
    struct sl_hello hello;
    uint8_t payload[SL_HELLO_BYTES_MAX];
    size_t payload_bytes = 0, n_reply = 0;
    sl_noise_init(&x, pattern, false, prologue, sizeof(prologue), g->config.secret,
                  random->ephemeral, NULL);
    if (sl_noise_read(&x, msg, n, payload, sizeof(payload), &payload_bytes, NULL) ==
            SL_OK &&
        sl_hello_parse(payload, payload_bytes, &hello, NULL) == SL_OK &&
        hello.has_token == (pattern == SL_NOISE_IKPSK2))
        n_reply = answer_handshake(g, now_ms, &x, &hello, random->session, reply);
    sl_noise_wipe(&x);
    if (n_reply == 0) {
        g->stats.failed++;
        return SL_GATE_DROP;
    }
    g->stats.handshakes++;
    *ret_n = n_reply;
    return SL_GATE_ANSWER;
}

/* --- frames and records ----------------------------------------------------------- */

static enum sl_gate_verdict take_request(struct sl_gate *g, uint64_t now_ms,
                                         const struct sl_envelope *head, size_t n,
                                         uint8_t *reply, size_t *ret_n,
                                         struct sl_session **ret_session)
{
    if (n < SL_RECORD_EXTRA)
        return SL_GATE_DROP;
    struct sl_session *s = sl_gate_find(g, head->session);
    if (s != NULL && expired(s, now_ms)) {
        sl_gate_end(g, s);
        s = NULL;
    }
    if (s == NULL) {
        g->stats.no_session++;
        sl_no_session_frame(head->session, reply);
        *ret_n = SL_ENVELOPE_BYTES;
        return SL_GATE_ANSWER;
    }
    *ret_session = s;
    return SL_GATE_RECORD;
}

enum sl_gate_verdict sl_gate_frame(struct sl_gate *g, uint64_t now_ms,
                                   const uint8_t *frame, size_t n,
                                   const struct sl_gate_random *random, uint8_t *reply,
                                   size_t *ret_n, struct sl_session **ret_session,
                                   struct sl_envelope *ret_head)
{
    struct sl_envelope head;
    if (sl_envelope_parse(frame, n, &head, NULL) != SL_OK) {
        g->stats.failed++;
        return SL_GATE_DROP;
    }
    enum sl_gate_verdict v = SL_GATE_DROP;
    switch (head.kind) {
    case SL_ENV_IK1:
    case SL_ENV_IKPSK1:
        v = take_handshake(
            g, now_ms, head.kind == SL_ENV_IK1 ? SL_NOISE_IK : SL_NOISE_IKPSK2,
            frame + SL_ENVELOPE_BYTES, n - SL_ENVELOPE_BYTES, random, reply, ret_n);
        break;
    case SL_ENV_REQUEST:
        v = take_request(g, now_ms, &head, n, reply, ret_n, ret_session);
        if (v == SL_GATE_RECORD)
            *ret_head = head;
        break;
    case SL_ENV_REPLY:
    case SL_ENV_RESPONSE:
    case SL_ENV_NO_SESSION:
        break; /* only a coordinator sends these */
    }
    return v;
}

/* The first valid request of s: it becomes its client's session. */
static void establish(struct sl_gate *g, uint64_t now_ms, struct sl_session *s)
{
    struct sl_session *old = sl_gate_of_key(g, s->key);
    if (old != NULL)
        sl_gate_end(g, old);
    s->established = true;
    s->born_ms = now_ms;
    g->n_established++;
}

struct sl_accept sl_gate_accept(struct sl_gate *g, uint64_t now_ms, struct sl_session *s,
                                const struct sl_envelope *head, uint64_t cookie,
                                bool *ret_first, bool *ret_ended)
{
    *ret_first = *ret_ended = false;
    if (!s->established) {
        uint32_t client;
        enum sl_key_status known = g->config.find_key(g->config.ctx, s->key, &client);
        if (known == SL_KEY_REVOKED || (known == SL_KEY_UNKNOWN && !s->has_token)) {
            sl_gate_end(g, s);
            *ret_ended = true;
            return (struct sl_accept){.verdict = SL_ACCEPT_DROP};
        }
        if (known == SL_KEY_ENROLLED)
            s->client = client;
        establish(g, now_ms, s);
        *ret_first = true;
    }
    return sl_peer_accept(&s->peer, head, cookie);
}
