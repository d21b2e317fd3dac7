/* SPDX-License-Identifier: Apache-2.0 */
/* Envelopes, records, replay window, reply cache, and a stormy run over all of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/limits.h"
#include "common/session.h"
#include "common/wire.h"

#define SESSION 0x1122334455667788u

struct ends {
    struct sl_keys *client, *server;
};

static int ends_open(void **state)
{
    static const uint8_t a[SL_NOISE_KEY] = {1, 2, 3}, b[SL_NOISE_KEY] = {4, 5, 6};
    struct ends *e = calloc(1, sizeof(*e));
    e->client = sl_keys_new(SESSION, a, b);
    e->server = sl_keys_new(SESSION, b, a);
    *state = e;
    return 0;
}

static int ends_close(void **state)
{
    struct ends *e = *state;
    sl_keys_unref(e->client);
    sl_keys_unref(e->server);
    free(e);
    return 0;
}

/* A sealed request with `text`; frame has 256 bytes. */
static size_t seal(const struct sl_keys *k, enum sl_envelope_kind kind, uint64_t counter,
                   uint64_t other, const char *text, uint8_t *frame)
{
    struct sl_envelope head = {kind, SESSION, counter, other};
    size_t n = strlen(text);
    memcpy(frame + SL_ENVELOPE_BYTES, text, n);
    sl_record_seal(k, &head, frame, n);
    return n + SL_RECORD_EXTRA;
}

static enum sl_code open_rc(const struct sl_keys *k, enum sl_envelope_kind want,
                            const uint8_t *frame, size_t n)
{
    uint8_t copy[256];
    struct sl_envelope head;
    size_t plain;
    memcpy(copy, frame, n);
    return sl_record_open(k, want, copy, n, &head, &plain, NULL);
}

/* --- envelope --------------------------------------------------------------------- */

static void an_envelope_has_one_size_and_one_encoding(void **state)
{
    (void)state;
    const struct sl_envelope cases[] = {
        {SL_ENV_IK1, 0, 0, 0},
        {SL_ENV_NO_SESSION, UINT64_MAX, 0, 0},
        {SL_ENV_REQUEST, 1, UINT64_MAX, UINT64_MAX},
        {SL_ENV_RESPONSE, 0x0102030405060708, 9, 10},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint8_t frame[SL_ENVELOPE_BYTES];
        struct sl_envelope back;
        sl_envelope_pack(&cases[i], frame);
        assert_int_equal(sl_envelope_parse(frame, sizeof(frame), &back, NULL), SL_OK);
        assert_int_equal(back.kind, cases[i].kind);
        assert_true(back.session == cases[i].session &&
                    back.counter == cases[i].counter && back.other == cases[i].other);
    }
    uint8_t frame[SL_ENVELOPE_BYTES];
    sl_envelope_pack(&cases[3], frame);
    static const uint8_t want[SL_ENVELOPE_BYTES] = {
        31, 0, 0x08, 1, 0x10, 5, 0x19, 8,    7,  6, 5, 4, 3, 2, 1, 0x21, 9,
        0,  0, 0,    0, 0,    0, 0,    0x29, 10, 0, 0, 0, 0, 0, 0, 0};
    assert_memory_equal(frame, want, sizeof(want));
    assert_int_equal(SL_RECORD_EXTRA, SL_WIRE_ENVELOPE_BYTES);
    assert_true(SL_WIRE_PLAIN_MAX + SL_RECORD_EXTRA <= SL_WIRE_FRAME_MAX);
}

static void every_other_header_is_refused(void **state)
{
    (void)state;
    const struct sl_envelope e = {SL_ENV_REQUEST, 7, 8, 9};
    uint8_t frame[SL_ENVELOPE_BYTES + 8] = {0};
    struct sl_envelope back = {.counter = 4711};
    sl_envelope_pack(&e, frame);
    for (size_t n = 0; n < SL_ENVELOPE_BYTES; n++)
        assert_int_equal(sl_envelope_parse(frame, n, &back, NULL), SL_E_PROTO);
    for (size_t at = 0; at < SL_ENVELOPE_BYTES; at++) {
        for (int v = 1; v < 256; v++) {
            frame[at] ^= (uint8_t)v;
            struct sl_envelope other;
            if (sl_envelope_parse(frame, sizeof(frame), &other, NULL) == SL_OK) {
                uint8_t again[SL_ENVELOPE_BYTES];
                sl_envelope_pack(&other, again);
                assert_memory_equal(again, frame, sizeof(again));
                assert_true(at == 5 || at >= 7); /* kind or a number */
            }
            frame[at] ^= (uint8_t)v;
        }
    }
    frame[3] = 2;
    struct sl_err err = {0};
    assert_int_equal(sl_envelope_parse(frame, sizeof(frame), &back, &err), SL_E_PROTO);
    assert_non_null(strstr(err.msg, "version 2"));
    assert_int_equal(back.counter, 4711);
}

