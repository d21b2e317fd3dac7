/* SPDX-License-Identifier: Apache-2.0 */
/* The client's end: one REQ socket with a fixed number of contexts (lanes), each carrying
 * one request at a time; further requests wait in line.
 *
 *     IDLE --request--> SENDING --on a connection--> RECEIVING --reply, timeout--> IDLE
 *
 * The step from SENDING to RECEIVING happens in the aio's callback, so that a round trip
 * wakes the loop once. SENDING has no timeout: it waits until there is a connection, and
 * cancelling a send is what NNG does worst. */
#include "common/transport.h"

#include <nng/nng.h>
#include <nng/protocol/reqrep0/req.h>
#include <stdlib.h>
#include <string.h>

#include "common/nng_bridge.h"

struct call {
    struct call *next;
    nng_msg *msg;
    uint32_t resend_ms, timeout_ms;
    sl_reply_fn fn;
    void *ctx;
};

enum lane_state { LANE_IDLE, LANE_SENDING, LANE_RECEIVING, LANE_DONE };

struct lane {
    struct sl_bridge_item item; /* first: an item is its lane */
    struct sl_dialer *dialer;
    nng_ctx ctx;
    nng_aio *aio;
    enum lane_state state; /* of whoever has the aio: its callback, or the loop thread */
    uint32_t resend_ms;    /* as set on the context */
    nng_duration timeout;
    int rv;
    nng_msg *msg; /* the reply, on its way to the loop thread */
    struct call *call;
};

struct sl_dialer {
    struct sl_bridge bridge;
    struct sl_bridge_item closed_item, link_item;
    struct sl_dialer_options options;
    struct sl_dialer_events events;
    nng_socket socket;
    bool socket_open, told_up;
    struct lane *lanes; /* options.contexts, n_lanes opened */
    uint32_t n_lanes;
    struct call *first, *last, *spare; /* the line; records to use again */
    atomic_int pipes;
    atomic_bool closing;
    atomic_ullong rx, tx;
    uv_thread_t closer;
};

static void count(atomic_ullong *counter, uint64_t bytes)
{
    atomic_fetch_add_explicit(counter, bytes, memory_order_relaxed);
}

/* --- calls
 * --------------------------------------------------------------------------------------
 */

static struct call *call_get(struct sl_dialer *d)
{
    struct call *c = d->spare;
    if (c == NULL)
        return calloc(1, sizeof(*c));
    d->spare = c->next;
    *c = (struct call){0};
    return c;
}

static void call_put(struct sl_dialer *d, struct call *c)
{
    c->next = d->spare;
    d->spare = c;
}

static void call_end(struct sl_dialer *d, struct call *c, enum sl_code rc,
                     struct sl_frame *reply)
{
    sl_reply_fn fn = c->fn;
    void *ctx = c->ctx;
    call_put(d, c);
    fn(ctx, rc, reply);
}

/* --- lanes
 * --------------------------------------------------------------------------------------
 */

static void lane_start(struct lane *lane, struct call *c)
{
    if (lane->resend_ms != c->resend_ms) {
        nng_ctx_set_ms(lane->ctx, NNG_OPT_REQ_RESENDTIME, (nng_duration)c->resend_ms);
        lane->resend_ms = c->resend_ms;
    }
    lane->call = c;
    lane->timeout =
        c->timeout_ms == 0 ? NNG_DURATION_INFINITE : (nng_duration)c->timeout_ms;
    lane->state = LANE_SENDING;
    count(&lane->dialer->tx, nng_msg_len(c->msg) + SL_NNG_FRAMING);
    nng_aio_set_timeout(lane->aio, NNG_DURATION_INFINITE);
    nng_aio_set_msg(lane->aio, c->msg);
    c->msg = NULL;
    nng_ctx_send(lane->ctx, lane->aio);
}

/* On a thread of NNG. */
static void on_aio(void *arg)
{
    struct lane *lane = arg;
    lane->rv = nng_aio_result(lane->aio);
    if (lane->state == LANE_SENDING && lane->rv == 0 &&
        !atomic_load(&lane->dialer->closing)) {
        lane->state = LANE_RECEIVING;
        nng_aio_set_msg(lane->aio, NULL);
        nng_aio_set_timeout(lane->aio, lane->timeout);
        nng_ctx_recv(lane->ctx, lane->aio);
        return;
    }
    if (lane->state == LANE_RECEIVING && lane->rv == 0) {
        lane->msg = nng_aio_get_msg(lane->aio);
    } else if (lane->state == LANE_SENDING && lane->rv != 0 &&
               nng_aio_get_msg(lane->aio) != NULL) {
        nng_msg_free(nng_aio_get_msg(lane->aio)); /* still ours */
    }
    nng_aio_set_msg(lane->aio, NULL);
    lane->state = LANE_DONE;
    sl_bridge_post(&lane->dialer->bridge, &lane->item);
}

static enum sl_code code_of(int rv)
{
    switch (rv) {
    case 0:
        return SL_OK;
    case NNG_ETIMEDOUT:
        return SL_E_TIMEOUT;
    case NNG_ENOMEM:
        return SL_E_NOMEM;
    default:
        return SL_E_CANCELLED;
    }
}

