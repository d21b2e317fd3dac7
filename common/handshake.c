/* SPDX-License-Identifier: Apache-2.0 */
/* The client's end. The coordinator's is gate.c. Both mix the same prologue, so that a
 * handshake of another protocol version never completes. */
#include "common/handshake.h"

#include <sodium.h>
#include <string.h>

static const char prologue[] = "starling session 1";

void sl_link_init(struct sl_link *l, const struct sl_link_config *config)
{
    *l = (struct sl_link){.config = *config};
}

void sl_link_deinit(struct sl_link *l)
{
    if (l == NULL)
        return;
    sl_keys_unref(l->keys);
    sl_caller_deinit(&l->caller);
    sodium_memzero(l, sizeof(*l));
}

void sl_link_drop_token(struct sl_link *l)
{
    l->config.has_token = false;
    sodium_memzero(l->config.psk, sizeof(l->config.psk));
}

static uint64_t left(uint64_t since_ms, uint64_t span_ms, uint64_t now_ms)
{
    uint64_t gone = now_ms - since_ms;
    return gone >= span_ms ? 0 : span_ms - gone;
}

uint64_t sl_link_handshake_in(const struct sl_link *l, uint64_t now_ms)
{
    if (l->waiting)
        return left(l->started_ms, SL_HANDSHAKE_PATIENCE_MS, now_ms);
    if (l->keys != NULL && !l->wanted && !sl_caller_due(&l->caller, now_ms))
        return UINT64_MAX;
    return l->started_once ? left(l->started_ms, SL_HANDSHAKE_EVERY_MS, now_ms) : 0;
}

enum sl_code sl_link_start(struct sl_link *l, uint64_t now_ms,
                           const uint8_t ephemeral[SL_NOISE_KEY], uint8_t *frame,
                           size_t *ret_n, struct sl_err *err)
{
    const struct sl_link_config *c = &l->config;
    struct sl_hello hello = {.has_token = c->has_token, .n = c->hello_bytes};
    memcpy(hello.token, c->token, SL_TOKEN_ID);
    memcpy(hello.bytes, c->hello, c->hello_bytes);
    uint8_t payload[SL_HELLO_BYTES_MAX];
    size_t payload_bytes = sl_hello_pack(&hello, payload), n = 0;

    l->started_ms = now_ms;
    l->started_once = true;
    l->waiting = false;
    sl_noise_init(&l->noise, c->has_token ? SL_NOISE_IKPSK2 : SL_NOISE_IK, true, prologue,
                  sizeof(prologue), c->secret, ephemeral, c->server);
    if (c->has_token)
        sl_noise_set_psk(&l->noise, c->psk);
    struct sl_envelope head = {.kind = c->has_token ? SL_ENV_IKPSK1 : SL_ENV_IK1};
    sl_envelope_pack(&head, frame);
    enum sl_code rc =
        sl_noise_write(&l->noise, payload, payload_bytes, frame + SL_ENVELOPE_BYTES,
                       SL_HANDSHAKE_FRAME_MAX - SL_ENVELOPE_BYTES, &n, err);
    sodium_memzero(payload, sizeof(payload));
    if (rc != SL_OK)
        return rc;
    l->waiting = true;
    *ret_n = SL_ENVELOPE_BYTES + n;
    return SL_OK;
}

/* Reads message 2 on a copy of the handshake, so that a forged reply does not end the
 * real one. */
static enum sl_code read_reply(struct sl_noise *x, const uint8_t *frame, size_t n,
                               struct sl_welcome *ret, struct sl_err *err)
{
    uint8_t payload[SL_HELLO_BYTES_MAX];
    size_t payload_bytes;
    enum sl_code rc = sl_noise_read(x, frame + SL_ENVELOPE_BYTES, n - SL_ENVELOPE_BYTES,
                                    payload, sizeof(payload), &payload_bytes, err);
    return rc != SL_OK ? rc : sl_welcome_parse(payload, payload_bytes, ret, err);
}

static enum sl_code refused(struct sl_link *l, enum sl_welcome_status status,
                            struct sl_err *err)
{
    static const char *const why[] = {
        [SL_REFUSED_REVOKED] = "this client's key was revoked",
        [SL_REFUSED_UNKNOWN_KEY] = "this client's key is not enrolled there",
        [SL_REFUSED_TOKEN] = "the join token is unknown, used or withdrawn",
    };
    l->waiting = false;
    sl_noise_wipe(&l->noise);
    return sl_err_set(err, SL_E_REFUSED, "coordinator refused: %s", why[status]);
}

static enum sl_code establish(struct sl_link *l, uint64_t now_ms,
                              const struct sl_noise *done, const struct sl_welcome *w,
                              struct sl_err *err)
{
    uint8_t send[SL_NOISE_KEY], recv[SL_NOISE_KEY];
    sl_noise_split(done, send, recv);
    struct sl_keys *keys = sl_keys_new(w->session, send, recv);
    sodium_memzero(send, sizeof(send));
    sodium_memzero(recv, sizeof(recv));
    if (keys == NULL)
        return sl_err_set(err, SL_E_NOMEM, "session keys: out of memory");
    sl_keys_unref(l->keys);
    l->keys = keys;
    sl_caller_deinit(&l->caller);
    sl_caller_init(&l->caller, now_ms);
    memcpy(l->welcome, w->bytes, w->n);
    l->welcome_bytes = w->n;
    l->waiting = l->wanted = false;
    sl_noise_wipe(&l->noise);
    return SL_OK;
}

enum sl_code sl_link_reply(struct sl_link *l, uint64_t now_ms, const uint8_t *frame,
                           size_t n, struct sl_err *err)
{
    struct sl_envelope head;
    enum sl_code rc = sl_envelope_parse(frame, n, &head, err);
    if (rc != SL_OK)
        return rc;
    if (head.kind != SL_ENV_REPLY || !l->waiting)
        return sl_err_set(err, SL_E_PROTO, "handshake: not a reply to one");
    struct sl_noise x = l->noise;
    struct sl_welcome w;
    rc = read_reply(&x, frame, n, &w, err);
    if (rc == SL_E_CRYPTO && l->config.has_token) {
        static const uint8_t zero_psk[SL_NOISE_KEY];
        x = l->noise;
        sl_noise_set_psk(&x, zero_psk);
        rc = read_reply(&x, frame, n, &w, err);
        if (rc == SL_OK && w.status == SL_WELCOME)
            rc = sl_err_set(err, SL_E_CRYPTO,
                            "handshake: welcome without the token's secret");
    }
    if (rc == SL_OK)
        rc = w.status == SL_WELCOME ? establish(l, now_ms, &x, &w, err)
                                    : refused(l, w.status, err);
    sl_noise_wipe(&x);
    return rc;
}

void sl_link_no_session(struct sl_link *l, uint64_t session)
{
    if (l->keys != NULL && sl_keys_session(l->keys) == session)
        l->wanted = true;
}

void sl_no_session_frame(uint64_t session, uint8_t frame[SL_ENVELOPE_BYTES])
{
    struct sl_envelope head = {.kind = SL_ENV_NO_SESSION, .session = session};
    sl_envelope_pack(&head, frame);
}
