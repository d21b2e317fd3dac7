/* SPDX-License-Identifier: Apache-2.0 */
/* A request lives in a table from its sending to the arrival of its reply. The link may
 * lose, delay, repeat or reorder what it carries, or be cut, which loses all that is on
 * its way; a lost message is made good by sending the request again, as REQ does. The
 * coordinator's session layer answers a repeated request that changes something from its
 * reply cache and executes a read again; here `reply` of the table is that cache. */
#include "sim/world_internal.h"

#include <stdlib.h>

#include "common/mem.h"

static uint64_t token_of(const struct sl_world *w, const struct request *r)
{
    return (uint64_t)r->generation << 32 | (uint64_t)(r - w->requests);
}

static struct request *request_of(struct sl_world *w, uint64_t token)
{
    uint32_t i = (uint32_t)token;
    if (i >= w->n_requests)
        return NULL;
    struct request *r = &w->requests[i];
    return r->used && r->generation == token >> 32 ? r : NULL;
}

static struct request *take_request(struct sl_world *w)
{
    uint32_t i = w->free_request;
    if (i != NONE) {
        w->free_request = w->requests[i].next;
    } else {
        if (w->n_requests == w->cap_requests) {
            uint32_t cap = w->cap_requests == 0 ? 64 : 2 * w->cap_requests;
            struct request *more = realloc(w->requests, cap * sizeof(*more));
            if (more == NULL)
                return NULL;
            w->requests = more;
            w->cap_requests = cap;
        }
        i = w->n_requests++;
        w->requests[i].generation = 0;
    }
    struct request *r = &w->requests[i];
    *r = (struct request){.generation = r->generation + 1, .used = true};
    w->used_requests++;
    return r;
}

/* Takes the request out of its client's list and the table. */
static void drop_request(struct sl_world *w, struct request *r)
{
    uint32_t i = (uint32_t)(r - w->requests);
    uint32_t *at = &w->clients[r->client].first_request;
    while (*at != i)
        at = &w->requests[*at].next;
    *at = r->next;
    free(r->bytes);
    free(r->reply);
    r->bytes = r->reply = NULL;
    r->used = false;
    r->next = w->free_request;
    w->free_request = i;
    w->used_requests--;
}

static uint8_t *pack(struct sl_world *w, const struct sl_msg *m, uint32_t *ret_n)
{
    size_t cap = sl_wire_size(m), n = 0;
    uint8_t *buf = malloc(cap);
    struct sl_err err;
    if (buf == NULL) {
        world_fail(w, SL_E_NOMEM, "message");
        return NULL;
    }
    enum sl_code rc = sl_wire_pack(m, buf, cap, &n, &err);
    if (rc != SL_OK) {
        world_fail(w, rc, err.msg);
        free(buf);
        return NULL;
    }
    *ret_n = (uint32_t)n;
    return buf;
}

/* --- on the way
 * ------------------------------------------------------------------------------- */

/* The connection is cut: what is on its way is lost and sent again over the next one. */
static void cut(struct vclient *v)
{
    struct sl_world *w = v->w;
    uint64_t back = w->now_us + sl_faults_between(&w->faults, 100000, RECONNECT_US);
    for (uint32_t i = v->first_request; i != NONE; i = w->requests[i].next) {
        struct request *r = &w->requests[i];
        r->flight++;
        if (r->at_coordinator) {
            r->at_coordinator = false;
            sl_coordinator_forget(w->core, token_of(w, r));
        }
        world_push(w, EV_RESEND, back, v->index, token_of(w, r), r->flight);
    }
}

static void transmit(struct sl_world *w, struct request *r, bool up)
{
    struct vclient *v = &w->clients[r->client];
    struct sl_link link = sl_network_link(&w->network, r->client);
    size_t n = (up ? r->n_bytes : r->n_reply) + SL_WIRE_ENVELOPE_BYTES;
    uint64_t arrival = sl_link_arrival_us(&link, up, w->now_us, n,
                                          up ? &v->up_free_us : &v->down_free_us);
    struct sl_message_fault f = sl_faults_message(&w->faults, link.rtt_us);
    enum event_kind kind = up ? EV_REQUEST : EV_REPLY;
    uint64_t token = token_of(w, r);
    w->stats.messages++;
    w->stats.wire_bytes += n;
    arrival += f.late_us;
    if (!f.drop)
        world_push(w, kind, arrival, r->client, token, r->flight);
    if (!f.drop && f.duplicate)
        world_push(w, kind, arrival + link.rtt_us, r->client, token, r->flight);
    if (f.drop)
        world_push(w, EV_RESEND, w->now_us + RESEND_US, r->client, token, r->flight);
    if (f.disconnect)
        world_push(w, EV_CUT, w->now_us, r->client, 0, 0);
}

void link_send(struct vclient *v, uint64_t id, const struct sl_msg *m)
{
    struct sl_world *w = v->w;
    uint32_t n;
    uint8_t *bytes = pack(w, m, &n);
    if (bytes == NULL)
        return;
    struct request *r = take_request(w);
    if (r == NULL) {
        free(bytes);
        world_fail(w, SL_E_NOMEM, "request");
        return;
    }
    r->id = id;
    r->bytes = bytes;
    r->n_bytes = n;
    r->client = v->index;
    r->kind = (uint8_t)m->kind;
    r->next = v->first_request;
    v->first_request = (uint32_t)(r - w->requests);
    transmit(w, r, true);
}

/* --- at the coordinator
 * ----------------------------------------------------------------------- */

static bool is_read(const struct request *r)
{
    return r->kind == SL_MSG_POLL || r->kind == SL_MSG_GET_CHUNK;
}

