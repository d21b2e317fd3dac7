/* SPDX-License-Identifier: Apache-2.0 */
/* Links and a gate, frame in, frame out, with a registry made of two arrays. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/handshake.h"

#define N_CLIENTS 8

struct world {
    struct sl_gate *gate;
    struct sl_gate_random random; /* of the latest frame; a new one for each */
    uint64_t now;
    uint8_t server_pub[32];
    uint8_t secret[N_CLIENTS][32], pub[N_CLIENTS][32];
    enum sl_key_status status[N_CLIENTS];
    uint8_t token[SL_TOKEN_ID], psk[32];
    bool token_good;
    int n_ended;
};

static enum sl_key_status find_key(void *ctx, const uint8_t key[32], uint32_t *ret_client)
{
    struct world *w = ctx;
    for (uint32_t i = 0; i < N_CLIENTS; i++) {
        if (memcmp(w->pub[i], key, 32) == 0) {
            *ret_client = i;
            return w->status[i];
        }
    }
    return SL_KEY_UNKNOWN;
}

static bool find_token(void *ctx, const uint8_t token[SL_TOKEN_ID], const uint8_t key[32],
                       uint8_t ret_psk[32])
{
    struct world *w = ctx;
    (void)key;
    if (!w->token_good || memcmp(token, w->token, SL_TOKEN_ID) != 0)
        return false;
    memcpy(ret_psk, w->psk, 32);
    return true;
}

static void on_end(void *ctx, struct sl_session *s)
{
    (void)s;
    ((struct world *)ctx)->n_ended++;
}

static struct sl_gate_config gate_config(struct world *w)
{
    struct sl_gate_config c = {.max_sessions = 100,
                               .handshakes_per_second = 1000,
                               .welcome = "welcome",
                               .welcome_bytes = 7,
                               .ctx = w,
                               .find_key = find_key,
                               .find_token = find_token};
    memset(c.secret, 0x77, 32);
    return c;
}

static void open_gate(struct world *w, const struct sl_gate_config *c)
{
    sl_gate_free(w->gate);
    assert_int_equal(sl_gate_new(c, &w->gate, NULL), SL_OK);
    sl_gate_on_end(w->gate, on_end, w);
}

static int world_open(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    struct sl_gate_config c = gate_config(w);
    w->now = 1000000;
    sl_noise_public(c.secret, w->server_pub);
    for (int i = 0; i < N_CLIENTS; i++) {
        memset(w->secret[i], 0x10 + i, 32);
        sl_noise_public(w->secret[i], w->pub[i]);
        w->status[i] = SL_KEY_ENROLLED;
    }
    memset(w->token, 0x33, sizeof(w->token));
    memset(w->psk, 0x44, sizeof(w->psk));
    w->token_good = true;
    open_gate(w, &c);
    *state = w;
    return 0;
}

static int world_close(void **state)
{
    struct world *w = *state;
    sl_gate_free(w->gate);
    free(w);
    return 0;
}

static struct sl_link make_link(const struct world *w, int client, bool token)
{
    struct sl_link_config c = {.has_token = token, .hello = "hello", .hello_bytes = 5};
    memcpy(c.secret, w->secret[client], 32);
    memcpy(c.server, w->server_pub, 32);
    memcpy(c.token, w->token, SL_TOKEN_ID);
    memcpy(c.psk, w->psk, 32);
    struct sl_link l;
    sl_link_init(&l, &c);
    return l;
}

struct frame {
    uint8_t b[SL_HANDSHAKE_FRAME_MAX];
    size_t n;
};

static struct frame start(struct world *w, struct sl_link *l)
{
    struct frame f;
    uint8_t e[32];
    randombytes_buf(e, sizeof(e));
    assert_int_equal(sl_link_start(l, w->now, e, f.b, &f.n, NULL), SL_OK);
    return f;
}

static enum sl_gate_verdict to_gate(struct world *w, const struct frame *in,
                                    struct frame *out, struct sl_session **ret_s)
{
    struct sl_envelope head;
    struct sl_session *s = NULL;
    randombytes_buf(&w->random, sizeof(w->random));
    out->n = 0;
    enum sl_gate_verdict v = sl_gate_frame(w->gate, w->now, in->b, in->n, &w->random,
                                           out->b, &out->n, &s, &head);
    if (ret_s != NULL)
        *ret_s = s;
    return v;
}

