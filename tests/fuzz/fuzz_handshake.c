/* SPDX-License-Identifier: Apache-2.0 */
/* A gate and two links (the second with a join token) play a script. Byte 0 of the input
 * configures the gate: bits 0-3 sessions, 4-5 handshakes a second, 6-7 bytes of the
 * welcome. Then commands of one byte (mod 16) follow, each with its arguments:
 *
 *      0 n16 bytes     a frame for the gate
 *      1 l n16 bytes   a frame for link l
 *      2 p n16 bytes   a message 1 of pattern p that authenticates, with this payload
 *      3 l how         link l starts; how: 1 the gate hears it, 2 the link the reply
 *      4 l             the last reply of a handshake goes to link l
 *      5 l how         link l sends a request; how: 1 the gate gets it, 2 it is answered,
 *                      4 and the answer kept, 8 the link gets the answer
 *      6               the last request goes to the gate once more
 *      7 f n16 x       byte n16 of frame f ^= x: start, reply, request, response
 *      8 f             the last frame f goes to the gate
 *      9 b n           2^b milliseconds pass, then the gate looks at n sessions
 *     10 l s           link l's key is unknown, enrolled, revoked; bit 7: sessions end
 *     11 b             tokens are good or not; bit 7: the second link drops its own
 *     12 l s           link l hears that a session is unknown: its own, or s
 *     13 l n           the request n of link l is given up at both ends
 *     14 l             the gate ends link l's session
 *     15 l n           n requests of link l, unanswered */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/handshake.h"
#include "tests/fuzz/files.h"

#define STEPS_MAX 48
#define PLAIN 20 /* bytes of a request and of a response */

