/* SPDX-License-Identifier: Apache-2.0 */
#include "server/service.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "common/mem.h"

/* One request, from the frame that brought it to the frame that answers it. A repetition of a
 * request that is still under way takes the place of the earlier arrival in its call. */
struct call {
    struct sl_job job; /* opening or sealing on a worker */
    struct sl_service *service;
    struct sl_request *request; /* NULL: its connection is gone, nobody to answer */
    struct sl_frame frame;
    struct sl_keys *keys; /* a reference for the worker */
    struct sl_envelope head;
    size_t plain_bytes;
    enum sl_code opened;
    uint64_t session;
    uint32_t client;
    enum { CALL_OPENING, CALL_WITH_COORDINATOR, CALL_SEALING } phase;
    struct call *next_free;
};

struct sl_service {
    struct sl_service_config config;
    struct sl_gate *gate;
    struct sl_listener *listener;
    struct sl_coordinator *coordinator;
    struct call *free_calls;
    uint32_t n_calls, n_jobs;
    uint64_t rejected;
    bool closing;
    void (*on_closed)(void *ctx);
    void *closed_ctx;
};

static uint64_t now_of(const struct sl_service *s)
{
    return s->config.now_ms(s->config.ctx);
}

/* --- calls ----------------------------------------------------------------------------------- */

static struct call *call_new(struct sl_service *s, struct sl_request *req)
{
    struct call *c = s->free_calls;
    if (c != NULL)
        s->free_calls = c->next_free;
    else if ((c = malloc(sizeof(*c))) == NULL)
        return NULL;
    *c = (struct call){.service = s, .request = req, .client = UINT32_MAX};
    s->n_calls++;
    sl_request_set_user(req, c);
    return c;
}

static void call_free(struct call *c)
{
    struct sl_service *s = c->service;
    struct sl_session *session = sl_gate_find(s->gate, c->session);
    if (session != NULL)
        session->n_calls--;
    sl_frame_free(&c->frame);
    sl_keys_unref(c->keys);
    c->keys = NULL;
    c->next_free = s->free_calls;
    s->free_calls = c;
    s->n_calls--;
}

static void drop(struct call *c)
{
    if (c->request != NULL)
        sl_request_drop(c->request);
    c->request = NULL;
    call_free(c);
}

/* --- answers --------------------------------------------------------------------------------- */

static void send_sealed(struct call *c)
{
    if (c->request != NULL)
        sl_request_reply(c->request, &c->frame);
    c->request = NULL;
    call_free(c);
}

static void seal_run(struct sl_job *job)
{
    struct call *c = (struct call *)job;
    sl_record_seal(c->keys, &c->head, c->frame.data, c->plain_bytes);
}

static void seal_done(struct sl_job *job, void *ctx)
{
    struct call *c = (struct call *)job;
    (void)ctx;
    c->service->n_jobs--;
    send_sealed(c);
}

/* The plaintext of plain_bytes lies in c->frame at SL_ENVELOPE_BYTES: gives it a counter, seals,
 * sends. */
static void seal_and_send(struct call *c, struct sl_session *session)
{
    struct sl_service *s = c->service;
    c->head = (struct sl_envelope){.kind = SL_ENV_RESPONSE,
                                   .session = c->session,
                                   .other = c->head.counter};
    if (!sl_peer_next(&session->peer, &c->head.counter)) {
        sl_gate_end(s->gate, session); /* its counters are used up: the client starts anew */
        drop(c);
        return;
    }
    if (c->keys == NULL)
        c->keys = sl_keys_ref(session->keys);
    c->phase = CALL_SEALING;
    if (c->plain_bytes < SL_INLINE_BYTES) {
        seal_run(&c->job);
        send_sealed(c);
        return;
    }
    c->job = (struct sl_job){.run = seal_run, .done = seal_done};
    s->n_jobs++;
    sl_executor_submit(s->config.executor, &c->job);
}

static bool changes_state(enum sl_msg_kind reply)
{
    return reply == SL_MSG_PUT_REPLY || reply == SL_MSG_ACK || reply == SL_MSG_REGISTERED;
}

