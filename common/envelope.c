/* SPDX-License-Identifier: Apache-2.0 */
/* The generated code gets memory from a bump allocator on the stack, so parsing allocates
 * nothing and a hostile message cannot make it allocate. What was parsed is packed again
 * and compared: there is one encoding of each message, whatever protobuf would tolerate.
 */
#include "common/envelope.h"

#include <assert.h>
#include <string.h>

#include "proto/envelope.pb-c.h"

struct bump {
    _Alignas(16) uint8_t memory[2048];
    size_t used;
};

static void *bump_alloc(void *ctx, size_t n)
{
    struct bump *b = ctx;
    if (n > sizeof(b->memory))
        return NULL;
    size_t rounded = (n + 15) & ~(size_t)15;
    if (rounded > sizeof(b->memory) - b->used)
        return NULL;
    void *p = b->memory + b->used;
    b->used += rounded;
    return p;
}

static void bump_free(void *ctx, void *p)
{
    (void)ctx;
    (void)p;
}

static ProtobufCAllocator allocator_on(struct bump *b)
{
    b->used = 0;
    return (ProtobufCAllocator){bump_alloc, bump_free, b};
}

/* --- envelope --------------------------------------------------------------------- */

void sl_envelope_pack(const struct sl_envelope *e, uint8_t *frame)
{
    Starling__Envelope m = STARLING__ENVELOPE__INIT;
    m.version = SL_ENVELOPE_VERSION;
    m.kind = e->kind;
    m.session = e->session;
    m.counter = e->counter;
    m.other = e->other;
    frame[0] = SL_ENVELOPE_PROTO_BYTES;
    frame[1] = 0;
    size_t n = starling__envelope__pack(&m, frame + 2);
    assert(n == SL_ENVELOPE_PROTO_BYTES);
    (void)n;
}

static enum sl_code bad(struct sl_err *err, const char *what)
{
    return sl_err_set(err, SL_E_PROTO, "envelope: %s", what);
}

enum sl_code sl_envelope_parse(const uint8_t *frame, size_t n, struct sl_envelope *ret,
                               struct sl_err *err)
{
    if (n < SL_ENVELOPE_BYTES)
        return bad(err, "frame shorter than its header");
    if (frame[0] != SL_ENVELOPE_PROTO_BYTES || frame[1] != 0)
        return bad(err, "header of another length");
    struct bump memory;
    ProtobufCAllocator a = allocator_on(&memory);
    Starling__Envelope *m =
        starling__envelope__unpack(&a, SL_ENVELOPE_PROTO_BYTES, frame + 2);
    if (m == NULL)
        return bad(err, "not a header");
    if (m->version != SL_ENVELOPE_VERSION)
        return sl_err_set(err, SL_E_PROTO, "envelope: version %u, this side speaks %d",
                          (unsigned)m->version, SL_ENVELOPE_VERSION);
    if (m->kind < SL_ENV_IK1 || m->kind > SL_ENV_NO_SESSION)
        return bad(err, "unknown kind");
    struct sl_envelope e = {.kind = (enum sl_envelope_kind)m->kind,
                            .session = m->session,
                            .counter = m->counter,
                            .other = m->other};
    uint8_t again[SL_ENVELOPE_BYTES];
    sl_envelope_pack(&e, again);
    if (memcmp(again, frame, sizeof(again)) != 0)
        return bad(err, "header in another encoding");
    *ret = e;
    return SL_OK;
}

/* --- payloads of the handshake ---------------------------------------------------- */

static ProtobufCBinaryData view(const uint8_t *bytes, size_t n)
{
    return (ProtobufCBinaryData){.len = n, .data = (uint8_t *)bytes};
}

size_t sl_hello_pack(const struct sl_hello *h, uint8_t *out)
{
    assert(h->n <= SL_HELLO_MAX);
    Starling__Hello m = STARLING__HELLO__INIT;
    m.has_token = h->has_token;
    m.token = view(h->token, SL_TOKEN_ID);
    m.has_payload = h->n > 0;
    m.payload = view(h->bytes, h->n);
    return starling__hello__pack(&m, out);
}

enum sl_code sl_hello_parse(const uint8_t *in, size_t n, struct sl_hello *ret,
                            struct sl_err *err)
{
    if (n > SL_HELLO_BYTES_MAX)
        return sl_err_set(err, SL_E_LIMIT, "hello: %zu bytes, at most %d", n,
                          SL_HELLO_BYTES_MAX);
    struct bump memory;
    ProtobufCAllocator a = allocator_on(&memory);
    const Starling__Hello *m = starling__hello__unpack(&a, n, in);
    if (m == NULL)
        return sl_err_set(err, SL_E_PROTO, "hello: not a message");
    if (m->has_token && m->token.len != SL_TOKEN_ID)
        return sl_err_set(err, SL_E_PROTO, "hello: a token id has %d bytes", SL_TOKEN_ID);
    if (m->has_payload && m->payload.len > SL_HELLO_MAX)
        return sl_err_set(err, SL_E_LIMIT, "hello: payload above %d bytes", SL_HELLO_MAX);
    struct sl_hello h = {.has_token = m->has_token};
    if (m->has_token)
        memcpy(h.token, m->token.data, SL_TOKEN_ID);
    if (m->has_payload && m->payload.len > 0) {
        h.n = m->payload.len;
        memcpy(h.bytes, m->payload.data, h.n);
    }
    *ret = h;
    return SL_OK;
}

size_t sl_welcome_pack(const struct sl_welcome *w, uint8_t *out)
{
    assert(w->n <= SL_HELLO_MAX);
    Starling__Welcome m = STARLING__WELCOME__INIT;
    m.status = w->status;
    m.session = w->session;
    m.has_payload = w->n > 0;
    m.payload = view(w->bytes, w->n);
    return starling__welcome__pack(&m, out);
}

enum sl_code sl_welcome_parse(const uint8_t *in, size_t n, struct sl_welcome *ret,
                              struct sl_err *err)
{
    if (n > SL_HELLO_BYTES_MAX)
        return sl_err_set(err, SL_E_LIMIT, "welcome: %zu bytes, at most %d", n,
                          SL_HELLO_BYTES_MAX);
    struct bump memory;
    ProtobufCAllocator a = allocator_on(&memory);
    const Starling__Welcome *m = starling__welcome__unpack(&a, n, in);
    if (m == NULL)
        return sl_err_set(err, SL_E_PROTO, "welcome: not a message");
    if (m->status < SL_WELCOME || m->status > SL_REFUSED_TOKEN)
        return sl_err_set(err, SL_E_PROTO, "welcome: unknown status %u",
                          (unsigned)m->status);
    if ((m->status == SL_WELCOME) != (m->session != 0))
        return sl_err_set(err, SL_E_PROTO, "welcome: status and session disagree");
    if (m->has_payload && m->payload.len > SL_HELLO_MAX)
        return sl_err_set(err, SL_E_LIMIT, "welcome: payload above %d bytes",
                          SL_HELLO_MAX);
    struct sl_welcome w = {.status = (enum sl_welcome_status)m->status,
                           .session = m->session};
    if (m->has_payload && m->payload.len > 0) {
        w.n = m->payload.len;
        memcpy(w.bytes, m->payload.data, w.n);
    }
    *ret = w;
    return SL_OK;
}
