/* SPDX-License-Identifier: Apache-2.0 */
/* A call is one request from its message to the message that answers it. Its session may
 * end while it is under way, in the transport or on a worker; the transport can't be
 * told, so the call goes on and is dropped when it comes back with an old session's
 * number. */
#include "client/connection.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "common/mem.h"

#define INLINE_BYTES                                                                     \
    ((size_t)64 << 10) /* smaller records are sealed and opened on the loop */
#define CONTEXTS                                                                         \
    16 /* the window twice, so that calls of a session that ended don't block */
#define POLL_RESEND_MS 10000  /* the coordinator holds a poll for 8 s */
#define CHUNK_RESEND_MS 60000 /* a slow uplink does not repeat its own uploads */
#define LOOK_AGAIN_MS 60000   /* has the session grown old? */
#define RECONNECT_MIN_MS 100
#define RECONNECT_MAX_MS 5000

struct call {
    struct sl_job job;
    struct sl_connection *connection;
    struct sl_keys *keys; /* a reference */
    struct sl_envelope head;
    struct sl_frame frame;
    uint64_t id;
    size_t plain_bytes;
    uint32_t resend_ms;
    enum sl_code opened;
};

struct sl_connection {
    struct sl_link link;
    struct sl_link_config again; /* with the token, for a key that turns out unknown */
    bool token_left;
    bool up, closing, handle_open, dialer_open;
    bool down_soon;   /* a request came while there was no session */
    bool asking;      /* a handshake is with the transport */
    uv_timer_t timer; /* handshakes */
    struct sl_dialer *dialer;
    const struct sl_executor *executor;
    struct sl_log *log;
    struct sl_connection_events events;
    void (*closed)(void *ctx);
    void *closed_ctx;
};

static void on_timer(uv_timer_t *t);

static uint64_t now_ms(void)
{
    return uv_hrtime() / 1000000u;
}

/* --- sessions
 * ------------------------------------------------------------------------------------ */

static void schedule(struct sl_connection *c)
{
    uint64_t in_ms = sl_link_handshake_in(&c->link, now_ms());
    if (c->closing)
        return;
    if (c->asking || in_ms == UINT64_MAX)
        in_ms = LOOK_AGAIN_MS;
    if (c->down_soon)
        in_ms = 0;
    uv_update_time(c->timer.loop);
    uv_timer_start(&c->timer, on_timer, in_ms, 0);
}

/* `down` is told from the timer, so that it never comes from inside a send. */
static void go_down(struct sl_connection *c)
{
    c->up = false;
    c->down_soon = true;
    schedule(c);
}

/* The key is not known, but there is a token that makes it so. */
static void try_token(struct sl_connection *c)
{
    c->token_left = false;
    sl_link_deinit(&c->link);
    sl_link_init(&c->link, &c->again);
}

static void on_handshake(void *ctx, enum sl_code rc, struct sl_frame *reply)
{
    struct sl_connection *c = ctx;
    struct sl_err err;
    c->asking = false;
    if (rc != SL_OK || c->closing) {
        if (reply != NULL)
            sl_frame_free(reply);
        schedule(c);
        return;
    }
    rc = sl_link_reply(&c->link, now_ms(), reply->data, reply->n, &err);
    sl_frame_free(reply);
    if (rc == SL_OK) {
        c->down_soon = false;
        c->up = true;
        c->events.up(c->events.ctx);
    } else if (rc == SL_E_REFUSED && c->token_left) {
        try_token(c);
    } else if (rc == SL_E_REFUSED) {
        c->closing = true; /* nothing more will come of it */
        c->events.refused(c->events.ctx, &err);
        return;
    } else {
        sl_log_write(c->log, SL_LOG_WARN, "handshake: %s", err.msg);
    }
    schedule(c);
}

static void handshake(struct sl_connection *c)
{
    struct sl_err err;
    struct sl_frame frame;
    uint8_t ephemeral[SL_NOISE_KEY];
    size_t n = 0;
    if (!sl_frame_alloc(SL_HANDSHAKE_FRAME_MAX, &frame))
        return;
    randombytes_buf(ephemeral, sizeof ephemeral);
    enum sl_code rc = sl_link_start(&c->link, now_ms(), ephemeral, frame.data, &n, &err);
    sodium_memzero(ephemeral, sizeof ephemeral);
    if (rc == SL_OK) {
        sl_frame_trim(&frame, n);
        rc = sl_dialer_request(c->dialer, &frame, SL_HANDSHAKE_PATIENCE_MS,
                               SL_HANDSHAKE_PATIENCE_MS, on_handshake, c);
        c->asking = rc == SL_OK;
    } else {
        sl_log_write(c->log, SL_LOG_ERROR, "handshake: %s", err.msg);
        sl_frame_free(&frame);
    }
}

