/* SPDX-License-Identifier: Apache-2.0 */
/* A gate and a waiting link get arbitrary frames. The input is a sequence of commands:
 *
 *     0 n16 bytes   a frame for the gate
 *     1 n16 bytes   a frame for the link
 *     2 kind bytes  an encrypted message 1 whose payload is the rest of the input, so
 * that what lies behind the authentication is reached, too 3             a valid
 * handshake and a request of the link 4 t8          t8 seconds pass */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/handshake.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct rig {
    struct sl_gate *gate;
    struct sl_link link;
    uint8_t server_pub[32];
    uint64_t now, drawn;
};

static enum sl_key_status find_key(void *ctx, const uint8_t key[32], uint32_t *ret_client)
{
    (void)ctx;
    *ret_client = key[1];
    return (enum sl_key_status)(key[0] % 3);
}

static bool find_token(void *ctx, const uint8_t token[SL_TOKEN_ID], const uint8_t key[32],
                       uint8_t ret_psk[32])
{
    (void)ctx;
    (void)key;
    memset(ret_psk, token[1], 32);
    return token[0] % 2 == 0;
}

static void rig_open(struct rig *r)
{
    struct sl_gate_config c = {.max_sessions = 8,
                               .handshakes_per_second = 1000,
                               .find_key = find_key,
                               .find_token = find_token};
    struct sl_link_config lc = {.secret = {5}};
    memset(r, 0, sizeof(*r));
    memset(c.secret, 9, 32);
    sl_noise_public(c.secret, r->server_pub);
    memcpy(lc.server, r->server_pub, 32);
    if (sl_gate_new(&c, &r->gate, NULL) != SL_OK)
        abort();
    sl_link_init(&r->link, &lc);
}

static void to_gate(struct rig *r, const uint8_t *frame, size_t n, uint8_t *reply,
                    size_t *ret_n)
{
    struct sl_session *s = NULL;
    struct sl_envelope head;
    struct sl_gate_random random = {.ephemeral = {1, (uint8_t)r->drawn},
                                    .session = ++r->drawn};
    *ret_n = 0;
    enum sl_gate_verdict v =
        sl_gate_frame(r->gate, r->now, frame, n, &random, reply, ret_n, &s, &head);
    assert((v == SL_GATE_ANSWER) == (*ret_n > 0));
    if (v != SL_GATE_RECORD)
        return;
    uint8_t *copy = malloc(n);
    size_t plain;
    if (copy == NULL)
        abort();
    memcpy(copy, frame, n);
    bool first, ended;
    if (sl_record_open(s->keys, SL_ENV_REQUEST, copy, n, &head, &plain, NULL) == SL_OK &&
        sl_gate_accept(r->gate, r->now, s, &head, 1, &first, &ended).verdict ==
            SL_ACCEPT_EXECUTE)
        sl_peer_answered(&s->peer, head.counter, head.counter % 2 == 0, frame, 4, NULL);
    free(copy);
}

static void message_1(struct rig *r, enum sl_noise_pattern pattern,
                      const uint8_t *payload, size_t n)
{
    static const uint8_t secret[32] = {7}, ephemeral[32] = {8};
    struct sl_noise x;
    uint8_t frame[SL_HANDSHAKE_FRAME_MAX], reply[SL_HANDSHAKE_FRAME_MAX];
    size_t n_msg, n_reply;
    struct sl_envelope head = {.kind =
                                   pattern == SL_NOISE_IK ? SL_ENV_IK1 : SL_ENV_IKPSK1};
    sl_envelope_pack(&head, frame);
    sl_noise_init(&x, pattern, true, "starling session 1", 19, secret, ephemeral,
                  r->server_pub);
    if (sl_noise_write(&x, payload, n, frame + SL_ENVELOPE_BYTES,
                       sizeof(frame) - SL_ENVELOPE_BYTES, &n_msg, NULL) == SL_OK)
        to_gate(r, frame, SL_ENVELOPE_BYTES + n_msg, reply, &n_reply);
    sl_noise_wipe(&x);
}

static void valid_round(struct rig *r)
{
    uint8_t frame[SL_HANDSHAKE_FRAME_MAX], reply[SL_HANDSHAKE_FRAME_MAX], e[32] = {3};
    size_t n, n_reply;
    uint64_t counter, oldest;
    if (sl_link_start(&r->link, r->now, e, frame, &n, NULL) != SL_OK)
        abort();
    to_gate(r, frame, n, reply, &n_reply);
    sl_link_reply(&r->link, r->now, reply, n_reply, NULL);
    if (r->link.keys == NULL ||
        sl_caller_next(&r->link.caller, &counter, &oldest) != SL_OK)
        return;
    struct sl_envelope head = {SL_ENV_REQUEST, sl_keys_session(r->link.keys), counter,
                               oldest};
    memset(frame, 0, sizeof(frame));
    sl_record_seal(r->link.keys, &head, frame, 20);
    to_gate(r, frame, 20 + SL_RECORD_EXTRA, reply, &n_reply);
}

/* Length of the frame after a command, cut to what is left. */
static size_t take_length(const uint8_t **p, size_t *left)
{
    if (*left < 2)
        return 0;
    size_t n = (size_t)(*p)[0] | (size_t)(*p)[1] << 8;
    *p += 2;
    *left -= 2;
    return n < *left ? n : *left;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rig r;
    uint8_t reply[SL_HANDSHAKE_FRAME_MAX];
    size_t n, n_reply;
    rig_open(&r);
    for (int steps = 0; size > 0 && steps < 16; steps++) {
        uint8_t command = *data++ % 5;
        size--;
        n = 0;
        if (command < 2) {
            n = take_length(&data, &size);
            if (command == 0)
                to_gate(&r, data, n, reply, &n_reply);
            else if (n > 0)
                sl_link_reply(&r.link, r.now, data, n, NULL);
        } else if (command == 2 && size > 0) {
            n = size;
            message_1(&r, data[0] % 2 == 0 ? SL_NOISE_IK : SL_NOISE_IKPSK2, data + 1,
                      n - 1);
        } else if (command == 3) {
            valid_round(&r);
        } else if (size > 0) {
            n = 1;
            r.now += (uint64_t)data[0] * 1000;
            sl_gate_expire(r.gate, r.now, 3);
        }
        data += n;
        size -= n;
    }
    sl_link_deinit(&r.link);
    sl_gate_free(r.gate);
    return 0;
}
