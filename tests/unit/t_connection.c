/* SPDX-License-Identifier: Apache-2.0 */
/* A connection against a listener and a gate in the same loop. */
#include "client/connection.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <sodium.h>
#include <uv.h>

#include "common/keyfile.h"

struct world {
    uv_loop_t loop;
    uv_timer_t limit; /* ends a run that hangs */
    bool hung;
    /* coordinator */
    struct sl_listener *listener;
    struct sl_gate *gate;
    uint16_t port;
    uint8_t secret[32], client_public[32];
    enum sl_key_status key_status;
    bool token_good, token_used;
    int hold; /* so many requests stay unanswered */
    int registers;
    uint8_t big[SL_CHUNK_BYTES];
    /* client */
    struct sl_connection *connection;
    struct sl_connection_config config;
    struct sl_pool *pool;
    uv_async_t wake;
    int ups, downs, replies, refusals;
    uint64_t last_id;
    struct sl_msg last;
    size_t got_bytes;
    bool got_right;
    bool closed, listener_closed;
};

static uint64_t now_ms(void)
{
    return uv_hrtime() / 1000000u;
}

/* --- coordinator
 * -------------------------------------------------------------------------------------
 */

static enum sl_key_status find_key(void *ctx, const uint8_t key[SL_NOISE_KEY],
                                   uint32_t *ret_client)
{
    struct world *w = ctx;
    *ret_client = 3;
    return memcmp(key, w->client_public, 32) == 0 ? w->key_status : SL_KEY_UNKNOWN;
}

static bool find_token(void *ctx, const uint8_t token[SL_TOKEN_ID],
                       const uint8_t key[SL_NOISE_KEY], uint8_t ret_psk[SL_NOISE_KEY])
{
    struct world *w = ctx;
    memset(ret_psk, 7, SL_NOISE_KEY);
    return w->token_good && token[0] == 9;
}

static void make_gate(struct world *w)
{
    struct sl_err err;
    struct sl_gate_config g = {.max_sessions = 10,
                               .handshakes_per_second = 1000,
                               .ctx = w,
                               .find_key = find_key,
                               .find_token = find_token};
    memcpy(g.secret, w->secret, 32);
    sl_gate_free(w->gate);
    assert_int_equal(sl_gate_new(&g, &w->gate, &err), SL_OK);
}

static void answer(struct world *w, const struct sl_msg *q, struct sl_msg *m)
{
    *m = (struct sl_msg){.kind = SL_MSG_ACK, .ack.ok = true};
    if (q->kind == SL_MSG_REGISTER) {
        w->registers++;
        *m = (struct sl_msg){.kind = SL_MSG_REGISTERED, .registered.index = 3};
    } else if (q->kind == SL_MSG_GET_CHUNK) {
        *m = (struct sl_msg){.kind = SL_MSG_CHUNK,
                             .chunk = {q->get_chunk.id, 0, sizeof w->big, true},
                             .attachment = w->big,
                             .attachment_bytes = sizeof w->big};
    } else if (q->kind == SL_MSG_PUT_CHUNK) {
        w->got_bytes = q->attachment_bytes;
        w->got_right = memcmp(q->attachment, w->big, q->attachment_bytes) == 0;
    }
}