static void on_timer(uv_timer_t *t)
{
    struct sl_connection *c = t->data;
    if (c->closing)
        return;
    if (c->down_soon) {
        c->down_soon = false;
        c->events.down(c->events.ctx);
    }
    if (!c->asking && sl_link_handshake_in(&c->link, now_ms()) == 0)
        handshake(c);
    schedule(c);
}

/* --- calls
 * ---------------------------------------------------------------------------------------
 */

static void call_free(struct call *k)
{
    sl_frame_free(&k->frame);
    sl_keys_unref(k->keys);
    free(k);
}

static bool current(const struct call *k)
{
    const struct sl_connection *c = k->connection;
    return !c->closing && c->up && c->link.keys != NULL &&
           sl_keys_session(c->link.keys) == k->head.session;
}

/* An answer that does not authenticate, or none at all: only a new session helps. */
static void renew(struct sl_connection *c)
{
    sl_link_no_session(&c->link, sl_keys_session(c->link.keys));
    go_down(c);
}

static void deliver(struct call *k)
{
    struct sl_connection *c = k->connection;
    struct sl_err err;
    struct sl_msg m;
    if (!current(k)) {
        call_free(k);
        return;
    }
    if (k->opened != SL_OK) {
        sl_log_write(c->log, SL_LOG_WARN,
               "an answer does not authenticate; starting a new session");
        renew(c);
    } else if (sl_caller_answered(&c->link.caller, &k->head)) {
        if (sl_wire_unpack(k->frame.data + SL_ENVELOPE_BYTES, k->plain_bytes,
                           SL_TO_CLIENT, &m, &err) != SL_OK) {
            sl_log_write(c->log, SL_LOG_ERROR, "answer of the coordinator: %s", err.msg);
            renew(c);
        } else {
            c->events.reply(c->events.ctx, k->id, &m);
        }
    }
    call_free(k);
}

static void open_run(struct sl_job *job)
{
    struct call *k = (struct call *)job;
    struct sl_err err;
    k->opened = sl_record_open(k->keys, SL_ENV_RESPONSE, k->frame.data, k->frame.n,
                               &k->head, &k->plain_bytes, &err);
}

static void open_done(struct sl_job *job, void *ctx)
{
    deliver((struct call *)job);
}

static void open_answer(struct call *k)
{
    if (k->frame.n < INLINE_BYTES) {
        open_run(&k->job);
        deliver(k);
        return;
    }
    k->job = (struct sl_job){.run = open_run, .done = open_done};
    sl_executor_submit(k->connection->executor, &k->job);
}

static void on_answer(void *ctx, enum sl_code rc, struct sl_frame *reply)
{
    struct call *k = ctx;
    struct sl_connection *c = k->connection;
    struct sl_envelope head;
    struct sl_err err;
    if (rc != SL_OK) {
        if (current(k))
            renew(c);
        call_free(k);
        return;
    }
    k->frame = *reply;
    *reply = (struct sl_frame){0};
    if (!current(k)) {
        call_free(k);
        return;
    }
    rc = sl_envelope_parse(k->frame.data, k->frame.n, &head, &err);
    if (rc == SL_OK && head.kind == SL_ENV_NO_SESSION) {
        sl_link_no_session(&c->link, head.session);
        if (head.session == k->head.session)
            go_down(c);
        call_free(k);
        return;
    }
    open_answer(k);
}

static void dispatch(struct call *k)
{
    if (!current(k)) {
        call_free(k);
        return;
    }
    struct sl_frame frame = k->frame;
    k->frame = (struct sl_frame){0};
    if (sl_dialer_request(k->connection->dialer, &frame, k->resend_ms, 0, on_answer, k) !=
        SL_OK) {
        renew(k->connection);
        call_free(k);
    }
}

static void seal_run(struct sl_job *job)
{
    struct call *k = (struct call *)job;
    sl_record_seal(k->keys, &k->head, k->frame.data, k->plain_bytes);
}

static void seal_done(struct sl_job *job, void *ctx)
{
    dispatch((struct call *)job);
}

static void seal(struct call *k)
{
    if (k->plain_bytes < INLINE_BYTES) {
        seal_run(&k->job);
        dispatch(k);
        return;
    }
    k->job = (struct sl_job){.run = seal_run, .done = seal_done};
    sl_executor_submit(k->connection->executor, &k->job);
}

