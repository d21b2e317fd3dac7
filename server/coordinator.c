/* SPDX-License-Identifier: Apache-2.0 */
#include "server/coordinator.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/crash_point.h"
#include "common/mem.h"
#include "server/core.h"

/* --- answers ------------------------------------------------------------------------------------ */

static void reply(struct sl_coordinator *c, sl_request_id id, const struct sl_msg *m)
{
    c->env.reply(c->env.ctx, id, m);
}

void core_reply_put(struct sl_coordinator *c, sl_request_id id, enum sl_put_status status,
                    uint64_t next_offset, const char *reason)
{
    struct sl_msg m = {.kind = SL_MSG_PUT_REPLY};
    m.put_reply.status = status;
    m.put_reply.next_offset = next_offset;
    snprintf(m.put_reply.reason, sizeof(m.put_reply.reason), "%s", reason);
    reply(c, id, &m);
}

static void reply_ack(struct sl_coordinator *c, sl_request_id id, bool ok, const char *reason)
{
    struct sl_msg m = {.kind = SL_MSG_ACK};
    m.ack.ok = ok;
    snprintf(m.ack.reason, sizeof(m.ack.reason), "%s", reason);
    reply(c, id, &m);
}

void core_fault(struct sl_coordinator *c, enum sl_code code, const struct sl_err *err)
{
    c->fault = *err;
    c->fault.code = code;
    if (strcmp(c->said, err->msg) != 0)
        sl_log_write(c->env.log, SL_LOG_ERROR, "%s; trying again every second", err->msg);
    memcpy(c->said, err->msg, sizeof(c->said));
    c->env.wake_at(c->env.ctx, c->now_ms + TICK_MS);
}

void core_stall(struct sl_coordinator *c, sl_request_id id, uint64_t offset)
{
    struct stalled *more = realloc(c->stalled, (c->n_stalled + 1) * sizeof(*more));
    if (more == NULL) {
        core_reply_put(c, id, SL_PUT_MORE, offset, "");
        return;
    }
    c->stalled = more;
    c->stalled[c->n_stalled++] = (struct stalled){id, offset};
}

/* What failed a second ago is tried again: a disk may have room by now. */
static void retry(struct sl_coordinator *c)
{
    size_t n = c->n_stalled;
    struct stalled *stalled = c->stalled;
    c->stalled = NULL;
    c->n_stalled = 0;
    for (size_t i = 0; i < n; i++)
        core_reply_put(c, stalled[i].id, SL_PUT_MORE, stalled[i].offset, "");
    free(stalled);
    if (c->fault.code == SL_OK)
        return;
    c->fault = (struct sl_err){0};
    if (c->run != NULL)
        run_retry(c->run);
}

static void wake(struct sl_coordinator *c)
{
    uint64_t at = c->now_ms + TICK_MS;
    const struct run *r = c->run;
    bool open = r != NULL && r->phase == RUN_OPEN;
    bool evals = r != NULL && r->phase == RUN_CLIENT_EVAL;
    if (open && r->round.deadline_at_ms < at)
        at = r->round.deadline_at_ms;
    if (evals && r->eval_deadline_ms < at)
        at = r->eval_deadline_ms;
    bool again = c->fault.code != SL_OK || c->n_stalled > 0;
    if (open || evals || again || c->env.poll_hold_ms > 0)
        c->env.wake_at(c->env.ctx, at);
}

/* --- what a round's messages weigh ------------------------------------------------------------ */

static uint64_t weigh(const struct sl_msg *m)
{
    return sl_wire_size(m) + SL_WIRE_ENVELOPE_BYTES;
}

static struct sl_msg task_message(const struct run *r, uint64_t deadline_ms)
{
    struct sl_msg m = {.kind = SL_MSG_POLL_REPLY};
    m.poll_reply.task = (struct sl_task_order){
        .kind = SL_TASK_TRAIN,
        .run_id = r->id,
        .round = r->round.number,
        .attempt = r->round.attempt,
        .plan = r->plan_ref,
        .model = r->model_ref,
        .deadline_ms = deadline_ms,
        .evaluate = run_asks_eval(r),
    };
    if (r->model_ref.size <= SL_CHUNK_BYTES) {
        m.attachment = (const uint8_t *)r->values;
        m.attachment_bytes = r->model_ref.size;
    }
    return m;
}