static void handshake_payloads_keep_their_limits(void **state)
{
    (void)state;
    struct sl_hello h = {.has_token = true, .n = SL_HELLO_MAX}, h2;
    struct sl_welcome w = {.status = SL_WELCOME, .session = 5, .n = SL_HELLO_MAX}, w2;
    uint8_t out[SL_HELLO_BYTES_MAX + 1];
    memset(h.bytes, 0xab, sizeof(h.bytes));
    memset(h.token, 0xcd, sizeof(h.token));
    size_t n = sl_hello_pack(&h, out);
    assert_true(n <= SL_HELLO_BYTES_MAX);
    assert_int_equal(sl_hello_parse(out, n, &h2, NULL), SL_OK);
    assert_memory_equal(&h2, &h, sizeof(h));
    for (size_t cut = 1; cut < n; cut++) /* 18 = the token alone, a whole message */
        assert_true(sl_hello_parse(out, cut, &h2, NULL) != SL_OK || cut == 18);
    assert_int_equal(sl_hello_parse(out, SL_HELLO_BYTES_MAX + 1, &h2, NULL), SL_E_LIMIT);
    n = sl_welcome_pack(&w, out);
    assert_true(n <= SL_HELLO_BYTES_MAX);
    assert_int_equal(sl_welcome_parse(out, n, &w2, NULL), SL_OK);
    assert_int_equal(w2.n, SL_HELLO_MAX);
    w.status = SL_REFUSED_TOKEN; /* a refusal has no session */
    assert_int_equal(sl_welcome_parse(out, sl_welcome_pack(&w, out), &w2, NULL),
                     SL_E_PROTO);
    w.session = 0;
    assert_int_equal(sl_welcome_parse(out, sl_welcome_pack(&w, out), &w2, NULL), SL_OK);
    w.status = SL_REFUSED_TOKEN + 1;
    assert_int_equal(sl_welcome_parse(out, sl_welcome_pack(&w, out), &w2, NULL),
                     SL_E_PROTO);
    static const uint8_t long_token[] = {0x0a, 17, 1, 1, 1, 1, 1, 1, 1, 1,
                                         1,    1,  1, 1, 1, 1, 1, 1, 1};
    assert_int_equal(sl_hello_parse(long_token, sizeof(long_token), &h2, NULL),
                     SL_E_PROTO);
}

/* --- records ---------------------------------------------------------------------- */

static void records_of_all_small_sizes_come_back(void **state)
{
    struct ends *e = *state;
    char text[130];
    uint8_t frame[256];
    for (size_t n = 0; n < sizeof(text); n++) {
        memset(text, 'a' + (int)(n % 26), n);
        text[n] = '\0';
        size_t total = seal(e->client, SL_ENV_REQUEST, n, 0, text, frame);
        struct sl_envelope head;
        size_t plain = 999;
        assert_int_equal(
            sl_record_open(e->server, SL_ENV_REQUEST, frame, total, &head, &plain, NULL),
            SL_OK);
        assert_int_equal(plain, strlen(text));
        assert_int_equal(head.counter, n);
        assert_memory_equal(frame + SL_ENVELOPE_BYTES, text, plain);
    }
}