enum { START, REPLY, REQUEST, RESPONSE, N_FRAMES };
enum { ARRIVES = 1, ANSWERED = 2, KEPT = 4, COMES_BACK = 8 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct frame {
    uint8_t bytes[SL_HANDSHAKE_FRAME_MAX];
    size_t n;
};

struct rig {
    struct sl_gate *gate;
    struct sl_link link[2];
    uint8_t pub[2][SL_NOISE_KEY], server_pub[SL_NOISE_KEY];
    enum sl_key_status status[2];
    bool tokens_good;
    uint32_t max_sessions;
    uint64_t now, drawn, ended;
    struct frame last[N_FRAMES];
};

struct script {
    const uint8_t *at;
    size_t left;
};

static uint8_t take(struct script *s)
{
    if (s->left == 0)
        return 0;
    s->left--;
    return *s->at++;
}

/* A length, then so many bytes or what is left of them. */
static const uint8_t *take_bytes(struct script *s, size_t *ret_n)
{
    size_t n = take(s);
    n |= (size_t)take(s) << 8;
    *ret_n = n < s->left ? n : s->left;
    const uint8_t *at = s->at;
    s->at += *ret_n;
    s->left -= *ret_n;
    return at;
}

static enum sl_key_status find_key(void *ctx, const uint8_t key[SL_NOISE_KEY],
                                   uint32_t *ret_client)
{
    const struct rig *r = ctx;
    for (uint32_t i = 0; i < 2; i++)
        if (memcmp(key, r->pub[i], SL_NOISE_KEY) == 0) {
            *ret_client = i;
            return r->status[i];
        }
    *ret_client = 2;
    return SL_KEY_ENROLLED;
}

static bool find_token(void *ctx, const uint8_t token[SL_TOKEN_ID],
                       const uint8_t key[SL_NOISE_KEY], uint8_t ret_psk[SL_NOISE_KEY])
{
    const struct rig *r = ctx;
    (void)key;
    memset(ret_psk, token[1], SL_NOISE_KEY);
    return r->tokens_good && token[0] % 2 == 0;
}

static void count_end(void *ctx, struct sl_session *s)
{
    struct rig *r = ctx;
    fuzz_must(s->keys != NULL && s->id != 0);
    r->ended++;
}

static bool rig_open(struct rig *r, uint8_t how)
{
    static const uint32_t quotas[] = {1000, 3, 0, 1000000};
    static const size_t welcomes[] = {0, 5, SL_HELLO_MAX, SL_HELLO_MAX + 1};
    struct sl_gate_config c = {.max_sessions = how & 15,
                               .handshakes_per_second = quotas[how >> 4 & 3],
                               .welcome_bytes = welcomes[how >> 6],
                               .ctx = r,
                               .find_key = find_key,
                               .find_token = find_token};
    struct sl_err err;
    *r = (struct rig){.status = {SL_KEY_ENROLLED, SL_KEY_UNKNOWN},
                      .tokens_good = true,
                      .max_sessions = how & 15};
    memset(c.secret, 9, SL_NOISE_KEY);
    sl_noise_public(c.secret, r->server_pub);
    enum sl_code rc = sl_gate_new(&c, &r->gate, &err);
    fuzz_check_line(rc, &err);
    fuzz_must((rc == SL_OK) == (c.max_sessions > 0 && c.welcome_bytes <= SL_HELLO_MAX));
    if (rc != SL_OK)
        return false;
    sl_gate_on_end(r->gate, count_end, r);
    for (uint8_t i = 0; i < 2; i++) {
        struct sl_link_config lc = {.secret = {(uint8_t)(5 + i)}, .has_token = i == 1};
        memcpy(lc.server, r->server_pub, SL_NOISE_KEY);
        lc.hello_bytes = i == 1 ? 7 : 0;
        lc.token[1] = 3;
        memset(lc.psk, 3, SL_NOISE_KEY);
        sl_noise_public(lc.secret, r->pub[i]);
        sl_link_init(&r->link[i], &lc);
    }
    return true;
}

/* What is left of sessions adds up, at any time. */
static void check_counts(struct rig *r)
{
    struct sl_gate_stats st = sl_gate_stats(r->gate);
    fuzz_must(st.sessions == st.handshakes - st.refused - r->ended);
    fuzz_must(st.established <= st.sessions && st.sessions <= r->max_sessions);
    for (int i = 0; i < 2; i++) {
        const struct sl_session *s = sl_gate_of_key(r->gate, r->pub[i]);
        if (s != NULL)
            fuzz_must(s->established && memcmp(s->key, r->pub[i], SL_NOISE_KEY) == 0 &&
                      sl_gate_find(r->gate, s->id) == s);
        const struct sl_link *l = &r->link[i];
        uint64_t in = sl_link_handshake_in(l, r->now);
        fuzz_must(in == UINT64_MAX ? l->keys != NULL && !l->waiting
                                   : in <= SL_HANDSHAKE_PATIENCE_MS);
    }
}

/* The request of s is executed, and its answer becomes the last response. */
static void answer(struct rig *r, struct sl_session *s, const struct sl_envelope *head,
                   const uint8_t *plain, size_t n, bool again)
{
    struct frame *f = &r->last[RESPONSE];
    uint64_t counter;
    if (n > SL_HANDSHAKE_FRAME_MAX - SL_RECORD_EXTRA || !sl_peer_next(&s->peer, &counter))
        return;
    struct sl_envelope h = {SL_ENV_RESPONSE, s->id, counter, head->counter};
    if (n > 0)
        memcpy(f->bytes + SL_ENVELOPE_BYTES, plain, n);
    if (again)
        fuzz_must(n == 0 || plain[0] == (uint8_t)head->counter);
    sl_record_seal(s->keys, &h, f->bytes, n);
    f->n = n + SL_RECORD_EXTRA;
}

/* A record for session s arrived. */
static void to_session(struct rig *r, struct sl_session *s, const uint8_t *frame,
                       size_t n, uint8_t how)
{
    struct sl_envelope head;
    struct sl_err err;
    size_t plain;
    uint8_t *copy = malloc(n);
    fuzz_must(copy != NULL);
    memcpy(copy, frame, n);
    enum sl_code rc =
        sl_record_open(s->keys, SL_ENV_REQUEST, copy, n, &head, &plain, &err);
    fuzz_check_line(rc, &err);
    free(copy);
    if (rc != SL_OK)
        return;
    bool first, ended, was_established = s->established;
    struct sl_accept a =
        sl_gate_accept(r->gate, r->now, s, &head, ++r->drawn, &first, &ended);
    fuzz_must(first == (!was_established && !ended) && !(ended && first));
    if (ended)
        return;
    if (a.verdict == SL_ACCEPT_RESEND)
        answer(r, s, &head, a.reply, a.reply_bytes, true);
    if (a.verdict != SL_ACCEPT_EXECUTE || !(how & ANSWERED))
        return;
    uint8_t reply[PLAIN] = {(uint8_t)head.counter};
    uint64_t cookie = 0;
    fuzz_must(
        sl_peer_answered(&s->peer, head.counter, how & KEPT, reply, PLAIN, &cookie));
    fuzz_must(cookie == r->drawn &&
              !sl_peer_answered(&s->peer, head.counter, true, reply, 1, NULL));
    answer(r, s, &head, reply, PLAIN, false);
}

static void to_gate(struct rig *r, const uint8_t *frame, size_t n, uint8_t how)
{
    struct sl_session *s = NULL;
    struct sl_envelope head;
    struct frame reply = {.n = 0};
    uint64_t id = ++r->drawn;
    struct sl_gate_random random = {.ephemeral = {1, (uint8_t)id, (uint8_t)(id >> 8)},
                                    .session = id % 64};
    enum sl_gate_verdict v = sl_gate_frame(r->gate, r->now, frame, n, &random,
                                           reply.bytes, &reply.n, &s, &head);
    fuzz_must((v == SL_GATE_ANSWER) == (reply.n > 0) && reply.n <= sizeof(reply.bytes));
    if (v == SL_GATE_RECORD)
        to_session(r, s, frame, n, how);
    else if (v == SL_GATE_ANSWER)
        r->last[REPLY] = reply;
}

/* Any frame that a link may hear. */
static void to_link(struct rig *r, struct sl_link *l, const uint8_t *frame, size_t n)
{
    struct sl_envelope head;
    struct sl_err err;
    bool was_waiting = l->waiting;
    enum sl_code rc = sl_link_reply(l, r->now, frame, n, &err);
    fuzz_check_line(rc, &err);
    fuzz_must(rc != SL_OK || (was_waiting && !l->waiting && l->keys != NULL));
    fuzz_must(rc != SL_E_REFUSED || (was_waiting && !l->waiting));
    if (rc == SL_OK || l->keys == NULL ||
        sl_envelope_parse(frame, n, &head, NULL) != SL_OK)
        return;
    if (head.kind == SL_ENV_NO_SESSION)
        sl_link_no_session(l, head.session);
    if (head.kind != SL_ENV_RESPONSE)
        return;
    uint8_t *copy = malloc(n);
    size_t plain;
    fuzz_must(copy != NULL);
    memcpy(copy, frame, n);
    rc = sl_record_open(l->keys, SL_ENV_RESPONSE, copy, n, &head, &plain, &err);
    fuzz_check_line(rc, &err);
    if (rc == SL_OK) {
        fuzz_must(plain == 0 || copy[SL_ENVELOPE_BYTES] == (uint8_t)head.other);
        sl_caller_answered(&l->caller, &head);
        fuzz_must(!sl_caller_answered(&l->caller, &head)); /* a replay */
    }
    free(copy);
}

/* A peer that knows the protocol and sends what it likes behind the encryption. */
static void message_1(struct rig *r, enum sl_noise_pattern pattern,
                      const uint8_t *payload, size_t n)
{
    static const uint8_t secret[SL_NOISE_KEY] = {7}, ephemeral[SL_NOISE_KEY] = {8};
    struct sl_noise x;
    struct frame *f = &r->last[START];
    size_t n_msg;
    struct sl_envelope head = {.kind =
                                   pattern == SL_NOISE_IK ? SL_ENV_IK1 : SL_ENV_IKPSK1};
    sl_envelope_pack(&head, f->bytes);
    f->n = 0;
    sl_noise_init(&x, pattern, true, "starling session 1", 19, secret, ephemeral,
                  r->server_pub);
    if (sl_noise_write(&x, payload, n, f->bytes + SL_ENVELOPE_BYTES,
                       sizeof(f->bytes) - SL_ENVELOPE_BYTES, &n_msg, NULL) == SL_OK)
        f->n = SL_ENVELOPE_BYTES + n_msg;
    sl_noise_wipe(&x);
    to_gate(r, f->bytes, f->n, 0);
}

static void start(struct rig *r, struct sl_link *l, uint8_t how)
{
    uint64_t id = ++r->drawn;
    uint8_t ephemeral[SL_NOISE_KEY] = {3, (uint8_t)id, (uint8_t)(id >> 8)};
    struct frame *f = &r->last[START], *reply = &r->last[REPLY];
    struct sl_err err;
    enum sl_code rc = sl_link_start(l, r->now, ephemeral, f->bytes, &f->n, &err);
    fuzz_check_line(rc, &err);
    fuzz_must(rc == SL_OK && l->waiting);
    reply->n = 0;
    if (how & ARRIVES)
        to_gate(r, f->bytes, f->n, 0);
    if (how & ANSWERED)
        to_link(r, l, reply->bytes, reply->n);
}

static void request(struct rig *r, struct sl_link *l, uint8_t how)
{
    struct frame *f = &r->last[REQUEST];
    uint64_t counter, oldest;
    if (l->keys == NULL)
        return;
    enum sl_code rc = sl_caller_next(&l->caller, &counter, &oldest);
    fuzz_must(rc == SL_OK || (rc == SL_E_LIMIT && l->caller.n_open > 0));
    if (rc != SL_OK)
        return;
    struct sl_envelope head = {SL_ENV_REQUEST, sl_keys_session(l->keys), counter, oldest};
    memset(f->bytes, 0, sizeof(f->bytes));
    sl_record_seal(l->keys, &head, f->bytes, PLAIN);
    f->n = PLAIN + SL_RECORD_EXTRA;
    r->last[RESPONSE].n = r->last[REPLY].n = 0;
    if (how & ARRIVES)
        to_gate(r, f->bytes, f->n, how);
    if (how & COMES_BACK) {
        to_link(r, l, r->last[RESPONSE].bytes, r->last[RESPONSE].n);
        to_link(r, l, r->last[REPLY].bytes, r->last[REPLY].n);
    }
}

static void give_up(struct rig *r, int who, uint64_t n)
{
    struct sl_session *s = sl_gate_of_key(r->gate, r->pub[who]);
    sl_caller_abandon(&r->link[who].caller, n);
    if (s != NULL)
        sl_peer_forget(&s->peer, n);
}

static void set_status(struct rig *r, int who, uint8_t how)
{
    r->status[who] = (enum sl_key_status)((how & 127) % 3);
    if (!(how & 128))
        return;
    sl_gate_end_key(r->gate, r->pub[who]);
    fuzz_must(sl_gate_of_key(r->gate, r->pub[who]) == NULL);
}

static void end_session(struct rig *r, int who)
{
    struct sl_session *s = sl_gate_of_key(r->gate, r->pub[who]);
    if (s == NULL)
        return;
    uint64_t id = s->id;
    sl_gate_end(r->gate, s);
    fuzz_must(sl_gate_find(r->gate, id) == NULL);
}

static void pass_time(struct rig *r, uint8_t bits, uint8_t budget)
{
    r->now += UINT64_C(1) << (bits % 24);
    sl_gate_expire(r->gate, r->now, budget);
}

static void frames_command(struct rig *r, uint8_t command, struct script *s)
{
    int who = command == 0 || command == 2 ? 0 : take(s) % 2;
    uint8_t how;
    size_t n;
    const uint8_t *bytes;
    switch (command) {
    case 0:
        bytes = take_bytes(s, &n);
        to_gate(r, bytes, n, ANSWERED);
        break;
    case 1:
        bytes = take_bytes(s, &n);
        to_link(r, &r->link[who], bytes, n);
        break;
    case 2:
        how = take(s);
        bytes = take_bytes(s, &n);
        message_1(r, how % 2 == 0 ? SL_NOISE_IK : SL_NOISE_IKPSK2, bytes, n);
        break;
    case 3:
        start(r, &r->link[who], take(s));
        break;
    case 4:
        to_link(r, &r->link[who], r->last[REPLY].bytes, r->last[REPLY].n);
        break;
    case 5:
        request(r, &r->link[who], take(s));
        break;
    }
}

static void other_command(struct rig *r, uint8_t command, struct script *s)
{
    uint8_t a = command == 6 ? REQUEST : take(s);
    struct frame *f = &r->last[a % N_FRAMES];
    struct sl_link *l = &r->link[a % 2];
    size_t n;
    switch (command) {
    case 6:
    case 8:
        to_gate(r, f->bytes, f->n, ANSWERED | KEPT);
        break;
    case 7:
        n = take(s);
        n |= (size_t)take(s) << 8;
        f->bytes[n % sizeof(f->bytes)] ^= take(s);
        break;
    case 9:
        pass_time(r, a, take(s));
        break;
    case 10:
        set_status(r, a % 2, take(s));
        break;
    case 11:
        r->tokens_good = a % 2 == 0;
        if (a & 128)
            sl_link_drop_token(&r->link[1]);
        break;
    case 12:
        n = take(s);
        sl_link_no_session(l, n == 0 && l->keys != NULL ? sl_keys_session(l->keys) : n);
        break;
    case 13:
        give_up(r, a % 2, take(s));
        break;
    case 14:
        end_session(r, a % 2);
        break;
    case 15:
        for (n = take(s); n > 0; n--)
            request(r, l, ARRIVES);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rig r;
    struct script s = {data, size};
    if (!rig_open(&r, take(&s)))
        return 0;
    for (int steps = 0; s.left > 0 && steps < STEPS_MAX; steps++) {
        uint8_t command = take(&s) % 16;
        if (command <= 5)
            frames_command(&r, command, &s);
        else
            other_command(&r, command, &s);
        check_counts(&r);
    }
    for (int i = 0; i < 2; i++)
        sl_link_deinit(&r.link[i]);
    struct sl_gate_stats st = sl_gate_stats(r.gate);
    sl_gate_free(r.gate); /* says of each session that it ends */
    fuzz_must(r.ended == st.handshakes - st.refused);
    return 0;
}