static void shake(struct world *w, struct sl_link *l)
{
    struct frame up = start(w, l), down;
    assert_int_equal(to_gate(w, &up, &down, NULL), SL_GATE_ANSWER);
    assert_int_equal(sl_link_reply(l, w->now, down.b, down.n, NULL), SL_OK);
}

static struct frame request(struct sl_link *l, const char *text)
{
    struct frame f;
    uint64_t counter, oldest;
    assert_int_equal(sl_caller_next(&l->caller, &counter, &oldest), SL_OK);
    struct sl_envelope head = {SL_ENV_REQUEST, sl_keys_session(l->keys), counter, oldest};
    f.n = strlen(text) + SL_RECORD_EXTRA;
    memcpy(f.b + SL_ENVELOPE_BYTES, text, strlen(text));
    sl_record_seal(l->keys, &head, f.b, strlen(text));
    return f;
}

struct took {
    enum sl_gate_verdict gate;
    enum sl_code open;
    struct sl_accept accept;
    bool first, ended;
    uint32_t client;
};

/* A request all the way: found, opened, accepted. */
static struct took take(struct world *w, struct frame f)
{
    struct took t = {0};
    struct frame down;
    struct sl_session *s;
    t.gate = to_gate(w, &f, &down, &s);
    if (t.gate != SL_GATE_RECORD)
        return t;
    struct sl_envelope head;
    size_t plain;
    t.client = s->client;
    t.open = sl_record_open(s->keys, SL_ENV_REQUEST, f.b, f.n, &head, &plain, NULL);
    if (t.open == SL_OK)
        t.accept = sl_gate_accept(w->gate, w->now, s, &head, 1, &t.first, &t.ended);
    return t;
}

static void an_enrolled_key_gets_a_session_and_both_ends_agree(void **state)
{
    struct world *w = *state;
    struct sl_link l = make_link(w, 3, false);
    assert_int_equal(sl_link_handshake_in(&l, w->now), 0);
    shake(w, &l);
    assert_int_equal(l.welcome_bytes, 7);
    assert_memory_equal(l.welcome, "welcome", 7);
    assert_true(sl_link_handshake_in(&l, w->now) == UINT64_MAX);
    struct took t = take(w, request(&l, "first"));
    assert_int_equal(t.gate, SL_GATE_RECORD);
    assert_int_equal(t.open, SL_OK);
    assert_int_equal(t.accept.verdict, SL_ACCEPT_EXECUTE);
    assert_true(t.first);
    assert_int_equal(t.client, 3);
    t = take(w, request(&l, "second"));
    assert_false(t.first);
    assert_int_equal(t.accept.verdict, SL_ACCEPT_EXECUTE);
    sl_link_deinit(&l);
}

static enum sl_code refusal(struct world *w, struct sl_link *l, struct sl_err *err)
{
    struct frame up = start(w, l), down;
    assert_int_equal(to_gate(w, &up, &down, NULL), SL_GATE_ANSWER);
    return sl_link_reply(l, w->now, down.b, down.n, err);
}

static void revoked_and_unknown_keys_are_told_so_in_secret(void **state)
{
    struct world *w = *state;
    struct sl_err err = {0};
    struct sl_link l = make_link(w, 0, false);
    w->status[0] = SL_KEY_REVOKED;
    assert_int_equal(refusal(w, &l, &err), SL_E_REFUSED);
    assert_int_equal(sl_code_exit_status(SL_E_REFUSED), 3);
    assert_non_null(strstr(err.msg, "revoked"));
    w->status[0] = SL_KEY_UNKNOWN;
    assert_int_equal(refusal(w, &l, &err), SL_E_REFUSED);
    assert_non_null(strstr(err.msg, "not enrolled"));
    assert_int_equal(sl_gate_stats(w->gate).sessions, 0);
    assert_int_equal(sl_gate_stats(w->gate).refused, 2);
    sl_link_deinit(&l);
}