static void on_record(struct world *w, struct sl_request *req, struct sl_frame *frame,
                      struct sl_session *s)
{
    struct sl_envelope head;
    struct sl_err err;
    struct sl_msg q, m;
    size_t n, got;
    bool first, ended;
    assert_int_equal(
        sl_record_open(s->keys, SL_ENV_REQUEST, frame->data, frame->n, &head, &n, &err),
        SL_OK);
    struct sl_accept a = sl_gate_accept(w->gate, now_ms(), s, &head, 1, &first, &ended);
    if (first && s->has_token) {
        w->token_used = true;
        w->key_status = SL_KEY_ENROLLED;
    }
    assert_int_equal(a.verdict, SL_ACCEPT_EXECUTE);
    assert_int_equal(
        sl_wire_unpack(frame->data + SL_ENVELOPE_BYTES, n, SL_TO_COORDINATOR, &q, &err),
        SL_OK);
    if (w->hold > 0) {
        w->hold--;
        sl_frame_free(frame);
        sl_request_drop(req);
        return;
    }
    answer(w, &q, &m);
    n = sl_wire_size(&m);
    struct sl_frame out;
    assert_true(sl_frame_alloc(SL_RECORD_EXTRA + n, &out));
    assert_int_equal(sl_wire_pack(&m, out.data + SL_ENVELOPE_BYTES, n, &got, &err),
                     SL_OK);
    sl_peer_answered(&s->peer, head.counter, false, NULL, 0, NULL);
    struct sl_envelope back = {
        .kind = SL_ENV_RESPONSE, .session = head.session, .other = head.counter};
    assert_true(sl_peer_next(&s->peer, &back.counter));
    sl_record_seal(s->keys, &back, out.data, n);
    sl_frame_free(frame);
    sl_request_reply(req, &out);
}

static void on_request(void *ctx, struct sl_request *req, struct sl_frame *frame)
{
    struct world *w = ctx;
    uint8_t reply[SL_HANDSHAKE_FRAME_MAX];
    size_t n;
    struct sl_gate_random random;
    struct sl_session *s;
    struct sl_envelope head;
    randombytes_buf(&random, sizeof random);
    switch (sl_gate_frame(w->gate, now_ms(), frame->data, frame->n, &random, reply, &n,
                          &s, &head)) {
    case SL_GATE_DROP:
        sl_frame_free(frame);
        sl_request_drop(req);
        return;
    case SL_GATE_ANSWER:
        assert_true(sl_frame_resize(frame, n));
        memcpy(frame->data, reply, n);
        sl_request_reply(req, frame);
        return;
    case SL_GATE_RECORD:
        on_record(w, req, frame, s);
        return;
    }
}

static void listener_closed(void *ctx)
{
    ((struct world *)ctx)->listener_closed = true;
}

/* --- client's events
 * ------------------------------------------------------------------------------------ */

static void on_up(void *ctx)
{
    ((struct world *)ctx)->ups++;
}

static void on_down(void *ctx)
{
    ((struct world *)ctx)->downs++;
}

static void on_reply(void *ctx, uint64_t id, const struct sl_msg *m)
{
    struct world *w = ctx;
    w->replies++;
    w->last_id = id;
    w->last = *m;
    if (m->kind == SL_MSG_CHUNK)
        w->got_right = m->attachment_bytes == sizeof w->big &&
                       memcmp(m->attachment, w->big, sizeof w->big) == 0;
}

static void on_refused(void *ctx, const struct sl_err *err)
{
    ((struct world *)ctx)->refusals++;
}

static void wake(void *ctx)
{
    uv_async_send(&((struct world *)ctx)->wake);
}

static void on_wake(uv_async_t *a)
{
    sl_pool_poll(((struct world *)a->data)->pool);
}

static void on_limit(uv_timer_t *t)
{
    ((struct world *)t->data)->hung = true;
}

static void on_closed(void *ctx)
{
    ((struct world *)ctx)->closed = true;
}

#define RUN_UNTIL(w, condition)                                                          \
    do {                                                                                 \
        uv_timer_start(&(w)->limit, on_limit, 20000, 0);                                 \
        while (!(condition) && !(w)->hung)                                               \
            uv_run(&(w)->loop, UV_RUN_ONCE);                                             \
        assert_false((w)->hung);                                                         \
    } while (0)

/* --- fixture
 * ------------------------------------------------------------------------------------------------
 */