/* Takes the next of the line, if any. */
static void lane_next(struct lane *lane)
{
    struct sl_dialer *d = lane->dialer;
    struct call *c = d->first;
    lane->state = LANE_IDLE;
    if (c == NULL || atomic_load(&d->closing))
        return;
    d->first = c->next;
    if (d->first == NULL)
        d->last = NULL;
    lane_start(lane, c);
}

/* On the loop thread: a lane is done. It takes its next request before the callback,
 * which may send more. */
static void on_lane(struct sl_bridge_item *item)
{
    struct lane *lane = (struct lane *)item;
    struct sl_dialer *d = lane->dialer;
    struct call *c = lane->call;
    enum sl_code rc = code_of(lane->rv);
    struct sl_frame reply = {0};
    if (lane->msg != NULL) {
        reply = (struct sl_frame){.data = nng_msg_body(lane->msg),
                                  .n = nng_msg_len(lane->msg),
                                  .opaque = lane->msg};
        lane->msg = NULL;
        count(&d->rx, reply.n + SL_NNG_FRAMING);
    }
    lane->call = NULL;
    lane_next(lane);
    if (c == NULL) { /* was cancelled by close */
        sl_frame_free(&reply);
        return;
    }
    call_end(d, c, rc, rc == SL_OK ? &reply : NULL);
}

static struct lane *idle_lane(struct sl_dialer *d)
{
    for (uint32_t i = 0; i < d->n_lanes; i++)
        if (d->lanes[i].call == NULL)
            return &d->lanes[i];
    return NULL;
}

enum sl_code sl_dialer_request(struct sl_dialer *d, struct sl_frame *frame,
                               uint32_t resend_ms, uint32_t timeout_ms, sl_reply_fn fn,
                               void *ctx)
{
    struct call *c = atomic_load(&d->closing) ? NULL : call_get(d);
    if (c == NULL) {
        sl_frame_free(frame);
        return atomic_load(&d->closing) ? SL_E_CANCELLED : SL_E_NOMEM;
    }
    c->msg = frame->opaque;
    c->resend_ms = resend_ms;
    c->timeout_ms = timeout_ms;
    c->fn = fn;
    c->ctx = ctx;
    *frame = (struct sl_frame){0};
    struct lane *lane = d->first == NULL ? idle_lane(d) : NULL;
    if (lane != NULL) {
        lane_start(lane, c);
        return SL_OK;
    }
    if (d->last != NULL)
        d->last->next = c;
    else
        d->first = c;
    d->last = c;
    return SL_OK;
}

/* --- connection ------------------------------------------------------------------- */

/* On a thread of NNG. ADD_PRE: a request may be through before ADD_POST is told. */
static void on_pipe(nng_pipe pipe, nng_pipe_ev ev, void *arg)
{
    struct sl_dialer *d = arg;
    (void)pipe;
    bool added = ev == NNG_PIPE_EV_ADD_PRE;
    atomic_fetch_add(&d->pipes, added ? 1 : -1);
    if (added) {
        count(&d->rx, SL_NNG_HELLO);
        count(&d->tx, SL_NNG_HELLO);
    }
    sl_bridge_post(&d->bridge, &d->link_item);
}

static void on_link(struct sl_bridge_item *item)
{
    struct sl_dialer *d =
        (struct sl_dialer *)((char *)item - offsetof(struct sl_dialer, link_item));
    bool up = sl_dialer_up(d);
    if (up == d->told_up || atomic_load(&d->closing))
        return;
    d->told_up = up;
    if (d->events.on_link != NULL)
        d->events.on_link(d->events.ctx, up);
}

bool sl_dialer_up(const struct sl_dialer *d)
{
    return atomic_load(&d->pipes) > 0;
}

struct sl_wire_bytes sl_dialer_bytes(const struct sl_dialer *d)
{
    return (struct sl_wire_bytes){
        .rx = atomic_load_explicit(&d->rx, memory_order_relaxed),
        .tx = atomic_load_explicit(&d->tx, memory_order_relaxed)};
}

/* --- life
 * ------------------------------------------------------------------------------------------
 */

static void dialer_free(struct sl_dialer *d)
{
    for (uint32_t i = 0; i < d->n_lanes; i++) {
        nng_aio_free(d->lanes[i].aio);
        if (d->lanes[i].msg != NULL)
            nng_msg_free(d->lanes[i].msg);
    }
    while (d->spare != NULL) {
        struct call *next = d->spare->next;
        free(d->spare);
        d->spare = next;
    }
    free(d->lanes);
    free(d);
}

static void on_bridge_closed(void *ctx)
{
    struct sl_dialer *d = ctx;
    if (d->events.on_closed != NULL)
        d->events.on_closed(d->events.ctx);
    dialer_free(d);
}

/* Everything that may wait for NNG's threads. */
static void close_everything(void *arg)
{
    struct sl_dialer *d = arg;
    for (uint32_t i = 0; i < d->n_lanes; i++)
        nng_aio_stop(d->lanes[i].aio);
    if (d->socket_open)
        nng_close(d->socket);
    sl_bridge_post(&d->bridge, &d->closed_item); /* the last one: behind all others */
}