static void nobody_but_the_coordinator_can_refuse(void **state)
{
    struct world *w = *state;
    struct sl_link l = make_link(w, 0, false);
    w->status[0] = SL_KEY_REVOKED;
    struct frame up = start(w, &l), down;
    assert_int_equal(to_gate(w, &up, &down, NULL), SL_GATE_ANSWER);
    for (size_t at = SL_ENVELOPE_BYTES; at < down.n; at++) {
        down.b[at] ^= 1;
        assert_int_equal(sl_link_reply(&l, w->now, down.b, down.n, NULL), SL_E_CRYPTO);
        down.b[at] ^= 1;
    }
    uint8_t clear[SL_ENVELOPE_BYTES];
    sl_no_session_frame(0, clear);
    assert_int_equal(sl_link_reply(&l, w->now, clear, sizeof(clear), NULL), SL_E_PROTO);
    assert_true(l.waiting); /* none of it ended the handshake */
    assert_int_equal(sl_link_reply(&l, w->now, down.b, down.n, NULL), SL_E_REFUSED);
    assert_int_equal(sl_link_reply(&l, w->now, down.b, down.n, NULL), SL_E_PROTO);
    sl_link_deinit(&l);
}

static void a_token_enrols_and_is_used_up_at_the_first_valid_request(void **state)
{
    struct world *w = *state;
    w->status[5] = SL_KEY_UNKNOWN;
    struct sl_link l = make_link(w, 5, true);
    shake(w, &l);
    assert_true(w->token_good); /* the handshake alone changed nothing */
    struct sl_session *s = sl_gate_find(w->gate, sl_keys_session(l.keys));
    assert_non_null(s);
    assert_true(s->has_token);
    assert_false(s->established);
    assert_memory_equal(s->token, w->token, SL_TOKEN_ID);
    assert_null(sl_gate_of_key(w->gate, w->pub[5]));
    struct took t = take(w, request(&l, "register"));
    assert_true(t.first);
    assert_true(t.client == UINT32_MAX);
    assert_ptr_equal(sl_gate_of_key(w->gate, w->pub[5]), s);

    w->token_good = false; /* what a coordinator does with ret_first */
    w->status[5] = SL_KEY_ENROLLED;
    struct sl_link thief = make_link(w, 6, true);
    struct sl_err err = {0};
    assert_int_equal(refusal(w, &thief, &err), SL_E_REFUSED);
    assert_non_null(strstr(err.msg, "token"));
    sl_link_drop_token(&l);
    shake(w, &l);
    assert_true(take(w, request(&l, "again")).first);
    sl_link_deinit(&l);
    sl_link_deinit(&thief);
}

static void an_unknown_token_or_a_wrong_psk_gets_nothing(void **state)
{
    struct world *w = *state;
    struct sl_err err = {0};
    w->status[1] = SL_KEY_UNKNOWN;
    struct sl_link l = make_link(w, 1, true);
    l.config.token[0] ^= 1;
    assert_int_equal(refusal(w, &l, &err), SL_E_REFUSED);
    l.config.token[0] ^= 1;
    l.config.psk[0] ^= 1; /* knows the id, not the secret: cannot read the welcome */
    assert_int_equal(refusal(w, &l, &err), SL_E_CRYPTO);
    assert_null(l.keys);
    memset(w->psk, 0,
           sizeof(w->psk)); /* a gate that welcomes with a psk of zeros is none */
    assert_int_equal(refusal(w, &l, &err), SL_E_CRYPTO);
    assert_null(l.keys);
    sl_link_deinit(&l);
}

static void a_revoked_key_with_a_good_token_is_refused(void **state)
{
    struct world *w = *state;
    struct sl_err err = {0};
    w->status[1] = SL_KEY_REVOKED;
    struct sl_link l = make_link(w, 1, true);
    assert_int_equal(refusal(w, &l, &err), SL_E_REFUSED);
    assert_non_null(strstr(err.msg, "revoked"));
    sl_link_deinit(&l);
}

static void another_coordinator_key_gets_no_answer(void **state)
{
    struct world *w = *state;
    struct sl_link l = make_link(w, 0, false);
    uint8_t other[32];
    memset(other, 0x78, 32);
    sl_noise_public(other, l.config.server);
    struct frame up = start(w, &l), down;
    assert_int_equal(to_gate(w, &up, &down, NULL), SL_GATE_DROP);
    assert_int_equal(sl_gate_stats(w->gate).failed, 1);
    sl_link_deinit(&l);
}