void sl_service_reply(struct sl_service *s, sl_request_id id, const struct sl_msg *m)
{
    struct call *c = (struct call *)(uintptr_t)id;
    struct sl_session *session = sl_gate_find(s->gate, c->session);
    if (session == NULL) {
        drop(c);
        return;
    }
    struct sl_err err;
    size_t n = sl_wire_size(m), got;
    if (!sl_frame_resize(&c->frame, SL_RECORD_EXTRA + n)) {
        sl_peer_forget(&session->peer, c->head.counter);
        drop(c);
        return;
    }
    uint8_t *plain = c->frame.data + SL_ENVELOPE_BYTES;
    if (sl_wire_pack(m, plain, n, &got, &err) != SL_OK) {
        sl_log_write(s->config.log, SL_LOG_ERROR, "reply to client %u: %s", c->client, err.msg);
        sl_peer_forget(&session->peer, c->head.counter);
        drop(c);
        return;
    }
    c->plain_bytes = n;
    sl_peer_answered(&session->peer, c->head.counter, changes_state(m->kind), plain, n, NULL);
    seal_and_send(c, session);
}

/* --- requests -------------------------------------------------------------------------------- */

static void reject(struct call *c, const char *what, const struct sl_err *err)
{
    struct sl_service *s = c->service;
    s->rejected++;
    sl_log_write(s->config.log, SL_LOG_WARN, "client %u: %s: %s", c->client, what, err->msg);
    struct sl_msg ack = {.kind = SL_MSG_ACK};
    snprintf(ack.ack.reason, sizeof(ack.ack.reason), "%.180s", err->msg);
    sl_service_reply(s, (uintptr_t)c, &ack);
}

/* First request of a session made with a join token: it must register, and enrols. */
static enum sl_code enrol(struct call *c, struct sl_session *session, const struct sl_msg *m,
                          struct sl_err *err)
{
    struct sl_service *s = c->service;
    if (m->kind != SL_MSG_REGISTER)
        return sl_err_set(err, SL_E_PROTO, "enrolment begins with register, not with %s",
                          sl_msg_kind_name(m->kind));
    return sl_coordinator_enrol(s->coordinator, now_of(s), session->token, session->key,
                                m->reg.name, m->reg.index, &session->client, err);
}

static void execute(struct call *c, struct sl_session *session)
{
    struct sl_service *s = c->service;
    struct sl_msg m;
    struct sl_err err = {0};
    c->client = session->client;
    if (sl_wire_unpack(c->frame.data + SL_ENVELOPE_BYTES, c->plain_bytes, SL_TO_COORDINATOR,
                       &m, &err) != SL_OK) {
        reject(c, "message refused", &err);
        return;
    }
    if (session->client == UINT32_MAX && session->has_token &&
        enrol(c, session, &m, &err) != SL_OK) {
        reject(c, "enrolment refused", &err);
        return;
    }
    c->client = session->client;
    if (c->client == UINT32_MAX) {
        sl_err_set(&err, SL_E_REFUSED, "not enrolled");
        reject(c, "message refused", &err);
        return;
    }
    sl_coordinator_message(s->coordinator, now_of(s), c->client, (uintptr_t)c, &m);
}

/* The record of c is open and authentic. */
static void accept_record(struct call *c)
{
    struct sl_service *s = c->service;
    struct sl_session *session = sl_gate_find(s->gate, c->session);
    if (session == NULL || c->request == NULL) {
        drop(c);
        return;
    }
    bool first, ended;
    struct sl_accept a = sl_gate_accept(s->gate, now_of(s), session, &c->head, (uintptr_t)c,
                                        &first, &ended);
    if (ended) {
        drop(c);
        return;
    }
    c->phase = CALL_WITH_COORDINATOR;
    switch (a.verdict) {
    case SL_ACCEPT_EXECUTE:
        execute(c, session);
        return;
    case SL_ACCEPT_RESEND:
        if (!sl_frame_resize(&c->frame, SL_RECORD_EXTRA + a.reply_bytes)) {
            drop(c);
            return;
        }
        memcpy(c->frame.data + SL_ENVELOPE_BYTES, a.reply, a.reply_bytes);
        c->plain_bytes = a.reply_bytes;
        seal_and_send(c, session);
        return;
    case SL_ACCEPT_UNDER_WAY: {
        /* the call that is under way answers the later arrival */
        struct call *earlier = (struct call *)(uintptr_t)a.old_cookie;
        struct sl_request *mine = c->request;
        if (earlier->request != NULL)
            sl_request_drop(earlier->request);
        earlier->request = mine;
        sl_request_set_user(mine, earlier);
        sl_peer_accept(&session->peer, &c->head, (uintptr_t)earlier); /* cookie back to it */
        c->request = NULL;
        call_free(c);
        return;
    }
    case SL_ACCEPT_DROP:
        drop(c);
        return;
    }
}