static void on_everything_closed(struct sl_bridge_item *item)
{
    struct sl_dialer *d =
        (struct sl_dialer *)((char *)item - offsetof(struct sl_dialer, closed_item));
    uv_thread_join(&d->closer);
    sl_bridge_close(&d->bridge);
}

static void cancel_calls(struct sl_dialer *d)
{
    struct call *c;
    while ((c = d->first) != NULL) {
        d->first = c->next;
        nng_msg_free(c->msg);
        call_end(d, c, SL_E_CANCELLED, NULL);
    }
    d->last = NULL;
    for (uint32_t i = 0; i < d->n_lanes; i++) {
        c = d->lanes[i].call;
        d->lanes[i].call = NULL;
        if (c != NULL)
            call_end(d, c, SL_E_CANCELLED, NULL);
    }
}

void sl_dialer_close(struct sl_dialer *d)
{
    if (atomic_exchange(&d->closing, true))
        return;
    cancel_calls(d);
    if (uv_thread_create(&d->closer, close_everything, d) != 0)
        abort(); /* a process that is ending and cannot even start a thread */
}

static enum sl_code dial_to(struct sl_dialer *d, const char *url, struct sl_err *err)
{
    const struct sl_dialer_options *o = &d->options;
    nng_dialer nd;
    int rv = nng_req0_open(&d->socket);
    if (rv != 0)
        return sl_nng_error(rv, "connect to", url, err);
    d->socket_open = true;
    rv = nng_socket_set_size(d->socket, NNG_OPT_RECVMAXSZ,
                             o->max_frame + SL_NNG_FRAMING - 8);
    if (rv == 0)
        rv = nng_socket_set_ms(d->socket, NNG_OPT_RECONNMINT,
                               (nng_duration)o->reconnect_min_ms);
    if (rv == 0)
        rv = nng_socket_set_ms(d->socket, NNG_OPT_RECONNMAXT,
                               (nng_duration)o->reconnect_max_ms);
    if (rv == 0)
        rv = nng_pipe_notify(d->socket, NNG_PIPE_EV_ADD_PRE, on_pipe, d);
    if (rv == 0)
        rv = nng_pipe_notify(d->socket, NNG_PIPE_EV_REM_POST, on_pipe, d);
    for (uint32_t i = 0; rv == 0 && i < o->contexts; i++) {
        struct lane *lane = &d->lanes[i];
        lane->dialer = d;
        lane->item.run = on_lane;
        if (!sl_nng_lane_open(d->socket, on_aio, lane, &lane->ctx, &lane->aio))
            rv = NNG_ENOMEM;
        else
            d->n_lanes++;
    }
    if (rv == 0)
        rv = nng_dialer_create(&nd, d->socket, url);
    if (rv == 0)
        nng_dialer_set_bool(nd, NNG_OPT_TCP_KEEPALIVE, true);
    if (rv == 0)
        rv = nng_dialer_start(nd, NNG_FLAG_NONBLOCK);
    return rv == 0 ? SL_OK : sl_nng_error(rv, "connect to", url, err);
}

static struct sl_dialer *dialer_alloc(const struct sl_dialer_options *options,
                                      const struct sl_dialer_events *events)
{
    struct sl_dialer *d = calloc(1, sizeof(*d));
    if (d == NULL)
        return NULL;
    d->options = *options;
    if (d->options.contexts == 0)
        d->options.contexts = 8;
    if (d->options.reconnect_min_ms == 0)
        d->options.reconnect_min_ms = 100;
    if (d->options.reconnect_max_ms == 0)
        d->options.reconnect_max_ms = 5000;
    d->events = *events;
    d->closed_item.run = on_everything_closed;
    d->link_item.run = on_link;
    d->bridge.on_closed = on_bridge_closed;
    d->lanes = calloc(d->options.contexts, sizeof(struct lane));
    if (d->lanes == NULL) {
        free(d);
        return NULL;
    }
    return d;
}

enum sl_code sl_dialer_open(struct uv_loop_s *loop, const char *url,
                            const struct sl_dialer_options *options,
                            const struct sl_dialer_events *events, struct sl_dialer **ret,
                            struct sl_err *err)
{
    if (strncmp(url, "tcp", 3) != 0)
        return sl_nng_error(NNG_EADDRINVAL, "connect to", url, err);
    struct sl_dialer *d = dialer_alloc(options, events);
    if (d == NULL)
        return sl_err_set(err, SL_E_NOMEM, "connect to %s: out of memory", url);
    enum sl_code rc = sl_bridge_open(&d->bridge, loop, d, err);
    if (rc != SL_OK) {
        dialer_free(d);
        return rc;
    }
    rc = dial_to(d, url, err);
    if (rc != SL_OK) {
        d->events.on_closed = NULL; /* the caller never had it */
        sl_dialer_close(d);
        return rc;
    }
    *ret = d;
    return SL_OK;
}
