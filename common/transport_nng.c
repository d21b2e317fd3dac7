/* SPDX-License-Identifier: Apache-2.0 */
/* The coordinator's end: one REP socket, one context for each request that is received or
 * held.
 *
 *     RECEIVING --message--> HELD --reply--> SENDING --sent--> RECEIVING
 *                             +-----drop-----------------------^
 *
 * The context's aio is started by the loop thread (reply, drop) or by its own callback
 * (sent -> receive again), so a round trip costs one wake-up of the loop, shared by all
 * requests that came meanwhile. A long poll holds its context; while fewer than half of
 * idle_contexts are left to receive, more are opened. NNG reads at most one unclaimed
 * message per connection, so memory is bounded by connections times max_frame.
 *
 * At close a thread of its own stops the aios and closes the socket, since both may wait.
 */
#include "common/transport.h"

#include <nng/nng.h>
#include <nng/protocol/reqrep0/rep.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/nng_bridge.h"

enum request_state { REQ_RECEIVING, REQ_HELD, REQ_SENDING };

struct sl_request {
    struct sl_bridge_item item; /* first: an item is its request */
    struct sl_listener *listener;
    nng_ctx ctx;
    nng_aio *aio;
    atomic_int
        state;    /* enum request_state; HELD is entered and left by the loop thread */
    nng_msg *msg; /* received, on its way to the loop thread */
    nng_pipe pipe;
    void *user;
};

struct gone_pipe {
    struct sl_bridge_item item;
    struct sl_listener *listener;
    uint32_t pipe;
};

struct sl_listener {
    struct sl_bridge bridge;
    struct sl_bridge_item closed_item;
    struct sl_listener_options options;
    struct sl_listener_events events;
    nng_socket socket;
    bool socket_open;
    uint16_t port;
    struct sl_request **requests; /* max_contexts, n_requests used */
    uint32_t n_requests;
    atomic_uint receiving, connections;
    atomic_bool closing;
    atomic_ullong rx, tx;
    uv_thread_t closer;
};

static void count(atomic_ullong *counter, uint64_t bytes)
{
    atomic_fetch_add_explicit(counter, bytes, memory_order_relaxed);
}

/* --- one request ------------------------------------------------------------------ */

static void receive(struct sl_request *r)
{
    r->state = REQ_RECEIVING;
    atomic_fetch_add_explicit(&r->listener->receiving, 1, memory_order_relaxed);
    nng_ctx_recv(r->ctx, r->aio);
}

/* On a thread of NNG. */
static void on_aio(void *arg)
{
    struct sl_request *r = arg;
    struct sl_listener *l = r->listener;
    int rv = nng_aio_result(r->aio);
    if (r->state == REQ_SENDING) {
        if (rv != 0 && nng_aio_get_msg(r->aio) != NULL) {
            nng_msg_free(nng_aio_get_msg(r->aio)); /* still ours */
            nng_aio_set_msg(r->aio, NULL);
        }
    } else {
        atomic_fetch_sub_explicit(&l->receiving, 1, memory_order_relaxed);
        if (rv == 0) {
            r->msg = nng_aio_get_msg(r->aio);
            nng_aio_set_msg(r->aio, NULL);
            sl_bridge_post(&l->bridge, &r->item);
            return;
        }
    }
    if (rv == NNG_ECLOSED || rv == NNG_ECANCELED || atomic_load(&l->closing))
        return;
    receive(r);
}

/* On the loop thread: a message came. */
static void on_message(struct sl_bridge_item *item)
{
    struct sl_request *r = (struct sl_request *)item;
    struct sl_listener *l = r->listener;
    struct sl_frame frame = {
        .data = nng_msg_body(r->msg), .n = nng_msg_len(r->msg), .opaque = r->msg};
    r->pipe = nng_msg_get_pipe(r->msg);
    r->msg = NULL;
    if (atomic_load(&l->closing)) {
        sl_frame_free(&frame);
        return;
    }
    r->state = REQ_HELD;
    r->user = NULL;
    count(&l->rx, frame.n + SL_NNG_FRAMING);
    l->events.on_request(l->events.ctx, r, &frame);
}

void sl_request_reply(struct sl_request *req, struct sl_frame *frame)
{
    struct sl_listener *l = req->listener;
    nng_msg *m = frame->opaque;
    count(&l->tx, frame->n + SL_NNG_FRAMING);
    *frame = (struct sl_frame){0};
    if (atomic_load(&l->closing)) {
        nng_msg_free(m);
        return;
    }
    req->state = REQ_SENDING;
    nng_aio_set_msg(req->aio, m);
    nng_ctx_send(req->ctx, req->aio);
}

