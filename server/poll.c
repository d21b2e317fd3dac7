/* SPDX-License-Identifier: Apache-2.0 */
/* Polls: what a client is to do now, and what became of its update; held until there is something to
 * say. What a round's messages weigh stands beside the messages. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "server/core.h"

/* --- what a round's messages weigh ------------------------------------------------------------ */

static uint64_t weigh(const struct sl_msg *m)
{
    return sl_wire_size(m) + SL_WIRE_ENVELOPE_BYTES;
}

/* round: the open one, or the version that the task begins from. */
static struct sl_msg task_message(const struct run *r, uint32_t round, uint64_t deadline_ms)
{
    struct sl_msg m = {.kind = SL_MSG_POLL_REPLY};
    m.poll_reply.task = (struct sl_task_order){
        .kind = calibrate_under_way(r) ? SL_TASK_CALIBRATE : SL_TASK_TRAIN,
        .run_id = r->id,
        .round = round,
        .attempt = r->round.attempt,
        .plan = r->plan_ref,
        .model = r->model_ref,
        .head = r->head_ref,
        .deadline_ms = deadline_ms,
        .evaluate = run_asks_eval(r),
    };
    if (r->model_ref.size <= SL_CHUNK_BYTES) {
        m.attachment = (const uint8_t *)r->sent;
        m.attachment_bytes = r->model_ref.size;
    }
    return m;
}

uint64_t poll_bytes_down(const struct run *r, uint32_t round)
{
    struct sl_msg m = task_message(r, round, 1);
    m.poll_reply.task.attempt = 0; /* as first sent */
    uint64_t sum = weigh(&m), size = r->model_ref.size;
    for (uint64_t at = 0; size > SL_CHUNK_BYTES && at < size; at += SL_CHUNK_BYTES) {
        struct sl_msg chunk = {.kind = SL_MSG_CHUNK};
        chunk.chunk.id = r->model_ref.id;
        chunk.chunk.offset = at;
        chunk.chunk.total = size;
        chunk.chunk.found = true;
        chunk.attachment = (const uint8_t *)r->sent;
        chunk.attachment_bytes = size - at < SL_CHUNK_BYTES ? size - at : SL_CHUNK_BYTES;
        sum += weigh(&chunk);
    }
    return sum;
}

uint64_t poll_bytes_fetch(const struct run *r)
{
    struct sl_msg poll = {.kind = SL_MSG_POLL};
    poll.poll.boot_id = 1;
    uint64_t sum = weigh(&poll), size = r->model_ref.size;
    for (uint64_t at = 0; size > SL_CHUNK_BYTES && at < size; at += SL_CHUNK_BYTES) {
        struct sl_msg get = {.kind = SL_MSG_GET_CHUNK};
        get.get_chunk.id = r->model_ref.id;
        get.get_chunk.offset = at;
        get.get_chunk.length = (uint32_t)(size - at < SL_CHUNK_BYTES ? size - at : SL_CHUNK_BYTES);
        sum += weigh(&get);
    }
    return sum;
}

uint64_t poll_bytes_up(const struct run *r, const struct upload *u)
{
    uint64_t sum = poll_bytes_fetch(r);
    for (uint64_t at = 0; at < u->blob.size; at += SL_CHUNK_BYTES) {
        uint64_t left = u->blob.size - at;
        struct sl_msg put = {.kind = SL_MSG_PUT_CHUNK};
        put.put_chunk.run_id = r->id;
        put.put_chunk.round = buffer_start(r, u->position);
        put.put_chunk.blob = u->blob;
        put.put_chunk.offset = at;
        put.attachment = (const uint8_t *)r->sent; /* only the size counts */
        put.attachment_bytes = left < SL_CHUNK_BYTES ? left : SL_CHUNK_BYTES;
        put.put_chunk.has_meta = left <= SL_CHUNK_BYTES;
        put.put_chunk.meta = u->meta;
        sum += weigh(&put);
    }
    return sum;
}