/* The message as plaintext in a frame, with its number in the session. */
static enum sl_code prepare(struct call *k, const struct sl_msg *m, struct sl_err *err)
{
    struct sl_connection *c = k->connection;
    size_t n = sl_wire_size(m);
    if (!sl_frame_alloc(SL_RECORD_EXTRA + n, &k->frame))
        return sl_err_set(err, SL_E_NOMEM, "no memory for a request of %zu bytes", n);
    enum sl_code rc =
        sl_wire_pack(m, k->frame.data + SL_ENVELOPE_BYTES, n, &k->plain_bytes, err);
    if (rc != SL_OK)
        return rc;
    k->keys = sl_keys_ref(c->link.keys);
    k->head = (struct sl_envelope){.kind = SL_ENV_REQUEST,
                                   .session = sl_keys_session(c->link.keys)};
    rc = sl_caller_next(&c->link.caller, &k->head.counter, &k->head.other);
    return rc == SL_OK ? SL_OK
                       : sl_err_set(err, rc, "the session takes no more requests");
}

void sl_connection_send(struct sl_connection *c, uint64_t id, const struct sl_msg *m)
{
    struct sl_err err;
    if (!c->up) {
        go_down(c);
        return;
    }
    struct call *k = sl_calloc(1, sizeof *k);
    if (k == NULL) {
        renew(c);
        return;
    }
    k->connection = c;
    k->id = id;
    k->resend_ms = m->kind == SL_MSG_PUT_CHUNK || m->kind == SL_MSG_GET_CHUNK
                       ? CHUNK_RESEND_MS
                       : POLL_RESEND_MS;
    if (prepare(k, m, &err) == SL_OK) {
        seal(k);
        return;
    }
    sl_log_write(c->log, SL_LOG_ERROR, "%s: %s", sl_msg_kind_name(m->kind), err.msg);
    call_free(k);
    renew(c);
}

/* --- opening and closing
 * -------------------------------------------------------------------------- */

static void on_link(void *ctx, bool up)
{
    struct sl_connection *c = ctx;
    sl_log_write(c->log, up ? SL_LOG_INFO : SL_LOG_WARN,
           up ? "connected" : "connection lost; trying again");
}

static void maybe_closed(struct sl_connection *c)
{
    if (!c->handle_open && !c->dialer_open && c->closed != NULL)
        c->closed(c->closed_ctx);
}

static void dialer_closed(void *ctx)
{
    struct sl_connection *c = ctx;
    c->dialer_open = false;
    maybe_closed(c);
}

static void timer_closed(uv_handle_t *h)
{
    struct sl_connection *c = h->data;
    c->handle_open = false;
    maybe_closed(c);
}

enum sl_code sl_connection_open(struct uv_loop_s *loop,
                                const struct sl_connection_config *config,
                                const struct sl_connection_events *events,
                                struct sl_connection **ret, struct sl_err *err)
{
    struct sl_connection *c = sl_calloc(1, sizeof *c);
    if (c == NULL)
        return sl_err_set(err, SL_E_NOMEM, "connection: no memory");
    c->executor = config->executor;
    c->log = config->log;
    c->events = *events;
    c->again = config->link;
    c->token_left = config->link.has_token && !config->token_first;
    sl_link_init(&c->link, &config->link);
    if (c->token_left)
        sl_link_drop_token(&c->link);
    struct sl_dialer_options options = {.max_frame = SL_WIRE_FRAME_MAX,
                                        .contexts = CONTEXTS,
                                        .reconnect_min_ms = RECONNECT_MIN_MS,
                                        .reconnect_max_ms = RECONNECT_MAX_MS};
    struct sl_dialer_events dialer = {
        .ctx = c, .on_link = on_link, .on_closed = dialer_closed};
    enum sl_code rc =
        sl_dialer_open(loop, config->url, &options, &dialer, &c->dialer, err);
    if (rc != SL_OK) {
        sl_connection_free(c);
        return rc;
    }
    c->dialer_open = c->handle_open = true;
    uv_timer_init(loop, &c->timer);
    c->timer.data = c;
    schedule(c);
    *ret = c;
    return SL_OK;
}

void sl_connection_enrolled(struct sl_connection *c)
{
    c->token_left = false;
    sl_link_drop_token(&c->link);
}

void sl_connection_close(struct sl_connection *c, void (*closed)(void *ctx), void *ctx)
{
    c->closing = true;
    c->closed = closed;
    c->closed_ctx = ctx;
    uv_close((uv_handle_t *)&c->timer, timer_closed);
    sl_dialer_close(c->dialer);
}

void sl_connection_free(struct sl_connection *c)
{
    if (c == NULL)
        return;
    sl_link_deinit(&c->link);
    sodium_memzero(&c->again, sizeof c->again);
    free(c);
}