static void open_run(struct sl_job *job)
{
    struct call *c = (struct call *)job;
    struct sl_err err;
    c->opened = sl_record_open(c->keys, SL_ENV_REQUEST, c->frame.data, c->frame.n, &c->head,
                               &c->plain_bytes, &err);
}

static void opened(struct call *c)
{
    if (c->opened != SL_OK) {
        c->service->rejected++;
        sl_log_write(c->service->config.log, SL_LOG_DEBUG, "record of session %016llx does not authenticate",
                     (unsigned long long)c->session);
        drop(c);
        return;
    }
    accept_record(c);
}

static void open_done(struct sl_job *job, void *ctx)
{
    struct call *c = (struct call *)job;
    (void)ctx;
    c->service->n_jobs--;
    opened(c);
}

static void open_record(struct sl_service *s, struct sl_request *req, struct sl_frame *frame,
                        struct sl_session *session)
{
    bool too_many = session->n_calls >= s->config.inflight_per_client;
    struct call *c = too_many ? NULL : call_new(s, req);
    if (c == NULL) {
        s->rejected += too_many;
        sl_frame_free(frame);
        sl_request_drop(req);
        return;
    }
    session->n_calls++;
    c->frame = *frame;
    *frame = (struct sl_frame){0};
    c->session = session->id;
    c->keys = sl_keys_ref(session->keys);
    c->phase = CALL_OPENING;
    if (c->frame.n < SL_INLINE_BYTES) {
        open_run(&c->job);
        opened(c);
        return;
    }
    c->job = (struct sl_job){.run = open_run, .done = open_done};
    s->n_jobs++;
    sl_executor_submit(s->config.executor, &c->job);
}

static void answer_clear(struct sl_request *req, struct sl_frame *frame, const uint8_t *reply,
                         size_t n)
{
    if (!sl_frame_resize(frame, n)) {
        sl_frame_free(frame);
        sl_request_drop(req);
        return;
    }
    memcpy(frame->data, reply, n);
    sl_request_reply(req, frame);
}

static void on_request(void *ctx, struct sl_request *req, struct sl_frame *frame)
{
    struct sl_service *s = ctx;
    if (s->coordinator == NULL || s->closing) {
        sl_frame_free(frame);
        sl_request_drop(req);
        return;
    }
    struct sl_gate_random random;
    struct sl_envelope head;
    struct sl_err err;
    if (sl_envelope_parse(frame->data, frame->n, &head, &err) == SL_OK &&
        (head.kind == SL_ENV_IK1 || head.kind == SL_ENV_IKPSK1))
        randombytes_buf(&random, sizeof(random)); /* a system call: handshakes only */
    else
        memset(&random, 0, sizeof(random));
    uint8_t reply[SL_HANDSHAKE_FRAME_MAX];
    size_t n = 0;
    struct sl_session *session = NULL;
    switch (sl_gate_frame(s->gate, now_of(s), frame->data, frame->n, &random, reply, &n,
                          &session, &head)) {
    case SL_GATE_DROP:
        sl_frame_free(frame);
        sl_request_drop(req);
        return;
    case SL_GATE_ANSWER:
        answer_clear(req, frame, reply, n);
        return;
    case SL_GATE_RECORD:
        open_record(s, req, frame, session);
        return;
    }
}

static void on_gone(void *ctx, struct sl_request *req)
{
    struct sl_service *s = ctx;
    struct call *c = sl_request_user(req);
    if (c == NULL)
        return; /* dropped as soon as it is looked at */
    sl_request_drop(req);
    c->request = NULL;
    if (c->phase != CALL_WITH_COORDINATOR)
        return; /* the worker's completion finds nobody to answer */
    struct sl_session *session = sl_gate_find(s->gate, c->session);
    if (session != NULL)
        sl_peer_forget(&session->peer, c->head.counter);
    sl_coordinator_forget(s->coordinator, (uintptr_t)c);
    call_free(c);
}

/* --- the gate asks --------------------------------------------------------------------------- */