void sl_request_drop(struct sl_request *req)
{
    if (!atomic_load(&req->listener->closing))
        receive(req); /* a context that receives again forgets whom it owed a reply */
}

void sl_request_set_user(struct sl_request *req, void *user)
{
    req->user = user;
}

void *sl_request_user(const struct sl_request *req)
{
    return req->user;
}

static void format_address(const nng_sockaddr *a, char ret_text[SL_PEER_TEXT])
{
    char host[48] = "?";
    if (a->s_family == NNG_AF_INET) {
        struct sockaddr_in in = {.sin_addr.s_addr = a->s_in.sa_addr};
        uv_ip4_name(&in, host, sizeof(host));
        snprintf(ret_text, SL_PEER_TEXT, "%s:%u", host, (unsigned)ntohs(a->s_in.sa_port));
    } else if (a->s_family == NNG_AF_INET6) {
        struct sockaddr_in6 in = {0};
        memcpy(&in.sin6_addr, a->s_in6.sa_addr, sizeof(in.sin6_addr));
        uv_ip6_name(&in, host, sizeof(host));
        snprintf(ret_text, SL_PEER_TEXT, "[%s]:%u", host,
                 (unsigned)ntohs(a->s_in6.sa_port));
    } else {
        snprintf(ret_text, SL_PEER_TEXT, "unknown");
    }
}

void sl_request_peer(const struct sl_request *req, char ret_text[SL_PEER_TEXT])
{
    nng_sockaddr a;
    if (nng_pipe_get_addr(req->pipe, NNG_OPT_REMADDR, &a) != 0)
        a.s_family = NNG_AF_UNSPEC; /* gone meanwhile */
    format_address(&a, ret_text);
}

void sl_request_hang_up(struct sl_request *req)
{
    nng_pipe_close(req->pipe);
}

/* --- connections ------------------------------------------------------------------ */

static void on_gone(struct sl_bridge_item *item)
{
    struct gone_pipe *g = (struct gone_pipe *)item;
    struct sl_listener *l = g->listener;
    for (uint32_t i = 0; i < l->n_requests && !atomic_load(&l->closing); i++) {
        struct sl_request *r = l->requests[i];
        if (r->state == REQ_HELD && (uint32_t)nng_pipe_id(r->pipe) == g->pipe)
            l->events.on_gone(l->events.ctx, r);
    }
    free(g);
}

/* On a thread of NNG. ADD_PRE: a request may be through before ADD_POST is told. */
static void on_pipe(nng_pipe pipe, nng_pipe_ev ev, void *arg)
{
    struct sl_listener *l = arg;
    if (ev == NNG_PIPE_EV_ADD_PRE) {
        atomic_fetch_add(&l->connections, 1);
        count(&l->rx, SL_NNG_HELLO);
        count(&l->tx, SL_NNG_HELLO);
        return;
    }
    atomic_fetch_sub(&l->connections, 1);
    if (l->events.on_gone == NULL || atomic_load(&l->closing))
        return;
    struct gone_pipe *g = calloc(1, sizeof(*g));
    if (g == NULL)
        return; /* its requests are answered in vain */
    g->item.run = on_gone;
    g->listener = l;
    g->pipe = (uint32_t)nng_pipe_id(pipe);
    sl_bridge_post(&l->bridge, &g->item);
}

/* --- the listener ----------------------------------------------------------------- */

static bool add_context(struct sl_listener *l)
{
    struct sl_request *r = calloc(1, sizeof(*r));
    if (r == NULL)
        return false;
    r->listener = l;
    r->item.run = on_message;
    if (!sl_nng_lane_open(l->socket, on_aio, r, &r->ctx, &r->aio)) {
        free(r);
        return false;
    }
    l->requests[l->n_requests++] = r;
    receive(r);
    return true;
}

/* After each batch. Without memory for more, those that there are go on. */
static void keep_receivers(void *ctx)
{
    struct sl_listener *l = ctx;
    if (atomic_load(&l->closing) ||
        atomic_load_explicit(&l->receiving, memory_order_relaxed) >=
            l->options.idle_contexts / 2)
        return;
    for (uint32_t i = 0; i < l->options.idle_contexts; i++)
        if (l->n_requests == l->options.max_contexts || !add_context(l))
            return;
}

static void listener_free(struct sl_listener *l)
{
    for (uint32_t i = 0; i < l->n_requests; i++) {
        nng_aio_free(l->requests[i]->aio);
        if (l->requests[i]->msg != NULL)
            nng_msg_free(l->requests[i]->msg);
        free(l->requests[i]);
    }
    free(l->requests);
    free(l);
}

static void on_bridge_closed(void *ctx)
{
    struct sl_listener *l = ctx;
    if (l->events.on_closed != NULL)
        l->events.on_closed(l->events.ctx);
    listener_free(l);
}