static int setup(void **state)
{
    struct sl_err err;
    struct world *w = calloc(1, sizeof *w);
    assert_true(sodium_init() >= 0);
    uv_loop_init(&w->loop);
    uv_timer_init(&w->loop, &w->limit);
    uv_async_init(&w->loop, &w->wake, on_wake);
    w->limit.data = w->wake.data = w;
    w->key_status = SL_KEY_ENROLLED;
    randombytes_buf(w->secret, 32);
    randombytes_buf(w->big, sizeof w->big);
    make_gate(w);
    struct sl_listener_options lo = {.max_frame = SL_WIRE_FRAME_MAX};
    struct sl_listener_events le = {
        .ctx = w, .on_request = on_request, .on_closed = listener_closed};
    assert_int_equal(
        sl_listener_open(&w->loop, "tcp://127.0.0.1:0", &lo, &le, &w->listener, &err),
        SL_OK);
    w->port = sl_listener_port(w->listener);
    assert_int_equal(sl_pool_new(1, wake, w, &w->pool, &err), SL_OK);
    w->config.executor = sl_pool_executor(w->pool);
    randombytes_buf(w->config.link.secret, 32);
    sl_keyfile_public(w->config.link.secret, w->client_public);
    sl_keyfile_public(w->secret, w->config.link.server);
    *state = w;
    return 0;
}

static void client_open(struct world *w)
{
    struct sl_err err;
    char url[64];
    struct sl_connection_events e = {
        .ctx = w, .up = on_up, .down = on_down, .reply = on_reply, .refused = on_refused};
    snprintf(url, sizeof url, "tcp://127.0.0.1:%u", (unsigned)w->port);
    w->config.url = url;
    assert_int_equal(sl_connection_open(&w->loop, &w->config, &e, &w->connection, &err),
                     SL_OK);
}

static int teardown(void **state)
{
    struct world *w = *state;
    sl_listener_close(w->listener);
    sl_connection_close(w->connection, on_closed, w);
    RUN_UNTIL(w, w->closed && w->listener_closed);
    sl_pool_free(w->pool);
    sl_connection_free(w->connection);
    sl_gate_free(w->gate);
    uv_close((uv_handle_t *)&w->limit, NULL);
    uv_close((uv_handle_t *)&w->wake, NULL);
    uv_run(&w->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&w->loop), 0);
    free(w);
    return 0;
}

static void send_register(struct world *w, uint64_t id)
{
    struct sl_msg m = {.kind = SL_MSG_REGISTER, .reg = {.name = "c", .index = -1}};
    sl_connection_send(w->connection, id, &m);
}

/* --- tests
 * ---------------------------------------------------------------------------------------------------
 */

static void requests_are_answered_in_a_session(void **state)
{
    struct world *w = *state;
    client_open(w);
    RUN_UNTIL(w, w->ups == 1);
    send_register(w, 11);
    RUN_UNTIL(w, w->replies == 1);
    assert_int_equal(w->last_id, 11);
    assert_int_equal(w->last.kind, SL_MSG_REGISTERED);
    assert_int_equal(w->last.registered.index, 3);
}

static void whole_chunks_go_both_ways_through_workers(void **state)
{
    struct world *w = *state;
    client_open(w);
    RUN_UNTIL(w, w->ups == 1);
    struct sl_msg get = {.kind = SL_MSG_GET_CHUNK, .get_chunk.length = SL_CHUNK_BYTES};
    for (uint64_t id = 1; id <= 4; id++)
        sl_connection_send(w->connection, id, &get);
    RUN_UNTIL(w, w->replies == 4);
    assert_true(w->got_right);
    w->got_right = false;
    struct sl_msg put = {.kind = SL_MSG_PUT_CHUNK,
                         .put_chunk = {.blob.size = 2 * SL_CHUNK_BYTES},
                         .attachment = w->big,
                         .attachment_bytes = sizeof w->big};
    sl_connection_send(w->connection, 5, &put);
    RUN_UNTIL(w, w->replies == 5);
    assert_int_equal(w->got_bytes, sizeof w->big);
    assert_true(w->got_right);
}