static enum sl_key_status find_key(void *ctx, const uint8_t key[SL_NOISE_KEY],
                                   uint32_t *ret_client)
{
    struct sl_service *s = ctx;
    struct sl_client_row row;
    if (sl_coordinator_key_known(s->coordinator, key, &row) != SL_OK ||
        row.state == SL_CLIENT_PENDING)
        return SL_KEY_UNKNOWN;
    if (row.state == SL_CLIENT_REVOKED)
        return SL_KEY_REVOKED;
    *ret_client = row.index;
    return SL_KEY_ENROLLED;
}

static bool find_token(void *ctx, const uint8_t token[SL_TOKEN_ID],
                       const uint8_t key[SL_NOISE_KEY], uint8_t ret_psk[SL_NOISE_KEY])
{
    struct sl_service *s = ctx;
    struct sl_err err;
    (void)key;
    return sl_coordinator_token_psk(s->coordinator, token, ret_psk, &err) == SL_OK;
}

/* --- life ------------------------------------------------------------------------------------- */

static void listener_closed(void *ctx)
{
    struct sl_service *s = ctx;
    s->listener = NULL;
    if (s->on_closed != NULL)
        s->on_closed(s->closed_ctx);
}

enum sl_code sl_service_new(struct uv_loop_s *loop, const struct sl_service_config *config,
                            struct sl_service **ret, struct sl_err *err)
{
    struct sl_service *s = sl_calloc(1, sizeof(*s));
    if (s == NULL)
        return sl_err_set(err, SL_E_NOMEM, "service");
    s->config = *config;
    struct sl_gate_config gate = {.max_sessions = config->max_sessions,
                                  .handshakes_per_second = config->handshakes_per_s,
                                  .ctx = s,
                                  .find_key = find_key,
                                  .find_token = find_token};
    memcpy(gate.secret, config->secret, SL_NOISE_KEY);
    enum sl_code rc = sl_gate_new(&gate, &s->gate, err);
    sodium_memzero(&gate, sizeof(gate));
    if (rc == SL_OK) {
        struct sl_listener_options options = {.max_frame = SL_WIRE_FRAME_MAX,
                                              .max_contexts = config->max_contexts};
        struct sl_listener_events events = {.ctx = s,
                                            .on_request = on_request,
                                            .on_gone = on_gone,
                                            .on_closed = listener_closed};
        rc = sl_listener_open(loop, config->listen, &options, &events, &s->listener, err);
    }
    if (rc != SL_OK) {
        sl_service_free(s);
        return rc;
    }
    *ret = s;
    return SL_OK;
}

void sl_service_serve(struct sl_service *s, struct sl_coordinator *c)
{
    s->coordinator = c;
}

uint16_t sl_service_port(const struct sl_service *s)
{
    return sl_listener_port(s->listener);
}

uint64_t sl_service_wire_bytes(const struct sl_service *s)
{
    if (s->listener == NULL)
        return 0;
    struct sl_wire_bytes b = sl_listener_bytes(s->listener);
    return b.rx + b.tx;
}

void sl_service_end_key(struct sl_service *s, const uint8_t key[SL_NOISE_KEY])
{
    sl_gate_end_key(s->gate, key);
}

void sl_service_tick(struct sl_service *s)
{
    sl_gate_expire(s->gate, now_of(s), 4096);
}

struct sl_gate_stats sl_service_stats(const struct sl_service *s)
{
    return sl_gate_stats(s->gate);
}

uint32_t sl_service_connections(const struct sl_service *s)
{
    return s->listener == NULL ? 0 : sl_listener_connections(s->listener);
}

uint64_t sl_service_rejected(const struct sl_service *s)
{
    return s->rejected;
}

void sl_service_close(struct sl_service *s, void (*on_closed)(void *ctx), void *ctx)
{
    s->closing = true;
    s->on_closed = on_closed;
    s->closed_ctx = ctx;
    sl_listener_close(s->listener);
}

void sl_service_free(struct sl_service *s)
{
    if (s == NULL)
        return;
    sl_gate_free(s->gate);
    while (s->free_calls != NULL) {
        struct call *next = s->free_calls->next_free;
        free(s->free_calls);
        s->free_calls = next;
    }
    sodium_memzero(&s->config, sizeof(s->config));
    free(s);
}