static void a_new_session_replaces_the_old_only_at_its_first_valid_request(void **state)
{
    struct world *w = *state;
    struct sl_link old = make_link(w, 2, false), new = make_link(w, 2, false);
    shake(w, &old);
    assert_int_equal(take(w, request(&old, "a")).accept.verdict, SL_ACCEPT_EXECUTE);
    shake(w, &new);
    assert_int_equal(take(w, request(&old, "b")).accept.verdict, SL_ACCEPT_EXECUTE);
    struct frame forged = request(&new, "c"), real = forged;
    forged.b[forged.n - 1] ^= 1;
    assert_int_equal(take(w, forged).open, SL_E_CRYPTO);
    assert_int_equal(take(w, request(&old, "d")).accept.verdict, SL_ACCEPT_EXECUTE);
    assert_int_equal(w->n_ended, 0);
    assert_true(take(w, real).first);
    assert_int_equal(w->n_ended, 1);
    assert_int_equal(take(w, request(&old, "e")).gate, SL_GATE_ANSWER); /* no session */
    assert_int_equal(take(w, real).accept.verdict, SL_ACCEPT_UNDER_WAY);
    sl_link_deinit(&old);
    sl_link_deinit(&new);
}

static void a_replayed_message_1_ends_nothing(void **state)
{
    struct world *w = *state;
    struct sl_link l = make_link(w, 2, false);
    struct frame up = start(w, &l), down;
    assert_int_equal(to_gate(w, &up, &down, NULL), SL_GATE_ANSWER);
    assert_int_equal(sl_link_reply(&l, w->now, down.b, down.n, NULL), SL_OK);
    assert_true(take(w, request(&l, "a")).first);
    for (int i = 0; i < 20; i++)
        assert_int_equal(to_gate(w, &up, &down, NULL), SL_GATE_ANSWER);
    assert_int_equal(take(w, request(&l, "b")).accept.verdict, SL_ACCEPT_EXECUTE);
    struct sl_gate_stats st = sl_gate_stats(w->gate);
    assert_int_equal(st.established, 1);
    assert_int_equal(st.sessions, 1 + SL_PENDING_PER_KEY);
    sl_link_deinit(&l);
}

static void no_session_makes_the_client_handshake_at_most_once_a_second(void **state)
{
    struct world *w = *state;
    struct sl_link l = make_link(w, 0, false);
    shake(w, &l);
    struct frame f = request(&l, "x"), down;
    sl_gate_end_key(w->gate, w->pub[0]);
    assert_int_equal(to_gate(w, &f, &down, NULL), SL_GATE_ANSWER);
    assert_int_equal(down.n, SL_ENVELOPE_BYTES);
    struct sl_envelope head;
    assert_int_equal(sl_envelope_parse(down.b, down.n, &head, NULL), SL_OK);
    assert_int_equal(head.kind, SL_ENV_NO_SESSION);
    sl_link_no_session(&l, head.session + 1); /* another one: nothing */
    assert_true(sl_link_handshake_in(&l, w->now) == UINT64_MAX);
    w->now += 400;
    sl_link_no_session(&l, head.session);
    assert_int_equal(sl_link_handshake_in(&l, w->now), 600);
    w->now += 600;
    assert_int_equal(sl_link_handshake_in(&l, w->now), 0);
    assert_non_null(l.keys); /* a forged one has ended nothing */
    start(w, &l);
    sl_link_no_session(&l, head.session);
    assert_int_equal(sl_link_handshake_in(&l, w->now), SL_HANDSHAKE_PATIENCE_MS);
    w->now += SL_HANDSHAKE_PATIENCE_MS;
    assert_int_equal(sl_link_handshake_in(&l, w->now), 0);
    shake(w, &l);
    assert_true(sl_link_handshake_in(&l, w->now) == UINT64_MAX);
    assert_int_equal(sl_link_handshake_in(&l, w->now + SL_SESSION_MAX_MS), 0);
    sl_link_deinit(&l);
}

