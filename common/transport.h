/* SPDX-License-Identifier: Apache-2.0 */
/* transport.h - frames as requests and replies over tcp, on a libuv loop. Nothing is
 * delivered twice by this layer, but a request is sent again (same bytes) after resend_ms
 * without a reply or on a new connection, so the coordinator may see it more than once.
 *
 * A frame is a buffer of the messaging library, filled and read in place. The library
 * works on threads of its own; all callbacks here run on the loop thread, and so must all
 * calls (frames apart: any thread). A process that will fork must do so before it opens
 * anything here.
 *
 * At exit: close listeners and dialers, then run the loop until their on_closed came. */
#ifndef SL_COMMON_TRANSPORT_H
#define SL_COMMON_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

struct uv_loop_s;

/* --- frames: any thread ----------------------------------------------------------- */

struct sl_frame { /* {0} = none */
    uint8_t *data;
    size_t n;
    void *opaque;
};

bool sl_frame_alloc(size_t n, struct sl_frame *ret); /* false: no memory */
void sl_frame_trim(struct sl_frame *f, size_t n);    /* keeps the first n <= f->n bytes */
/* Another length for the same buffer, for a reply built where its request lay; grows when
 * needed (data may move, the first min(n, f->n) bytes stay). false: no memory, frame
 * unchanged. */
bool sl_frame_resize(struct sl_frame *f, size_t n);
void sl_frame_free(struct sl_frame *f); /* NULL and {0} allowed; leaves {0} */

/* What connections carried, framing of the messaging library included. */
struct sl_wire_bytes {
    uint64_t rx, tx;
};

#define SL_PEER_TEXT 64

/* --- coordinator ------------------------------------------------------------------ */

struct sl_listener;
struct sl_request; /* one request that waits for its reply */

struct sl_listener_options {
    size_t max_frame; /* bytes; a peer that announces more is cut off */
    uint32_t
        idle_contexts; /* receivers kept ready beside the held requests (default 64) */
    uint32_t max_contexts; /* requests held at once, plus receivers (default 16384) */
};

struct sl_listener_events {
    void *ctx;
    /* A request came: answer it with sl_request_reply or sl_request_drop, now or later,
     * exactly once. *frame is the callee's from here on. */
    void (*on_request)(void *ctx, struct sl_request *req, struct sl_frame *frame);
    /* A held request's connection is gone; it is still to be dropped (or replied to, in
     * vain). May be NULL. */
    void (*on_gone)(void *ctx, struct sl_request *req);
    void (*on_closed)(void *ctx); /* may be NULL; the listener is freed after it */
};

/* Listens at url ("tcp://ADDRESS:PORT"; port 0 = a free one). SL_E_INPUT for a bad url,
 * SL_E_IO when the port is taken or not allowed; the loop must turn once more before it
 * can be closed. */
enum sl_code sl_listener_open(struct uv_loop_s *loop, const char *url,
                              const struct sl_listener_options *options,
                              const struct sl_listener_events *events,
                              struct sl_listener **ret, struct sl_err *err);
uint16_t sl_listener_port(const struct sl_listener *l); /* the bound one */
uint32_t sl_listener_connections(const struct sl_listener *l);
struct sl_wire_bytes sl_listener_bytes(const struct sl_listener *l);
/* Requests still held are forgotten: no reply or drop for them any more. */
void sl_listener_close(struct sl_listener *l);

/* Takes the frame (leaves {0}), in every case. */
void sl_request_reply(struct sl_request *req, struct sl_frame *frame);
/* No answer: the peer sends again after its resend time. */
void sl_request_drop(struct sl_request *req);
/* The caller's word for a request. */
void sl_request_set_user(struct sl_request *req, void *user);
void *sl_request_user(const struct sl_request *req);
/* "address:port" of the peer for logs, closing zero included. */
void sl_request_peer(const struct sl_request *req, char ret_text[SL_PEER_TEXT]);
/* Cuts the connection the request came by. */
void sl_request_hang_up(struct sl_request *req);

/* --- client ----------------------------------------------------------------------- */

struct sl_dialer;

struct sl_dialer_options {
    size_t max_frame;
    uint32_t contexts; /* requests under way at once; more wait in line (default 8) */
    uint32_t reconnect_min_ms; /* default 100 */
    uint32_t reconnect_max_ms; /* default 5000 */
};

struct sl_dialer_events {
    void *ctx;
    void (*on_link)(void *ctx, bool up); /* connection came or went; may be NULL */
    void (*on_closed)(void *ctx);        /* may be NULL; the dialer is freed after it */
};

/* Starts connecting to url and goes on for ever; the coordinator may come later.
 * SL_E_INPUT for a bad url. */
enum sl_code sl_dialer_open(struct uv_loop_s *loop, const char *url,
                            const struct sl_dialer_options *options,
                            const struct sl_dialer_events *events, struct sl_dialer **ret,
                            struct sl_err *err);
bool sl_dialer_up(const struct sl_dialer *d);
struct sl_wire_bytes sl_dialer_bytes(const struct sl_dialer *d);
/* Every request still open ends with SL_E_CANCELLED, during this call. */
void sl_dialer_close(struct sl_dialer *d);

/* SL_OK: *reply is the callee's. SL_E_TIMEOUT, SL_E_CANCELLED, SL_E_NOMEM: reply is NULL.
 */
typedef void (*sl_reply_fn)(void *ctx, enum sl_code rc, struct sl_frame *reply);

/* Sends a frame (taken, leaves {0}) and calls fn once, never from inside this call.
 * resend_ms: the same bytes again without a reply so long. timeout_ms counts from when
 * the frame could first be handed to a connection; 0 = wait for ever. SL_E_NOMEM,
 * SL_E_CANCELLED (closed): nothing was sent, the frame is freed and fn is not called. */
enum sl_code sl_dialer_request(struct sl_dialer *d, struct sl_frame *frame,
                               uint32_t resend_ms, uint32_t timeout_ms, sl_reply_fn fn,
                               void *ctx);

/* Ends the messaging library's threads and frees what they have not freed yet, so that a
 * leak check at exit finds nothing. Once, after every on_closed; nothing of this header
 * may be called afterwards. A program may as well just exit. */
void sl_transport_fini(void);

#endif