/* Everything that may wait for NNG's threads. */
static void close_everything(void *arg)
{
    struct sl_listener *l = arg;
    for (uint32_t i = 0; i < l->n_requests; i++)
        nng_aio_stop(l->requests[i]->aio);
    if (l->socket_open)
        nng_close(l->socket);
    sl_bridge_post(&l->bridge, &l->closed_item); /* the last one: behind all others */
}

static void on_everything_closed(struct sl_bridge_item *item)
{
    struct sl_listener *l =
        (struct sl_listener *)((char *)item - offsetof(struct sl_listener, closed_item));
    uv_thread_join(&l->closer);
    sl_bridge_close(&l->bridge);
}

void sl_listener_close(struct sl_listener *l)
{
    if (atomic_exchange(&l->closing, true))
        return;
    if (uv_thread_create(&l->closer, close_everything, l) != 0)
        abort(); /* a process that is ending and cannot even start a thread */
}

static enum sl_code listen_at(struct sl_listener *l, const char *url, struct sl_err *err)
{
    nng_listener nl;
    int rv = nng_rep0_open(&l->socket);
    if (rv != 0)
        return sl_nng_error(rv, "listen at", url, err);
    l->socket_open = true;
    rv = nng_socket_set_size(l->socket, NNG_OPT_RECVMAXSZ,
                             l->options.max_frame + SL_NNG_FRAMING - 8);
    if (rv == 0)
        rv = nng_pipe_notify(l->socket, NNG_PIPE_EV_ADD_PRE, on_pipe, l);
    if (rv == 0)
        rv = nng_pipe_notify(l->socket, NNG_PIPE_EV_REM_POST, on_pipe, l);
    if (rv == 0)
        rv = nng_listener_create(&nl, l->socket, url);
    if (rv == 0)
        nng_listener_set_bool(nl, NNG_OPT_TCP_KEEPALIVE, true);
    if (rv == 0)
        rv = nng_listener_start(nl, 0);
    int port = 0;
    if (rv == 0)
        rv = nng_listener_get_int(nl, NNG_OPT_TCP_BOUND_PORT, &port);
    l->port = (uint16_t)port;
    return rv == 0 ? SL_OK : sl_nng_error(rv, "listen at", url, err);
}

static struct sl_listener *listener_alloc(const struct sl_listener_options *options,
                                          const struct sl_listener_events *events)
{
    struct sl_listener *l = calloc(1, sizeof(*l));
    if (l == NULL)
        return NULL;
    l->options = *options;
    if (l->options.idle_contexts == 0)
        l->options.idle_contexts = 64;
    if (l->options.max_contexts == 0)
        l->options.max_contexts = 16384;
    l->events = *events;
    l->closed_item.run = on_everything_closed;
    l->bridge.after_batch = keep_receivers;
    l->bridge.on_closed = on_bridge_closed;
    l->requests = calloc(l->options.max_contexts, sizeof(struct sl_request *));
    if (l->requests == NULL) {
        free(l);
        return NULL;
    }
    return l;
}

enum sl_code sl_listener_open(struct uv_loop_s *loop, const char *url,
                              const struct sl_listener_options *options,
                              const struct sl_listener_events *events,
                              struct sl_listener **ret, struct sl_err *err)
{
    if (strncmp(url, "tcp", 3) != 0)
        return sl_nng_error(NNG_EADDRINVAL, "listen at", url, err);
    struct sl_listener *l = listener_alloc(options, events);
    if (l == NULL)
        return sl_err_set(err, SL_E_NOMEM, "listen at %s: out of memory", url);
    enum sl_code rc = sl_bridge_open(&l->bridge, loop, l, err);
    if (rc != SL_OK) {
        listener_free(l);
        return rc;
    }
    rc = listen_at(l, url, err);
    while (rc == SL_OK && l->n_requests < l->options.idle_contexts &&
           l->n_requests < l->options.max_contexts)
        if (!add_context(l))
            rc = sl_err_set(err, SL_E_NOMEM, "listen at %s: out of memory", url);
    if (rc != SL_OK) {
        l->events.on_closed = NULL; /* the caller never had it */
        sl_listener_close(l);
        return rc;
    }
    *ret = l;
    return SL_OK;
}

uint16_t sl_listener_port(const struct sl_listener *l)
{
    return l->port;
}

uint32_t sl_listener_connections(const struct sl_listener *l)
{
    return atomic_load(&l->connections);
}

struct sl_wire_bytes sl_listener_bytes(const struct sl_listener *l)
{
    return (struct sl_wire_bytes){
        .rx = atomic_load_explicit(&l->rx, memory_order_relaxed),
        .tx = atomic_load_explicit(&l->tx, memory_order_relaxed)};
}