static void hand_over(struct sl_world *w, struct request *r)
{
    struct sl_msg m;
    struct sl_err err;
    enum sl_code rc = sl_wire_unpack(r->bytes, r->n_bytes, SL_TO_COORDINATOR, &m, &err);
    if (rc != SL_OK) {
        world_fail(w, rc, err.msg);
        return;
    }
    free(r->reply);
    r->reply = NULL;
    r->at_coordinator = true;
    sl_coordinator_message(w->core, world_now_ms(w), r->client, token_of(w, r), &m);
}

static void arrive_up(struct sl_world *w, struct request *r)
{
    struct vclient *v = &w->clients[r->client];
    if (v->away)
        return;
    if (w->core == NULL) {
        world_push(w, EV_RESEND, w->now_us + RESEND_US, r->client, token_of(w, r),
                   r->flight);
        return;
    }
    if (v->epoch != w->epoch) { /* answered by "no session" */
        clients_connect(v, w->now_us + sl_network_link(&w->network, v->index).rtt_us);
        return;
    }
    if (r->at_coordinator)
        return;
    if (r->reply != NULL && !is_read(r)) {
        w->stats.resent++;
        transmit(w, r, false);
        return;
    }
    hand_over(w, r);
}

void link_reply(struct sl_world *w, uint64_t token, const struct sl_msg *m)
{
    struct request *r = request_of(w, token);
    if (r == NULL || !r->at_coordinator) {
        world_fail(w, SL_E_BUG, "a reply without its request");
        return;
    }
    r->at_coordinator = false;
    r->reply = pack(w, m, &r->n_reply);
    if (r->reply == NULL)
        return;
    struct vclient *v = &w->clients[r->client];
    const struct sl_task_order *task = &m->poll_reply.task;
    if (m->kind == SL_MSG_POLL_REPLY && (task->kind == SL_TASK_TRAIN || task->kind == SL_TASK_CALIBRATE) &&
        sl_faults_dropout(&w->faults, v->index, task->round, task->attempt)) {
        w->stats.dropouts++;
        clients_drop_out(v, w->now_us + (task->deadline_ms + 1) * 1000);
        return;
    }
    if (m->kind == SL_MSG_PUT_REPLY && m->put_reply.status == SL_PUT_ACCEPTED &&
        w->opt.hooks.accepted != NULL) {
        struct sl_msg put;
        struct sl_err err;
        if (sl_wire_unpack(r->bytes, r->n_bytes, SL_TO_COORDINATOR, &put, &err) == SL_OK &&
            put.put_chunk.round < SL_ROUND_CALIBRATION)
            w->opt.hooks.accepted(w->opt.hooks.ctx, put.put_chunk.run_id,
                                  put.put_chunk.round, r->client);
    }
    transmit(w, r, false);
}

/* --- at the client
 * -------------------------------------------------------------------------------- */

static void arrive_down(struct sl_world *w, struct request *r)
{
    struct vclient *v = &w->clients[r->client];
    if (v->away || v->core == NULL || r->reply == NULL)
        return;
    struct sl_msg m;
    struct sl_err err;
    enum sl_code rc = sl_wire_unpack(r->reply, r->n_reply, SL_TO_CLIENT, &m, &err);
    if (rc != SL_OK) {
        world_fail(w, rc, err.msg);
        return;
    }
    uint64_t id = r->id;
    uint8_t *reply = r->reply; /* the message points into it */
    r->reply = NULL;
    drop_request(w, r);
    sl_client_reply(v->core, world_now_ms(w), id, &m);
    free(reply);
}

void link_event(struct sl_world *w, const struct sl_sim_event *e)
{
    if (e->kind == EV_CUT) {
        cut(&w->clients[e->client]);
        return;
    }
    struct request *r = request_of(w, e->token);
    if (r == NULL || r->flight != e->n_bytes)
        return;
    if (e->kind == EV_REQUEST) {
        arrive_up(w, r);
    } else if (e->kind == EV_REPLY) {
        arrive_down(w, r);
    } else if (!w->clients[r->client].away) {
        w->stats.resent++;
        transmit(w, r, true);
    }
}

/* --- endings
 * ----------------------------------------------------------------------------------------
 */

void link_forget_client(struct vclient *v)
{
    struct sl_world *w = v->w;
    while (v->first_request != NONE) {
        struct request *r = &w->requests[v->first_request];
        if (r->at_coordinator && w->core != NULL)
            sl_coordinator_forget(w->core, token_of(w, r));
        drop_request(w, r);
    }
}

void link_lose(struct vclient *v)
{
    struct sl_world *w = v->w;
    while (v->first_request != NONE) {
        struct request *r = &w->requests[v->first_request];
        uint64_t id = r->id;
        if (r->at_coordinator && w->core != NULL)
            sl_coordinator_forget(w->core, token_of(w, r));
        drop_request(w, r);
        sl_client_lost(v->core, world_now_ms(w), id);
    }
}

void link_coordinator_gone(struct sl_world *w)
{
    for (uint32_t i = 0; i < w->n_requests; i++) {
        struct request *r = &w->requests[i];
        if (!r->used)
            continue;
        r->at_coordinator = false;
        if (r->reply != NULL && sl_faults_between(&w->faults, 0, 2) == 0)
            r->flight++; /* it never left the machine */
    }
}

void link_deinit(struct sl_world *w)
{
    for (uint32_t i = 0; i < w->n_requests; i++)
        if (w->requests[i].used) {
            free(w->requests[i].bytes);
            free(w->requests[i].reply);
        }
    free(w->requests);
}