uint64_t core_bytes_down(const struct run *r)
{
    struct sl_msg m = task_message(r, 1);
    m.poll_reply.task.attempt = 0; /* as first sent */
    uint64_t sum = weigh(&m), size = r->model_ref.size;
    for (uint64_t at = 0; size > SL_CHUNK_BYTES && at < size; at += SL_CHUNK_BYTES) {
        struct sl_msg chunk = {.kind = SL_MSG_CHUNK};
        chunk.chunk.id = r->model_ref.id;
        chunk.chunk.offset = at;
        chunk.chunk.total = size;
        chunk.chunk.found = true;
        chunk.attachment = (const uint8_t *)r->values;
        chunk.attachment_bytes = size - at < SL_CHUNK_BYTES ? size - at : SL_CHUNK_BYTES;
        sum += weigh(&chunk);
    }
    return sum;
}

uint64_t core_bytes_up(const struct run *r, const struct upload *u)
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
    for (uint64_t at = 0; at < u->blob.size; at += SL_CHUNK_BYTES) {
        uint64_t left = u->blob.size - at;
        struct sl_msg put = {.kind = SL_MSG_PUT_CHUNK};
        put.put_chunk.run_id = r->id;
        put.put_chunk.round = r->round.number;
        put.put_chunk.blob = u->blob;
        put.put_chunk.offset = at;
        put.attachment = (const uint8_t *)r->values; /* only the size counts */
        put.attachment_bytes = left < SL_CHUNK_BYTES ? left : SL_CHUNK_BYTES;
        put.put_chunk.has_meta = left <= SL_CHUNK_BYTES;
        put.put_chunk.meta = u->meta;
        sum += weigh(&put);
    }
    return sum;
}

/* --- polls -------------------------------------------------------------------------------------- */

/* Is it known what became of the update that the poll names? */
static bool settled(struct sl_coordinator *c, uint32_t client, const struct sl_msg *poll,
                    bool *ret_committed)
{
    const struct run *r = c->run;
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
    if (known)
        return true;
    /* not committed: it may still be, unless its run is over or gone */
    return !(r != NULL && r->id == run && r->phase != RUN_OVER);
}

static bool fp32_kernel_fits(const struct run *r, const struct sl_client_entry *e)
{
    return e->blas[0] == '\0' || strcmp(e->blas, r->c->env.blas_name) == 0;
}

/* Under run.reproducible: strict, members that compute with another fp32 kernel are out. Apart from the
 * answering of polls, since it may close the round. */
static void refuse_kernels(struct sl_coordinator *c)
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

/* The task for this client now, if there is one. */
static bool find_task(struct sl_coordinator *c, struct sl_client_entry *e, struct sl_msg *m)
{
    struct run *r = c->run;
    if (r == NULL)
        return false;
    uint32_t client = e->row.index;
    if (r->phase == RUN_CLIENT_EVAL && client < r->eval.n && !r->eval.there[client]) {
        uint64_t left = r->eval_deadline_ms > c->now_ms ? r->eval_deadline_ms - c->now_ms : 1;
        *m = task_message(r, left);
        m->poll_reply.task.kind = SL_TASK_EVALUATE;
        m->poll_reply.task.evaluate = true;
        return true;
    }
    if (r->phase != RUN_OPEN)
        return false;
    const struct sl_member *member = sl_round_member(&r->round, client);
    if (member == NULL || member->state == SL_MEMBER_ACCEPTED || member->state == SL_MEMBER_FAILED)
        return false;
    if (r->plan.run.reproducible == SL_REPRODUCIBLE_STRICT && !fp32_kernel_fits(r, e))
        return false; /* refuse_kernels puts it out */
    uint64_t left = sl_round_remaining_ms(&r->round, c->now_ms);
    *m = task_message(r, left == 0 ? 1 : left);
    struct sl_round_event ev = {.kind = SL_ROUND_EV_TASKED, .now_ms = c->now_ms, .client = client};
    sl_round_step(&r->round, &ev);
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
    bool task = find_task(c, e, &m);
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
    reply(c, id, &m);
    return true;
}

static void release_hold(struct sl_client_entry *e)
{
    e->holds = false;
    free(e->poll);
    e->poll = NULL;
}

static void nothing_to_do(struct sl_coordinator *c, sl_request_id id)
{
    struct sl_msg m = {.kind = SL_MSG_POLL_REPLY};
    reply(c, id, &m);
}