uint64_t poll_bytes_probe(const struct run *r, size_t position, bool down)
{
    const struct probe *p = &r->probing.member[position];
    struct sl_msg probe = {.kind = SL_MSG_PROBE}, decision = {.kind = SL_MSG_DECISION};
    probe.probe.run_id = r->id;
    probe.probe.round = r->round.number;
    probe.probe.loss = p->loss;
    probe.probe.samples = p->samples;
    decision.decision.go = SL_GO_ON; /* a word of the other kind has the same size */
    return weigh(down ? &decision : &probe);
}

/* --- polls -------------------------------------------------------------------------------------- */

/* Is it known what became of the update that the poll names? */
static bool settled(struct sl_coordinator *c, uint32_t client, const struct sl_msg *poll,
                    bool *ret_committed)
{
    struct run *r = c->run;
    uint64_t run = poll->poll.run_id;
    bool known = false, included = false;
    struct sl_err err;
    enum sl_code rc = c->env.store->ops->was_included(c->env.store, run, poll->poll.round, client,
                                                      &known, &included, &err);
    if (rc != SL_OK) {
        core_fault(c, rc, &err);
        return false;
    }
    *ret_committed = known && included;
    if (r != NULL && r->id == run && r->phase != RUN_OVER && buffer_on(r))
        return included || buffer_settles(r, client, poll);
    if (known)
        return true;
    /* not committed: it may still be, unless its run is over or gone */
    return !(r != NULL && r->id == run && r->phase != RUN_OVER);
}

static bool fp32_kernel_fits(const struct run *r, const struct sl_client_entry *e)
{
    return e->blas[0] == '\0' || strcmp(e->blas, r->c->env.blas_name) == 0;
}

void poll_refuse_kernels(struct sl_coordinator *c)
{
    struct run *r = c->run;
    if (r == NULL || r->plan.run.reproducible != SL_REPRODUCIBLE_STRICT)
        return;
    for (size_t i = 0; r->phase == RUN_OPEN && i < r->round.n_members; i++) {
        const struct sl_member *m = &r->round.members[i];
        const struct sl_client_entry *e = sl_registry_at(&c->registry, m->client);
        if (m->state != SL_MEMBER_WAITING || e == NULL || fp32_kernel_fits(r, e))
            continue;
        char reason[80];
        snprintf(reason, sizeof(reason), "fp32 kernel %.24s, not %.24s", e->blas,
                 c->env.blas_name);
        struct sl_round_event ev = {.kind = SL_ROUND_EV_FAILED,
                                    .now_ms = c->now_ms,
                                    .client = m->client,
                                    .reason = reason};
        commit_act(r, sl_round_step(&r->round, &ev));
    }
}

/* Its task under asynchronous aggregation. The model of an earlier version is named for the update that the
 * client keeps; it is not there any more. */
static bool find_version(struct run *r, uint32_t client, const struct sl_msg *poll, struct sl_msg *m)
{
    const struct flight *f = buffer_order(r, client, poll);
    if (f == NULL)
        return false;
    *m = task_message(r, f->start, f->due_ms > r->c->now_ms ? f->due_ms - r->c->now_ms : 1);
    if (!sl_blob_id_equal(&f->model, &r->model_ref.id)) {
        m->poll_reply.task.model.id = f->model;
        m->attachment = NULL;
        m->attachment_bytes = 0;
    }
    return true;
}

/* The task for this client now, if there is one. */
static bool find_task(struct sl_coordinator *c, struct sl_client_entry *e, const struct sl_msg *poll,
                      struct sl_msg *m)
{
    struct run *r = c->run;
    if (r == NULL)
        return false;
    uint32_t client = e->row.index;
    if (r->phase == RUN_CLIENT_EVAL && client < r->eval.n && !r->eval.there[client]) {
        uint64_t left = r->eval_deadline_ms > c->now_ms ? r->eval_deadline_ms - c->now_ms : 1;
        *m = task_message(r, r->round.number, left);
        m->poll_reply.task.kind = SL_TASK_EVALUATE;
        m->poll_reply.task.evaluate = true;
        return true;
    }
    if (r->phase != RUN_OPEN || r->unjournalled)
        return false;
    const struct sl_member *member = sl_round_member(&r->round, client);
    if (member == NULL ||
        (member->state != SL_MEMBER_WAITING && member->state != SL_MEMBER_TASKED &&
         member->state != SL_MEMBER_PROBED)) /* that one was killed, and probes again */
        return false;
    if (r->plan.run.reproducible == SL_REPRODUCIBLE_STRICT && !fp32_kernel_fits(r, e))
        return false; /* poll_refuse_kernels puts it out */
    uint64_t left = sl_round_remaining_ms(&r->round, c->now_ms);
    if (!buffer_on(r))
        *m = task_message(r, r->round.number, left == 0 ? 1 : left);
    else if (!find_version(r, client, poll, m))
        return false;
    struct sl_round_event ev = {.kind = SL_ROUND_EV_TASKED, .now_ms = c->now_ms, .client = client};
    sl_round_step(&r->round, &ev);
    if (r->probing.on)
        probe_tasked(r, (size_t)(member - r->round.members));
    return true;
}