static void revocation_ends_sessions_established_and_pending(void **state)
{
    struct world *w = *state;
    struct sl_link a = make_link(w, 0, false), b = make_link(w, 0, false),
                   other = make_link(w, 1, false);
    shake(w, &a);
    assert_true(take(w, request(&a, "x")).first);
    shake(w, &b);
    shake(w, &other);
    w->status[0] = SL_KEY_REVOKED;
    struct took t = take(w, request(&b, "x")); /* pending: the key is looked at again */
    assert_true(t.ended);
    assert_int_equal(t.accept.verdict, SL_ACCEPT_DROP);
    sl_gate_end_key(w->gate, w->pub[0]);
    assert_int_equal(take(w, request(&a, "y")).gate, SL_GATE_ANSWER);
    assert_true(take(w, request(&other, "x")).first);
    struct sl_err err = {0};
    assert_int_equal(refusal(w, &a, &err), SL_E_REFUSED);
    sl_link_deinit(&a);
    sl_link_deinit(&b);
    sl_link_deinit(&other);
}

static void sessions_expire(void **state)
{
    struct world *w = *state;
    struct sl_link a = make_link(w, 0, false), b = make_link(w, 1, false);
    shake(w, &a);
    assert_true(take(w, request(&a, "x")).first);
    shake(w, &b);
    w->now += SL_PENDING_MAX_MS - 1;
    sl_gate_expire(w->gate, w->now, 100);
    assert_int_equal(sl_gate_stats(w->gate).sessions, 2);
    w->now += 1;
    assert_int_equal(take(w, request(&b, "late")).gate, SL_GATE_ANSWER);
    assert_int_equal(sl_gate_stats(w->gate).sessions, 1);
    w->now += SL_SESSION_MAX_MS + SL_SESSION_GRACE_MS;
    sl_gate_expire(w->gate, w->now, 1);
    assert_int_equal(sl_gate_stats(w->gate).sessions, 0);
    assert_int_equal(sl_gate_stats(w->gate).established, 0);
    sl_link_deinit(&a);
    sl_link_deinit(&b);
}

static void the_quota_of_handshakes_holds(void **state)
{
    struct world *w = *state;
    struct sl_gate_config c = gate_config(w);
    c.handshakes_per_second = 10;
    open_gate(w, &c);
    struct sl_link l = make_link(w, 0, false);
    struct frame up = start(w, &l), down;
    int answered = 0;
    for (int i = 0; i < 50; i++)
        answered += to_gate(w, &up, &down, NULL) == SL_GATE_ANSWER;
    assert_int_equal(answered, 10);
    w->now += 300;
    for (int i = 0; i < 50; i++)
        answered += to_gate(w, &up, &down, NULL) == SL_GATE_ANSWER;
    assert_int_equal(answered, 13);
    w->now += 100000; /* unused seconds are not saved up */
    for (int i = 0; i < 50; i++)
        answered += to_gate(w, &up, &down, NULL) == SL_GATE_ANSWER;
    assert_int_equal(answered, 23);
    assert_int_equal(sl_gate_stats(w->gate).over_quota, 127);
    sl_link_deinit(&l);
}

static void a_full_table_takes_nobody_and_bad_limits_are_named(void **state)
{
    struct world *w = *state;
    struct sl_gate_config c = gate_config(w);
    c.max_sessions = 2;
    open_gate(w, &c);
    struct sl_link l[3];
    for (int i = 0; i < 3; i++)
        l[i] = make_link(w, i, false);
    shake(w, &l[0]);
    shake(w, &l[1]);
    struct frame up = start(w, &l[2]), down;
    assert_int_equal(to_gate(w, &up, &down, NULL), SL_GATE_DROP);
    w->now += SL_PENDING_MAX_MS;
    sl_gate_expire(w->gate, w->now, 10);
    shake(w, &l[2]);
    for (int i = 0; i < 3; i++)
        sl_link_deinit(&l[i]);
    struct sl_gate *g = NULL;
    struct sl_err err = {0};
    c.max_sessions = 0;
    assert_int_equal(sl_gate_new(&c, &g, &err), SL_E_RANGE);
    c.max_sessions = 1000001;
    assert_int_equal(sl_gate_new(&c, &g, &err), SL_E_RANGE);
    assert_non_null(strstr(err.msg, "1000000"));
    assert_null(g);
}