static void unknown_key_is_refused_for_good(void **state)
{
    struct world *w = *state;
    w->key_status = SL_KEY_UNKNOWN;
    client_open(w);
    RUN_UNTIL(w, w->refusals == 1);
    assert_int_equal(w->ups, 0);
}

static void revoked_key_is_refused_for_good(void **state)
{
    struct world *w = *state;
    w->key_status = SL_KEY_REVOKED;
    client_open(w);
    RUN_UNTIL(w, w->refusals == 1);
}

static void give_token(struct world *w)
{
    w->config.link.has_token = true;
    w->config.link.token[0] = 9;
    memset(w->config.link.psk, 7, 32);
}

static void new_key_enrols_with_its_token(void **state)
{
    struct world *w = *state;
    w->key_status = SL_KEY_UNKNOWN;
    w->token_good = true;
    give_token(w);
    w->config.token_first = true;
    client_open(w);
    RUN_UNTIL(w, w->ups == 1);
    send_register(w, 1);
    RUN_UNTIL(w, w->replies == 1);
    assert_true(w->token_used);
}

static void unknown_key_falls_back_to_its_token(void **state)
{
    struct world *w = *state;
    w->key_status = SL_KEY_UNKNOWN;
    w->token_good = true;
    give_token(w);
    client_open(w);
    RUN_UNTIL(w, w->ups == 1);
    send_register(w, 1);
    RUN_UNTIL(w, w->replies == 1);
    assert_true(w->token_used);
}

static void enrolled_key_leaves_its_token_alone(void **state)
{
    struct world *w = *state;
    w->token_good = true;
    give_token(w);
    client_open(w);
    RUN_UNTIL(w, w->ups == 1);
    send_register(w, 1);
    RUN_UNTIL(w, w->replies == 1);
    assert_false(w->token_used);
}

static void bad_token_is_refused_for_good(void **state)
{
    struct world *w = *state;
    w->key_status = SL_KEY_UNKNOWN;
    give_token(w);
    client_open(w);
    RUN_UNTIL(w, w->refusals == 1);
    assert_int_equal(w->ups, 0);
}

static void coordinator_that_forgot_the_session_gets_a_new_one(void **state)
{
    struct world *w = *state;
    client_open(w);
    RUN_UNTIL(w, w->ups == 1);
    send_register(w, 1);
    RUN_UNTIL(w, w->replies == 1);
    make_gate(w); /* a restart */
    send_register(w, 2);
    RUN_UNTIL(w, w->downs == 1 && w->ups == 2);
    assert_int_equal(w->replies, 1);
    send_register(w, 3);
    RUN_UNTIL(w, w->replies == 2);
    assert_int_equal(w->last_id, 3);
}

static void request_without_a_session_is_told_to_be_lost(void **state)
{
    struct world *w = *state;
    client_open(w);
    send_register(w, 1);
    assert_int_equal(w->downs, 0); /* not from inside */
    RUN_UNTIL(w, w->downs == 1 && w->ups == 1);
    send_register(w, 2);
    RUN_UNTIL(w, w->replies == 1);
}

static void closing_with_requests_open_tells_nobody(void **state)
{
    struct world *w = *state;
    client_open(w);
    RUN_UNTIL(w, w->ups == 1);
    w->hold = 3;
    for (uint64_t id = 1; id <= 3; id++)
        send_register(w, id);
    RUN_UNTIL(w, w->hold == 0);
    assert_int_equal(w->replies, 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(requests_are_answered_in_a_session),
        T(whole_chunks_go_both_ways_through_workers),
        T(unknown_key_is_refused_for_good),
        T(revoked_key_is_refused_for_good),
        T(new_key_enrols_with_its_token),
        T(unknown_key_falls_back_to_its_token),
        T(enrolled_key_leaves_its_token_alone),
        T(bad_token_is_refused_for_good),
        T(coordinator_that_forgot_the_session_gets_a_new_one),
        T(request_without_a_session_is_told_to_be_lost),
        T(closing_with_requests_open_tells_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