/* Answers a poll when there is something to say; false: hold it. */
static bool answer_poll(struct sl_coordinator *c, struct sl_client_entry *e, sl_request_id id,
                        const struct sl_msg *poll)
{
    struct sl_msg m = {.kind = SL_MSG_POLL_REPLY};
    bool committed = false, say = false;
    if (poll->poll.has_pending && settled(c, e->row.index, poll, &committed)) {
        say = true;
    }
    bool task = find_task(c, e, poll, &m);
    if (say) {
        m.poll_reply.has_settled = true;
        m.poll_reply.settled_run = poll->poll.run_id;
        m.poll_reply.settled_round = poll->poll.round;
        m.poll_reply.settled_committed = committed;
    }
    if (c->draining) {
        m.poll_reply.draining = true;
        m.poll_reply.again_ms = 500;
    }
    if (!say && !task && !c->draining)
        return false;
    c->env.reply(c->env.ctx, id, &m);
    return true;
}

void poll_release(struct sl_client_entry *e)
{
    e->holds = false;
    free(e->poll);
    e->poll = NULL;
}

static void nothing_to_do(struct sl_coordinator *c, sl_request_id id)
{
    struct sl_msg m = {.kind = SL_MSG_POLL_REPLY};
    c->env.reply(c->env.ctx, id, &m);
}

void poll_take(struct sl_coordinator *c, struct sl_client_entry *e, sl_request_id id,
                    const struct sl_msg *m)
{
    if (e->holds) { /* a newer poll takes the place of the one that is held */
        sl_request_id old = e->held_id;
        poll_release(e);
        nothing_to_do(c, old);
    }
    if (answer_poll(c, e, id, m))
        return;
    struct sl_msg *copy = malloc(sizeof(*copy));
    if (copy == NULL) {
        nothing_to_do(c, id);
        return;
    }
    *copy = *m;
    e->holds = true;
    e->held_id = id;
    e->held_since_ms = c->now_ms;
    e->poll = copy;
}

static void serve(struct sl_coordinator *c, uint32_t i)
{
    struct sl_client_entry *e = &c->registry.clients[i];
    if (!e->holds)
        return;
    sl_request_id id = e->held_id;
    if (answer_poll(c, e, id, e->poll)) {
        e = &c->registry.clients[i];
        if (e->holds && e->held_id == id)
            poll_release(e);
    }
}

void poll_serve(struct sl_coordinator *c)
{
    for (uint32_t i = 0; i < c->registry.n; i++)
        serve(c, i);
}

void poll_serve_client(struct sl_coordinator *c, uint32_t client)
{
    const struct sl_client_entry *e = sl_registry_at(&c->registry, client);
    if (e != NULL)
        serve(c, (uint32_t)(e - c->registry.clients));
}

void poll_expire(struct sl_coordinator *c)
{
    for (uint32_t i = 0; c->env.poll_hold_ms > 0 && i < c->registry.n; i++) {
        struct sl_client_entry *e = &c->registry.clients[i];
        if (!e->holds || c->now_ms - e->held_since_ms < c->env.poll_hold_ms)
            continue;
        sl_request_id id = e->held_id;
        poll_release(e);
        nothing_to_do(c, id);
    }
}