static void every_flipped_bit_of_a_record_is_refused(void **state)
{
    struct ends *e = *state;
    uint8_t frame[256];
    size_t n = seal(e->client, SL_ENV_REQUEST, 5, 3, "one update", frame);
    assert_int_equal(open_rc(e->server, SL_ENV_REQUEST, frame, n), SL_OK);
    for (size_t bit = 0; bit < n * 8; bit++) {
        frame[bit / 8] ^= (uint8_t)(1 << bit % 8);
        enum sl_code rc = open_rc(e->server, SL_ENV_REQUEST, frame, n);
        assert_true(rc == SL_E_CRYPTO || rc == SL_E_PROTO);
        if (bit / 8 >=
            SL_ENVELOPE_BYTES - 8) /* `other`, ciphertext: only the AEAD can tell */
            assert_int_equal(rc, SL_E_CRYPTO);
        frame[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    for (size_t cut = 0; cut < n; cut++)
        assert_int_not_equal(open_rc(e->server, SL_ENV_REQUEST, frame, cut), SL_OK);
}

static void a_record_opens_only_where_it_belongs(void **state)
{
    struct ends *e = *state;
    uint8_t frame[256];
    size_t n = seal(e->client, SL_ENV_REQUEST, 5, 3, "text", frame);
    assert_int_equal(open_rc(e->server, SL_ENV_RESPONSE, frame, n), SL_E_PROTO);
    assert_int_equal(open_rc(e->client, SL_ENV_REQUEST, frame, n),
                     SL_E_CRYPTO); /* reflected */
    struct sl_envelope head = {SL_ENV_RESPONSE, SESSION, 5,
                               3}; /* same text under another head */
    sl_envelope_pack(&head, frame);
    assert_int_equal(open_rc(e->server, SL_ENV_RESPONSE, frame, n), SL_E_CRYPTO);
    head = (struct sl_envelope){SL_ENV_REQUEST, SESSION, 5, 4};
    sl_envelope_pack(&head, frame);
    assert_int_equal(open_rc(e->server, SL_ENV_REQUEST, frame, n), SL_E_CRYPTO);
    head = (struct sl_envelope){SL_ENV_REQUEST, SESSION + 1, 5, 3};
    sl_envelope_pack(&head, frame);
    assert_int_equal(open_rc(e->server, SL_ENV_REQUEST, frame, n), SL_E_PROTO);
    head = (struct sl_envelope){SL_ENV_REQUEST, SESSION, SL_SESSION_MAX_MESSAGES, 3};
    sl_envelope_pack(&head, frame);
    assert_int_equal(open_rc(e->server, SL_ENV_REQUEST, frame, n), SL_E_PROTO);
}

static void a_whole_chunk_fits_one_record(void **state)
{
    struct ends *e = *state;
    uint8_t *frame = malloc(SL_WIRE_FRAME_MAX);
    for (size_t i = 0; i < SL_WIRE_PLAIN_MAX; i++)
        frame[SL_ENVELOPE_BYTES + i] = (uint8_t)(i * 7 + i / 256);
    struct sl_envelope head = {SL_ENV_RESPONSE, SESSION, 0, 0};
    sl_record_seal(e->server, &head, frame, SL_WIRE_PLAIN_MAX);
    size_t plain;
    assert_int_equal(sl_record_open(e->client, SL_ENV_RESPONSE, frame,
                                    SL_WIRE_PLAIN_MAX + SL_RECORD_EXTRA, &head, &plain,
                                    NULL),
                     SL_OK);
    assert_int_equal(plain, SL_WIRE_PLAIN_MAX);
    for (size_t i = 0; i < plain; i++)
        if (frame[SL_ENVELOPE_BYTES + i] != (uint8_t)(i * 7 + i / 256))
            fail_msg("byte %zu differs", i);
    free(frame);
}

/* --- window
 * -------------------------------------------------------------------------------------
 */

static void the_window_ends_exactly_where_it_says(void **state)
{
    (void)state;
    struct sl_window w = {0};
    assert_int_equal(sl_window_mark(&w, 0), SL_WINDOW_NEW);
    assert_int_equal(sl_window_mark(&w, 0), SL_WINDOW_SEEN);
    assert_int_equal(sl_window_mark(&w, SL_WINDOW - 1), SL_WINDOW_NEW);
    assert_int_equal(sl_window_mark(&w, 0), SL_WINDOW_SEEN); /* the last one remembered */
    assert_int_equal(sl_window_mark(&w, 1), SL_WINDOW_NEW);
    assert_int_equal(sl_window_mark(&w, SL_WINDOW), SL_WINDOW_NEW);
    assert_int_equal(sl_window_mark(&w, 0), SL_WINDOW_OLD);
    assert_int_equal(sl_window_mark(&w, 1), SL_WINDOW_SEEN);
    assert_int_equal(sl_window_mark(&w, 2), SL_WINDOW_NEW);
    uint64_t far = 10 * SL_WINDOW + 17; /* a jump over the whole ring clears it */
    assert_int_equal(sl_window_mark(&w, far), SL_WINDOW_NEW);
    assert_int_equal(sl_window_mark(&w, far - SL_WINDOW), SL_WINDOW_OLD);
    for (uint64_t c = far - SL_WINDOW + 1; c < far; c++)
        assert_int_equal(sl_window_mark(&w, c), SL_WINDOW_NEW);
    assert_int_equal(sl_window_mark(&w, UINT64_MAX), SL_WINDOW_OLD);
    assert_int_equal(sl_window_mark(&w, SL_SESSION_MAX_MESSAGES), SL_WINDOW_OLD);
    assert_int_equal(sl_window_mark(&w, SL_SESSION_MAX_MESSAGES - 1), SL_WINDOW_NEW);
    assert_int_equal(sl_window_mark(&w, SL_SESSION_MAX_MESSAGES - 1), SL_WINDOW_SEEN);
}

static uint32_t draw(uint32_t *s, uint32_t below)
{
    *s ^= *s << 13;
    *s ^= *s >> 17;
    *s ^= *s << 5;
    return *s % below;
}

static void a_thousand_permutations_are_accepted_once_each(void **state)
{
    (void)state;
    uint32_t seed = 12345;
    for (int round = 0; round < 1000; round++) {
        enum { N = 512 };
        uint64_t order[N];
        struct sl_window w = {0};
        for (uint32_t i = 0; i < N; i++) {
            uint32_t j = draw(&seed, i + 1);
            order[i] = order[j];
            order[j] = i;
        }
        for (uint32_t i = 0; i < N; i++) {
            assert_int_equal(sl_window_mark(&w, order[i]), SL_WINDOW_NEW);
            assert_int_equal(sl_window_mark(&w, order[draw(&seed, i + 1)]),
                             SL_WINDOW_SEEN);
        }
    }
}

static void the_window_agrees_with_a_plain_list(void **state)
{
    (void)state;
    enum { N = 20000 };
    static bool seen[N + 3000];
    memset(seen, 0, sizeof(seen));
    struct sl_window w = {0};
    uint32_t seed = 99;
    uint64_t newest = 0;
    bool any = false;
    for (int i = 0; i < 200000 && newest < N; i++) {
        uint64_t base = newest > 1500 ? newest - 1500 : 0;
        uint64_t c = base + draw(&seed, 1510);
        enum sl_window_verdict want = any && c + SL_WINDOW <= newest ? SL_WINDOW_OLD
                                      : seen[c]                      ? SL_WINDOW_SEEN
                                                                     : SL_WINDOW_NEW;
        if (sl_window_mark(&w, c) != want)
            fail_msg("step %d, counter %d, newest %d", i, (int)c, (int)newest);
        if (want == SL_WINDOW_NEW)
            seen[c] = true;
        if (!any || c > newest)
            newest = c;
        any = true;
    }
}

/* --- reply cache ------------------------------------------------------------------ */

static struct sl_accept arrive(struct sl_peer *p, uint64_t counter, uint64_t oldest,
                               uint64_t cookie)
{
    struct sl_envelope head = {SL_ENV_REQUEST, SESSION, counter, oldest};
    return sl_peer_accept(p, &head, cookie);
}

static void a_kept_reply_is_sent_again_and_a_read_is_executed_again(void **state)
{
    (void)state;
    struct sl_peer p = {0};
    uint64_t cookie = 0;
    assert_int_equal(arrive(&p, 0, 0, 100).verdict, SL_ACCEPT_EXECUTE);
    assert_true(sl_peer_answered(&p, 0, true, (const uint8_t *)"accepted", 8, &cookie));
    assert_int_equal(cookie, 100);
    assert_false(sl_peer_answered(&p, 0, true, (const uint8_t *)"other", 5, NULL));
    struct sl_accept a = arrive(&p, 0, 0, 101);
    assert_int_equal(a.verdict, SL_ACCEPT_RESEND);
    assert_int_equal(a.reply_bytes, 8);
    assert_memory_equal(a.reply, "accepted", 8);

    assert_int_equal(arrive(&p, 1, 0, 102).verdict, SL_ACCEPT_EXECUTE);
    assert_true(sl_peer_answered(&p, 1, false, NULL, 0, NULL));
    assert_int_equal(arrive(&p, 1, 0, 103).verdict, SL_ACCEPT_EXECUTE);
    assert_true(sl_peer_answered(&p, 1, false, NULL, 0, &cookie));
    assert_int_equal(cookie, 103);
    sl_peer_deinit(&p);
}

static void a_duplicate_of_a_request_under_way_is_not_executed(void **state)
{
    (void)state;
    struct sl_peer p = {0};
    uint64_t cookie = 0;
    assert_int_equal(arrive(&p, 4, 4, 1).verdict, SL_ACCEPT_EXECUTE);
    struct sl_accept a = arrive(&p, 4, 4, 2);
    assert_int_equal(a.verdict, SL_ACCEPT_UNDER_WAY);
    assert_int_equal(a.old_cookie, 1);
    assert_int_equal(arrive(&p, 4, 4, 3).old_cookie, 2);
    assert_true(sl_peer_answered(&p, 4, false, NULL, 0, &cookie));
    assert_int_equal(cookie, 3);
    assert_int_equal(arrive(&p, 5, 4, 4).verdict, SL_ACCEPT_EXECUTE);
    sl_peer_forget(&p, 5);
    assert_int_equal(arrive(&p, 5, 4, 5).verdict, SL_ACCEPT_EXECUTE);
    sl_peer_deinit(&p);
}

static void what_the_client_no_longer_waits_for_is_dropped(void **state)
{
    (void)state;
    struct sl_peer p = {0};
    for (uint64_t c = 0; c < 10; c++) {
        assert_int_equal(arrive(&p, c, 0, c).verdict, SL_ACCEPT_EXECUTE);
        assert_true(sl_peer_answered(&p, c, true, (const uint8_t *)"reply", 5, NULL));
    }
    assert_int_equal(p.cache_bytes, 50);
    assert_int_equal(arrive(&p, 10, 7, 10).verdict, SL_ACCEPT_EXECUTE);
    assert_int_equal(p.cache_bytes, 15);
    assert_int_equal(p.n_entries, 4);
    assert_int_equal(arrive(&p, 6, 0, 11).verdict, SL_ACCEPT_DROP);
    assert_int_equal(arrive(&p, 7, 0, 11).verdict, SL_ACCEPT_RESEND);
    assert_int_equal(arrive(&p, 12, 11, 12).verdict, SL_ACCEPT_EXECUTE);
    assert_false(sl_peer_answered(&p, 10, true, (const uint8_t *)"late", 4, NULL));
    sl_peer_deinit(&p);
}

static void a_client_out_of_bounds_is_dropped(void **state)
{
    (void)state;
    struct sl_peer p = {0};
    assert_int_equal(arrive(&p, SL_AHEAD_MAX + 1, 0, 0).verdict, SL_ACCEPT_DROP);
    assert_int_equal(arrive(&p, 5, 6, 0).verdict, SL_ACCEPT_DROP);
    for (uint64_t c = 0; c <= SL_AHEAD_MAX; c++)
        assert_int_equal(arrive(&p, c, 0, c).verdict, SL_ACCEPT_EXECUTE);
    assert_int_equal(p.n_entries, SL_AHEAD_MAX + 1);
    assert_int_equal(arrive(&p, SL_AHEAD_MAX + 1, 1, 0).verdict, SL_ACCEPT_EXECUTE);
    assert_int_equal(p.n_entries, SL_AHEAD_MAX + 1);
    assert_int_equal(arrive(&p, SL_AHEAD_MAX * 4, SL_AHEAD_MAX * 4, 0).verdict,
                     SL_ACCEPT_EXECUTE);
    assert_int_equal(p.n_entries, 1);
    sl_peer_deinit(&p);
}

static void the_cache_is_bounded_and_what_fell_out_is_never_executed_twice(void **state)
{
    (void)state;
    struct sl_peer p = {0};
    static uint8_t big[40000];
    assert_int_equal(arrive(&p, 0, 0, 0).verdict, SL_ACCEPT_EXECUTE);
    assert_true(sl_peer_answered(&p, 0, true, big, sizeof(big), NULL));
    assert_int_equal(arrive(&p, 1, 0, 0).verdict, SL_ACCEPT_EXECUTE);
    assert_true(sl_peer_answered(&p, 1, true, big, sizeof(big), NULL));
    assert_true(p.cache_bytes <= SL_REPLY_CACHE_BYTES);
    assert_int_equal(arrive(&p, 0, 0, 0).verdict, SL_ACCEPT_RESEND);
    assert_int_equal(arrive(&p, 1, 0, 0).verdict, SL_ACCEPT_DROP);
    sl_peer_deinit(&p);
    sl_peer_deinit(&p);
    sl_peer_deinit(NULL);
}

/* --- the client's side ------------------------------------------------------------ */

static void a_client_never_runs_more_than_the_limit_ahead(void **state)
{
    (void)state;
    struct sl_caller c;
    sl_caller_init(&c, 1000);
    uint64_t counter, oldest;
    for (uint64_t i = 0; i <= SL_AHEAD_MAX; i++) {
        assert_int_equal(sl_caller_next(&c, &counter, &oldest), SL_OK);
        assert_int_equal(counter, i);
        assert_int_equal(oldest, 0);
    }
    assert_int_equal(sl_caller_next(&c, &counter, &oldest), SL_E_LIMIT);
    assert_true(
        sl_caller_answered(&c, &(struct sl_envelope){.counter = 0, .other = 300}));
    assert_int_equal(sl_caller_next(&c, &counter, &oldest), SL_E_LIMIT);
    assert_true(sl_caller_answered(&c, &(struct sl_envelope){.counter = 1, .other = 0}));
    assert_int_equal(sl_caller_next(&c, &counter, &oldest), SL_OK);
    assert_int_equal(oldest, 1);
    sl_caller_abandon(&c, 1);
    assert_int_equal(sl_caller_next(&c, &counter, &oldest), SL_OK);
    assert_int_equal(oldest, 2);
    sl_caller_deinit(&c);
}

static void a_reply_counts_once_and_only_for_an_open_request(void **state)
{
    (void)state;
    struct sl_caller c;
    sl_caller_init(&c, 0);
    uint64_t counter, oldest;
    assert_int_equal(sl_caller_next(&c, &counter, &oldest), SL_OK);
    assert_int_equal(sl_caller_next(&c, &counter, &oldest), SL_OK);
    assert_false(sl_caller_answered(&c, &(struct sl_envelope){.counter = 0, .other = 2}));
    assert_true(sl_caller_answered(&c, &(struct sl_envelope){.counter = 1, .other = 1}));
    assert_false(sl_caller_answered(&c, &(struct sl_envelope){.counter = 1, .other = 0}));
    assert_false(sl_caller_answered(&c, &(struct sl_envelope){.counter = 2, .other = 1}));
    assert_true(sl_caller_answered(&c, &(struct sl_envelope){.counter = 3, .other = 0}));
    sl_caller_deinit(&c);
}

static void a_session_ends_after_an_hour_or_its_messages(void **state)
{
    (void)state;
    struct sl_caller c;
    struct sl_peer p = {.next = SL_SESSION_MAX_MESSAGES - 1};
    uint64_t counter, oldest;
    sl_caller_init(&c, 5000);
    assert_false(sl_caller_due(&c, 5000 + SL_SESSION_MAX_MS - 1));
    assert_true(sl_caller_due(&c, 5000 + SL_SESSION_MAX_MS));
    c.next = SL_SESSION_MAX_MESSAGES - 1;
    assert_false(sl_caller_due(&c, 5000));
    assert_int_equal(sl_caller_next(&c, &counter, &oldest), SL_OK);
    assert_true(sl_caller_due(&c, 5000));
    assert_int_equal(sl_caller_next(&c, &counter, &oldest), SL_E_STATE);
    assert_true(sl_peer_next(&p, &counter));
    assert_false(sl_peer_next(&p, &counter));
    sl_caller_deinit(&c);
}

/* --- everything at once ----------------------------------------------------------- */

enum { STORM_REQUESTS = 3000, STORM_LINE = 64 };

struct storm_frame {
    uint8_t bytes[128];
    size_t n;
};

struct storm {
    struct sl_caller caller;
    struct sl_peer peer;
    uint8_t executed[STORM_REQUESTS];    /* how often, of state-changing requests */
    uint8_t used[2][4 * STORM_REQUESTS]; /* nonces by direction */
    struct storm_frame up[STORM_LINE], down[STORM_LINE];
    int n_up, n_down, n_seals, n_resent;
    uint32_t seed;
    uint8_t client_key[SL_NOISE_KEY];
};

static void on_seal(void *ctx, uint64_t session, const uint8_t key[SL_NOISE_KEY],
                    uint64_t counter)
{
    struct storm *s = ctx;
    int direction = memcmp(key, s->client_key, SL_NOISE_KEY) == 0;
    assert_true(session == SESSION);
    assert_true(counter < 4 * STORM_REQUESTS);
    assert_int_equal(s->used[direction][counter]++, 0);
    s->n_seals++;
}

static void storm_send(struct storm *s, struct storm_frame *line, int *n,
                       const struct storm_frame *f)
{
    uint32_t fate = draw(&s->seed, 10);
    int copies = fate == 0 ? 0 : fate == 1 ? 2 : 1;
    while (copies-- > 0 && *n < STORM_LINE)
        line[(*n)++] = *f;
}

static struct storm_frame storm_take(struct storm *s, struct storm_frame *line, int *n)
{
    uint32_t i = draw(&s->seed, (uint32_t)*n);
    struct storm_frame f = line[i];
    line[i] = line[--*n];
    return f;
}

static void storm_reply(struct storm *s, const struct sl_keys *k, uint64_t request,
                        const uint8_t *plain)
{
    struct storm_frame f;
    uint64_t counter;
    assert_true(sl_peer_next(&s->peer, &counter));
    struct sl_envelope head = {SL_ENV_RESPONSE, SESSION, counter, request};
    memcpy(f.bytes + SL_ENVELOPE_BYTES, plain, 8);
    sl_record_seal(k, &head, f.bytes, 8);
    f.n = 8 + SL_RECORD_EXTRA;
    storm_send(s, s->down, &s->n_down, &f);
}

/* Even requests change state, odd ones read. */
static void storm_server(struct storm *s, const struct sl_keys *k)
{
    struct storm_frame f = storm_take(s, s->up, &s->n_up);
    struct sl_envelope head;
    size_t plain;
    if (draw(&s->seed, 20) == 0) {
        f.bytes[draw(&s->seed, (uint32_t)f.n)] ^= 1;
        assert_int_not_equal(
            sl_record_open(k, SL_ENV_REQUEST, f.bytes, f.n, &head, &plain, NULL), SL_OK);
        return;
    }
    assert_int_equal(sl_record_open(k, SL_ENV_REQUEST, f.bytes, f.n, &head, &plain, NULL),
                     SL_OK);
    struct sl_accept a = sl_peer_accept(&s->peer, &head, 0);
    const uint8_t *text = f.bytes + SL_ENVELOPE_BYTES;
    bool changes = head.counter % 2 == 0;
    if (a.verdict == SL_ACCEPT_RESEND) {
        assert_true(changes);
        assert_memory_equal(a.reply, text, 8);
        s->n_resent++;
        storm_reply(s, k, head.counter, a.reply);
    } else if (a.verdict == SL_ACCEPT_EXECUTE) {
        s->executed[head.counter] += changes;
        assert_true(sl_peer_answered(&s->peer, head.counter, changes, text, 8, NULL));
        storm_reply(s, k, head.counter, text);
    }
}

static void storm_client(struct storm *s, const struct sl_keys *k)
{
    struct storm_frame f = storm_take(s, s->down, &s->n_down);
    struct sl_envelope head;
    size_t plain;
    assert_int_equal(
        sl_record_open(k, SL_ENV_RESPONSE, f.bytes, f.n, &head, &plain, NULL), SL_OK);
    uint64_t said;
    memcpy(&said, f.bytes + SL_ENVELOPE_BYTES, 8);
    assert_true(said ==
                head.other * 1000003); /* the reply to that request and no other */
    sl_caller_answered(&s->caller, &head);
}

/* Requests are repeated byte for byte while unanswered. */
static void storm_request(struct storm *s, const struct sl_keys *k,
                          struct storm_frame *kept)
{
    uint64_t counter, oldest;
    uint32_t n_open = s->caller.n_open;
    if (n_open > 0 &&
        (n_open > 40 || s->caller.next == STORM_REQUESTS || draw(&s->seed, 3) == 0)) {
        storm_send(s, s->up, &s->n_up, &kept[s->caller.open[draw(&s->seed, n_open)]]);
        return;
    }
    if (s->caller.next == STORM_REQUESTS ||
        sl_caller_next(&s->caller, &counter, &oldest) != SL_OK)
        return;
    struct storm_frame *f = &kept[counter];
    struct sl_envelope head = {SL_ENV_REQUEST, SESSION, counter, oldest};
    uint64_t text = counter * 1000003;
    memcpy(f->bytes + SL_ENVELOPE_BYTES, &text, 8);
    sl_record_seal(k, &head, f->bytes, 8);
    f->n = 8 + SL_RECORD_EXTRA;
    storm_send(s, s->up, &s->n_up, f);
}

static void a_stormy_run_executes_once_and_never_repeats_a_nonce(void **state)
{
    struct ends *e = *state;
    static struct storm s;
    static struct storm_frame kept[STORM_REQUESTS];
    memset(&s, 0, sizeof(s));
    s.seed = 2024;
    s.client_key[0] = 1, s.client_key[1] = 2, s.client_key[2] = 3;
    sl_keys_watch(e->client, on_seal, &s);
    sl_keys_watch(e->server, on_seal, &s);
    sl_caller_init(&s.caller, 0);
    while (s.caller.next < STORM_REQUESTS || s.caller.n_open > 0) {
        storm_request(&s, e->client, kept);
        if (s.n_up > 0 && draw(&s.seed, 4) > 0)
            storm_server(&s, e->server);
        if (s.n_down > 0 && draw(&s.seed, 4) > 0)
            storm_client(&s, e->client);
    }
    for (int i = 0; i < STORM_REQUESTS; i++)
        assert_int_equal(s.executed[i], i % 2 == 0);
    assert_true(s.n_resent > 100);
    assert_true(s.n_seals > 2 * STORM_REQUESTS);
    sl_caller_deinit(&s.caller);
    sl_peer_deinit(&s.peer);
}

#define WITH_KEYS(test) cmocka_unit_test_setup_teardown(test, ends_open, ends_close)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_envelope_has_one_size_and_one_encoding),
        cmocka_unit_test(every_other_header_is_refused),
        cmocka_unit_test(handshake_payloads_keep_their_limits),
        WITH_KEYS(records_of_all_small_sizes_come_back),
        WITH_KEYS(every_flipped_bit_of_a_record_is_refused),
        WITH_KEYS(a_record_opens_only_where_it_belongs),
        WITH_KEYS(a_whole_chunk_fits_one_record),
        cmocka_unit_test(the_window_ends_exactly_where_it_says),
        cmocka_unit_test(a_thousand_permutations_are_accepted_once_each),
        cmocka_unit_test(the_window_agrees_with_a_plain_list),
        cmocka_unit_test(a_kept_reply_is_sent_again_and_a_read_is_executed_again),
        cmocka_unit_test(a_duplicate_of_a_request_under_way_is_not_executed),
        cmocka_unit_test(what_the_client_no_longer_waits_for_is_dropped),
        cmocka_unit_test(a_client_out_of_bounds_is_dropped),
        cmocka_unit_test(the_cache_is_bounded_and_what_fell_out_is_never_executed_twice),
        cmocka_unit_test(a_client_never_runs_more_than_the_limit_ahead),
        cmocka_unit_test(a_reply_counts_once_and_only_for_an_open_request),
        cmocka_unit_test(a_session_ends_after_an_hour_or_its_messages),
        WITH_KEYS(a_stormy_run_executes_once_and_never_repeats_a_nonce),
    };
    if (sodium_init() < 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