static void on_poll(struct sl_coordinator *c, struct sl_client_entry *e, sl_request_id id,
                    const struct sl_msg *m)
{
    if (e->holds) { /* a newer poll takes the place of the one that is held */
        sl_request_id old = e->held_id;
        release_hold(e);
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

void core_serve(struct sl_coordinator *c)
{
    for (uint32_t i = 0; i < c->registry.n; i++) {
        struct sl_client_entry *e = &c->registry.clients[i];
        if (!e->holds)
            continue;
        struct sl_msg *poll = e->poll;
        sl_request_id id = e->held_id;
        if (answer_poll(c, e, id, poll)) {
            e = &c->registry.clients[i];
            if (e->holds && e->held_id == id)
                release_hold(e);
        }
    }
}

static void expire_holds(struct sl_coordinator *c)
{
    for (uint32_t i = 0; c->env.poll_hold_ms > 0 && i < c->registry.n; i++) {
        struct sl_client_entry *e = &c->registry.clients[i];
        if (!e->holds || c->now_ms - e->held_since_ms < c->env.poll_hold_ms)
            continue;
        sl_request_id id = e->held_id;
        release_hold(e);
        nothing_to_do(c, id);
    }
}

/* --- other requests ----------------------------------------------------------------------------- */

static void on_register(struct sl_coordinator *c, struct sl_client_entry *e, sl_request_id id,
                        const struct sl_msg *m)
{
    if (m->reg.index >= 0 && (uint32_t)m->reg.index != e->row.index) {
        char reason[SL_WIRE_REASON];
        snprintf(reason, sizeof(reason), "index %" PRId32 " is configured, %" PRIu32 " is enrolled",
                 m->reg.index, e->row.index);
        reply_ack(c, id, false, reason);
        return;
    }
    bool first = !e->registered;
    e->registered = true;
    e->own_samples = m->reg.own_samples;
    snprintf(e->blas, sizeof(e->blas), "%s", m->reg.blas);
    sl_log_write(c->env.log, first ? SL_LOG_INFO : SL_LOG_DEBUG,
                 "client %" PRIu32 " (%s) registered: version %s, %s", e->row.index, m->reg.name,
                 m->reg.version, m->reg.hardware);
    if (first && e->blas[0] != '\0' && strcmp(e->blas, c->env.blas_name) != 0)
        sl_log_write(c->env.log, SL_LOG_WARN,
                     "client %" PRIu32 " computes with fp32 kernel %s, not %s: the model's bits "
                     "will be this mixture's own",
                     e->row.index, e->blas, c->env.blas_name);
    struct sl_msg r = {.kind = SL_MSG_REGISTERED};
    r.registered.index = e->row.index;
    reply(c, id, &r);
}

static void on_get_chunk(struct sl_coordinator *c, sl_request_id id, const struct sl_msg *m)
{
    struct sl_msg out = {.kind = SL_MSG_CHUNK};
    const struct run *r = c->run;
    const uint8_t *bytes = NULL;
    uint64_t total = 0;
    out.chunk.id = m->get_chunk.id;
    if (r != NULL && sl_blob_id_equal(&m->get_chunk.id, &r->model_ref.id)) {
        bytes = (const uint8_t *)r->values;
        total = r->model_ref.size;
    } else if (r != NULL && sl_blob_id_equal(&m->get_chunk.id, &r->plan_ref.id)) {
        bytes = (const uint8_t *)r->plan_text;
        total = r->plan_ref.size;
    }
    if (bytes != NULL && m->get_chunk.offset < total) {
        uint64_t left = total - m->get_chunk.offset;
        out.chunk.found = true;
        out.chunk.offset = m->get_chunk.offset;
        out.chunk.total = total;
        out.attachment = bytes + m->get_chunk.offset;
        out.attachment_bytes = m->get_chunk.length < left ? m->get_chunk.length : left;
    }
    reply(c, id, &out);
}

static void on_task_failed(struct sl_coordinator *c, struct sl_client_entry *e, sl_request_id id,
                           const struct sl_msg *m)
{
    struct run *r = c->run;
    uint32_t client = e->row.index;
    if (r == NULL || m->task_failed.run_id != r->id) {
        reply_ack(c, id, false, "no such task");
        return;
    }
    if (r->phase == RUN_CLIENT_EVAL && client < r->eval.n &&
        m->task_failed.round == r->round.number) {
        reply_ack(c, id, true, "");
        r->eval.there[client] = true; /* reported as missing: no samples */
        run_proceed(r);
        return;
    }
    if (r->phase != RUN_OPEN || m->task_failed.round != r->round.number ||
        m->task_failed.attempt != r->round.attempt) {
        reply_ack(c, id, false, "no such task");
        return;
    }
    sl_log_write(c->env.log, SL_LOG_WARN, "round %" PRIu32 ": client %" PRIu32 " failed: %s",
                 r->round.number, client, m->task_failed.reason);
    struct sl_round_event ev = {.kind = SL_ROUND_EV_FAILED,
                                .now_ms = c->now_ms,
                                .client = client,
                                .reason = m->task_failed.reason};
    reply_ack(c, id, true, "");
    commit_act(r, sl_round_step(&r->round, &ev));
}

static void on_eval_report(struct sl_coordinator *c, struct sl_client_entry *e, sl_request_id id,
                           const struct sl_msg *m)
{
    struct run *r = c->run;
    uint32_t client = e->row.index;
    if (r == NULL || m->eval_report.run_id != r->id || r->phase != RUN_CLIENT_EVAL ||
        client >= r->eval.n) {
        reply_ack(c, id, false, "no evaluation is asked for");
        return;
    }
    if (!r->eval.there[client]) {
        r->eval.there[client] = true;
        r->eval.counts[client] = m->eval_report.eval;
    }
    reply_ack(c, id, true, "");
    run_proceed(r);
}

void sl_coordinator_message(struct sl_coordinator *c, uint64_t now_ms, uint32_t client,
                            sl_request_id id, const struct sl_msg *m)
{
    c->now_ms = now_ms;
    struct sl_client_entry *e = sl_registry_at(&c->registry, client);
    if (e == NULL) {
        reply_ack(c, id, false, "not enrolled");
        return;
    }
    e->seen_ms = now_ms;
    switch (m->kind) {
    case SL_MSG_REGISTER:
        on_register(c, e, id, m);
        break;
    case SL_MSG_POLL:
        on_poll(c, e, id, m);
        break;
    case SL_MSG_GET_CHUNK:
        on_get_chunk(c, id, m);
        break;
    case SL_MSG_PUT_CHUNK:
        upload_put(c, client, id, m);
        break;
    case SL_MSG_TASK_FAILED:
        on_task_failed(c, e, id, m);
        break;
    case SL_MSG_EVAL_REPORT:
        on_eval_report(c, e, id, m);
        break;
    default:
        reply_ack(c, id, false, "not a request");
        break;
    }
    refuse_kernels(c);
    wake(c);
}

void sl_coordinator_forget(struct sl_coordinator *c, sl_request_id id)
{
    for (uint32_t i = 0; i < c->registry.n; i++)
        if (c->registry.clients[i].holds && c->registry.clients[i].held_id == id)
            release_hold(&c->registry.clients[i]);
    struct run *r = c->run;
    for (uint32_t i = 0; r != NULL && i < r->n_slots; i++)
        if (r->uploads[i].asks && r->uploads[i].request == id)
            r->uploads[i].asks = false;
    for (size_t i = 0; i < c->n_stalled; i++)
        if (c->stalled[i].id == id)
            c->stalled[i--] = c->stalled[--c->n_stalled];
}

/* --- time --------------------------------------------------------------------------------------- */

static void journal_progress(struct run *r)
{
    struct sl_coordinator *c = r->c;
    if (c->now_ms - r->journalled_ms < TICK_MS)
        return;
    struct sl_err err;
    r->journalled_ms = c->now_ms;
    enum sl_code rc = c->env.store->ops->round_progress(
        c->env.store, r->id, r->round.number, sl_round_remaining_ms(&r->round, c->now_ms), &err);
    if (rc != SL_OK)
        core_fault(c, rc, &err);
}

void sl_coordinator_time(struct sl_coordinator *c, uint64_t now_ms)
{
    c->now_ms = now_ms;
    retry(c);
    struct run *r = c->run;
    if (r != NULL && r->phase == RUN_OPEN) {
        struct sl_round_event ev = {.kind = SL_ROUND_EV_TIME, .now_ms = now_ms};
        enum sl_round_action action = sl_round_step(&r->round, &ev);
        if (action == SL_ROUND_NOTHING || action == SL_ROUND_IGNORED)
            journal_progress(r);
        commit_act(r, action);
    } else if (r != NULL && (r->phase == RUN_WAITS || r->phase == RUN_CLIENT_EVAL)) {
        run_proceed(r);
    } else if (r == NULL || r->phase == RUN_OVER) {
        struct sl_err err;
        if (run_take_up(c, &err) != SL_OK)
            core_fault(c, err.code, &err);
    }
    expire_holds(c);
    refuse_kernels(c);
    wake(c);
}

/* --- registry ----------------------------------------------------------------------------------- */

enum sl_code sl_coordinator_key_known(const struct sl_coordinator *c, const uint8_t *key,
                                      struct sl_client_row *ret)
{
    const struct sl_client_entry *e = sl_registry_of_key(&c->registry, key);
    if (e == NULL)
        return SL_E_NOTFOUND;
    *ret = e->row;
    return SL_OK;
}

/* A run may be waiting for clients. */
static void clients_changed(struct sl_coordinator *c)
{
    if (c->run != NULL && c->run->phase == RUN_WAITS)
        run_proceed(c->run);
    wake(c);
}

enum sl_code sl_coordinator_enrol(struct sl_coordinator *c, uint64_t now_ms,
                                  const uint8_t token[SL_TOKEN_ID_BYTES],
                                  const uint8_t key[SL_KEY_BYTES], const char *name,
                                  int32_t wanted_index, uint32_t *ret_index, struct sl_err *err)
{
    c->now_ms = now_ms;
    struct sl_token_row t;
    enum sl_code rc = c->env.store->ops->find_token(c->env.store, token, &t, err);
    if (rc != SL_OK)
        return sl_err_wrap(err, rc, "join token");
    if (t.used)
        return sl_err_set(err, SL_E_REFUSED, "join token: used already");
    if (t.index >= 0 && wanted_index >= 0 && t.index != wanted_index)
        return sl_err_set(err, SL_E_REFUSED, "index %" PRId32 " is configured, the token gives %" PRId32,
                          wanted_index, t.index);
    struct sl_client_row row = {.state = SL_CLIENT_ENROLLED};
    memcpy(row.key, key, SL_KEY_BYTES);
    snprintf(row.name, sizeof(row.name), "%s", name);
    row.index = t.index >= 0         ? (uint32_t)t.index
                : wanted_index >= 0  ? (uint32_t)wanted_index
                                     : sl_registry_lowest_free(&c->registry);
    rc = sl_registry_check(&c->registry, &row, err);
    if (rc == SL_OK)
        rc = c->env.store->ops->enrol(c->env.store, token, &row, err);
    if (rc == SL_OK)
        rc = sl_registry_add(&c->registry, &row, err);
    if (rc != SL_OK)
        return rc;
    *ret_index = row.index;
    sl_log_write(c->env.log, SL_LOG_INFO, "client %" PRIu32 " (%s) enrolled", row.index, row.name);
    clients_changed(c);
    return SL_OK;
}

enum sl_code sl_coordinator_token_add(struct sl_coordinator *c, const struct sl_token_row *t,
                                      struct sl_err *err)
{
    return c->env.store->ops->put_token(c->env.store, t, err);
}

enum sl_code sl_coordinator_token_psk(struct sl_coordinator *c,
                                      const uint8_t id[SL_TOKEN_ID_BYTES], uint8_t ret_psk[32],
                                      struct sl_err *err)
{
    struct sl_token_row t;
    enum sl_code rc = c->env.store->ops->find_token(c->env.store, id, &t, err);
    if (rc != SL_OK)
        return rc;
    if (t.used)
        return sl_err_set(err, SL_E_REFUSED, "join token: used already");
    memcpy(ret_psk, t.psk, 32);
    return SL_OK;
}

enum sl_code sl_coordinator_approve(struct sl_coordinator *c, uint64_t now_ms,
                                    const struct sl_client_row *row, struct sl_err *err)
{
    c->now_ms = now_ms;
    enum sl_code rc = sl_registry_check(&c->registry, row, err);
    if (rc == SL_OK)
        rc = c->env.store->ops->put_client(c->env.store, row, err);
    if (rc == SL_OK)
        rc = sl_registry_add(&c->registry, row, err);
    if (rc == SL_OK)
        clients_changed(c);
    return rc;
}

enum sl_code sl_coordinator_revoke(struct sl_coordinator *c, uint64_t now_ms, uint32_t index,
                                   struct sl_err *err)
{
    c->now_ms = now_ms;
    struct sl_client_entry *e = sl_registry_at(&c->registry, index);
    if (e == NULL)
        return sl_err_set(err, SL_E_NOTFOUND, "no enrolled client has index %" PRIu32, index);
    struct sl_client_row row = e->row;
    row.state = SL_CLIENT_REVOKED;
    enum sl_code rc = c->env.store->ops->put_client(c->env.store, &row, err);
    if (rc != SL_OK)
        return rc;
    if (e->holds) {
        sl_request_id id = e->held_id;
        release_hold(e);
        reply_ack(c, id, false, "revoked");
    }
    sl_registry_revoke(&c->registry, e);
    sl_log_write(c->env.log, SL_LOG_INFO, "client %" PRIu32 " revoked", index);
    struct run *r = c->run;
    if (r != NULL && r->phase == RUN_OPEN) {
        struct sl_round_event ev = {.kind = SL_ROUND_EV_FAILED,
                                    .now_ms = now_ms,
                                    .client = index,
                                    .reason = "revoked"};
        commit_act(r, sl_round_step(&r->round, &ev));
    }
    wake(c);
    return SL_OK;
}

/* --- operator ------------------------------------------------------------------------------------ */

void sl_coordinator_pause(struct sl_coordinator *c, bool paused)
{
    c->paused = paused;
}

void sl_coordinator_drain(struct sl_coordinator *c, uint64_t now_ms)
{
    c->now_ms = now_ms;
    c->draining = true;
    core_serve(c);
}

bool sl_coordinator_idle(const struct sl_coordinator *c)
{
    return c->run == NULL || run_idle(c->run);
}

bool sl_coordinator_finished(const struct sl_coordinator *c, uint64_t run,
                             enum sl_run_state *ret_state)
{
    for (size_t i = 0; i < c->n_runs; i++)
        if (c->runs[i].id == run &&
            (c->runs[i].state == SL_RUN_DONE || c->runs[i].state == SL_RUN_FAILED)) {
            *ret_state = c->runs[i].state;
            return true;
        }
    return false;
}

const float *sl_coordinator_model(const struct sl_coordinator *c,
                                  const struct sl_layout **ret_layout)
{
    if (c->run == NULL)
        return NULL;
    *ret_layout = sl_model_layout(c->run->model);
    return c->run->values;
}

/* --- life ---------------------------------------------------------------------------------------- */

static enum sl_code load_run(void *ctx, const struct sl_run_row *row)
{
    struct sl_coordinator *c = ctx;
    struct run_entry *more = realloc(c->runs, (c->n_runs + 1) * sizeof(*more));
    if (more == NULL)
        return SL_E_NOMEM;
    c->runs = more;
    struct run_entry *e = &c->runs[c->n_runs++];
    *e = (struct run_entry){.id = row->id, .state = row->state};
    snprintf(e->reason, sizeof(e->reason), "%s", row->reason);
    struct sl_plan plan;
    struct sl_err err;
    if (sl_plan_parse(row->plan_text, row->plan_bytes, "stored plan", NULL, 0, &plan, &err) ==
        SL_OK) {
        snprintf(e->name, sizeof(e->name), "%s", plan.run.name);
        sl_plan_deinit(&plan);
    }
    if (row->state == SL_RUN_DONE || row->state == SL_RUN_FAILED)
        return SL_OK;
    e->plan_text = malloc(row->plan_bytes + 1);
    if (e->plan_text == NULL)
        return SL_E_NOMEM;
    memcpy(e->plan_text, row->plan_text, row->plan_bytes);
    e->plan_text[row->plan_bytes] = '\0';
    return SL_OK;
}

enum sl_code sl_coordinator_new(const struct sl_coordinator_env *env, uint64_t now_ms,
                                struct sl_coordinator **ret, struct sl_err *err)
{
    struct sl_coordinator *c = sl_calloc(1, sizeof(*c));
    if (c == NULL)
        return sl_err_set(err, SL_E_NOMEM, "coordinator");
    c->env = *env;
    c->now_ms = now_ms;
    enum sl_code rc = sl_registry_load(&c->registry, env->store, env->max_clients, err);
    if (rc == SL_OK)
        rc = env->store->ops->each_run(env->store, load_run, c, err);
    if (rc == SL_OK)
        rc = run_take_up(c, err);
    if (rc != SL_OK) {
        sl_coordinator_free(c);
        return rc;
    }
    wake(c);
    *ret = c;
    return SL_OK;
}

void sl_coordinator_free(struct sl_coordinator *c)
{
    if (c == NULL)
        return;
    run_free(c->run);
    for (size_t i = 0; i < c->n_runs; i++)
        free(c->runs[i].plan_text);
    free(c->stalled);
    free(c->runs);
    sl_registry_deinit(&c->registry);
    free(c);
}