static void frames_out_of_shape_are_dropped(void **state)
{
    struct world *w = *state;
    struct sl_link l = make_link(w, 0, false);
    struct frame up = start(w, &l), down;
    for (size_t n = 0; n < up.n; n++) {
        struct frame cut = up;
        cut.n = n;
        assert_int_equal(to_gate(w, &cut, &down, NULL), SL_GATE_DROP);
    }
    struct frame swapped = up; /* IK under the kind of IKpsk2 */
    struct sl_envelope head = {.kind = SL_ENV_IKPSK1};
    sl_envelope_pack(&head, swapped.b);
    assert_int_equal(to_gate(w, &swapped, &down, NULL), SL_GATE_DROP);
    for (int kind = SL_ENV_REPLY; kind <= SL_ENV_NO_SESSION; kind++) {
        if (kind == SL_ENV_REQUEST)
            continue;
        head.kind = (enum sl_envelope_kind)kind;
        sl_envelope_pack(&head, swapped.b);
        assert_int_equal(to_gate(w, &swapped, &down, NULL), SL_GATE_DROP);
    }
    head = (struct sl_envelope){SL_ENV_REQUEST, 5, 0, 0}; /* shorter than a record */
    sl_envelope_pack(&head, swapped.b);
    swapped.n = SL_RECORD_EXTRA - 1;
    assert_int_equal(to_gate(w, &swapped, &down, NULL), SL_GATE_DROP);
    swapped.n = SL_RECORD_EXTRA;
    assert_int_equal(to_gate(w, &swapped, &down, NULL), SL_GATE_ANSWER);
    assert_true(down.n < swapped.n); /* no amplification */
    sl_link_deinit(&l);
}

static void many_sessions_are_found_and_ended(void **state)
{
    struct world *w = *state;
    struct sl_gate_config c = gate_config(w);
    c.max_sessions = 3000;
    c.handshakes_per_second = 1000000;
    open_gate(w, &c);
    enum { N = 600 };
    static uint64_t id[N];
    for (int i = 0; i < N; i++) {
        int client = i % N_CLIENTS;
        struct sl_link l = make_link(w, client, false);
        shake(w, &l);
        id[i] = sl_keys_session(l.keys);
        assert_true(take(w, request(&l, "x")).first);
        if (i >= N_CLIENTS) /* the same key's earlier one is gone */
            assert_null(sl_gate_find(w->gate, id[i - N_CLIENTS]));
        assert_int_equal(sl_gate_find(w->gate, id[i])->client, client);
        sl_link_deinit(&l);
    }
    assert_int_equal(sl_gate_stats(w->gate).established, N_CLIENTS);
    assert_int_equal(sl_gate_stats(w->gate).sessions, N_CLIENTS);
}

#define IN_WORLD(test) cmocka_unit_test_setup_teardown(test, world_open, world_close)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_WORLD(an_enrolled_key_gets_a_session_and_both_ends_agree),
        IN_WORLD(revoked_and_unknown_keys_are_told_so_in_secret),
        IN_WORLD(nobody_but_the_coordinator_can_refuse),
        IN_WORLD(a_token_enrols_and_is_used_up_at_the_first_valid_request),
        IN_WORLD(an_unknown_token_or_a_wrong_psk_gets_nothing),
        IN_WORLD(a_revoked_key_with_a_good_token_is_refused),
        IN_WORLD(another_coordinator_key_gets_no_answer),
        IN_WORLD(a_new_session_replaces_the_old_only_at_its_first_valid_request),
        IN_WORLD(a_replayed_message_1_ends_nothing),
        IN_WORLD(no_session_makes_the_client_handshake_at_most_once_a_second),
        IN_WORLD(revocation_ends_sessions_established_and_pending),
        IN_WORLD(sessions_expire),
        IN_WORLD(the_quota_of_handshakes_holds),
        IN_WORLD(a_full_table_takes_nobody_and_bad_limits_are_named),
        IN_WORLD(frames_out_of_shape_are_dropped),
        IN_WORLD(many_sessions_are_found_and_ended),
    };
    if (sodium_init() < 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
