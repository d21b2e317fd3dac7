/* SPDX-License-Identifier: Apache-2.0 */
#include "server/coordinator.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/mem.h"
#include "common/text.h"
#include "server/core.h"

#define NEVER UINT64_MAX

const char *core_round_name(uint32_t round, char ret[ROUND_NAME])
{
    snprintf(ret, ROUND_NAME, "%s %" PRIu32, round < SL_ROUND_CALIBRATION ? "round" : "calibration",
             round & ~SL_ROUND_CALIBRATION);
    return ret;
}

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
    sl_text_copy(m.put_reply.reason, sizeof(m.put_reply.reason), reason);
    reply(c, id, &m);
}

static void reply_ack(struct sl_coordinator *c, sl_request_id id, bool ok, const char *reason)
{
    struct sl_msg m = {.kind = SL_MSG_ACK};
    m.ack.ok = ok;
    sl_text_copy(m.ack.reason, sizeof(m.ack.reason), reason);
    reply(c, id, &m);
}

/* A second after the first of what failed meanwhile, whatever else happens till then. */
static void try_again(struct sl_coordinator *c)
{
    if (c->again_ms == 0)
        c->again_ms = c->now_ms + TICK_MS;
    core_wake(c);
}

void core_fault(struct sl_coordinator *c, enum sl_code code, const struct sl_err *err)
{
    c->fault.code = code;
    sl_text_copy(c->fault.msg, sizeof(c->fault.msg), err->msg);
    if (strcmp(c->said, err->msg) != 0)
        sl_log_write(c->env.log, SL_LOG_ERROR, "%s; trying again every second", err->msg);
    memcpy(c->said, err->msg, sizeof(c->said));
    try_again(c);
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
    try_again(c);
}

/* What failed a second ago is tried again: a disk may have room by now. */
static void retry(struct sl_coordinator *c)
{
    size_t n = c->n_stalled;
    struct stalled *stalled = c->stalled;
    c->stalled = NULL;
    c->n_stalled = 0;
    c->again_ms = 0;
    for (size_t i = 0; i < n; i++)
        core_reply_put(c, stalled[i].id, SL_PUT_MORE, stalled[i].offset, "");
    free(stalled);
    if (c->fault.code == SL_OK)
        return;
    c->fault = (struct sl_err){0};
    if (c->run != NULL)
        run_retry(c->run);
    poll_serve(c); /* what became of an update may be known now */
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

void core_wake(struct sl_coordinator *c)
{
    const struct run *r = c->run;
    uint64_t at = c->again_ms != 0 ? c->again_ms : NEVER;
    if (c->env.poll_hold_ms > 0) /* to tell who was held long enough */
        at = earlier(at, c->timed_ms + TICK_MS);
    if (r != NULL && r->phase == RUN_OPEN) {
        at = earlier(at, r->round.deadline_at_ms);
        at = earlier(at, buffer_wake_ms(r));
        at = earlier(at, probe_wake_ms(r));
        if (!r->unjournalled)
            at = earlier(at, r->journalled_ms + TICK_MS);
    }
    if (r != NULL && r->phase == RUN_CLIENT_EVAL)
        at = earlier(at, r->eval_deadline_ms);
    if (c->fault.code == SL_OK && run_waits_in_queue(c))
        at = c->now_ms;
    if (at != NEVER)
        c->env.wake_at(c->env.ctx, at > c->now_ms ? at : c->now_ms);
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
        bytes = (const uint8_t *)r->sent;
        total = r->model_ref.size;
    } else if (r != NULL && sl_blob_id_equal(&m->get_chunk.id, &r->plan_ref.id)) {
        bytes = (const uint8_t *)r->plan_text;
        total = r->plan_ref.size;
    } else if (r != NULL && r->head_ref.size > 0 &&
               sl_blob_id_equal(&m->get_chunk.id, &r->head_ref.id)) {
        bytes = (const uint8_t *)(r->values + r->n_values);
        total = r->head_ref.size;
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
    bool open = buffer_on(r) ? buffer_awaits(r, client, m->task_failed.round)
                             : m->task_failed.round == r->round.number &&
                                   m->task_failed.attempt == r->round.attempt;
    if (r->phase != RUN_OPEN || !open) {
        reply_ack(c, id, false, "no such task");
        return;
    }
    char name[ROUND_NAME];
    sl_log_write(c->env.log, SL_LOG_WARN, "%s: client %" PRIu32 " failed: %s",
                 core_round_name(r->round.number, name), client, m->task_failed.reason);
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
    struct sl_err err = {0};
    bool good = meta_check_eval(r, client, &m->eval_report.eval, &err) == SL_OK;
    if (!good)
        sl_log_write(c->env.log, SL_LOG_WARN, "client %" PRIu32 ": %s", client, err.msg);
    if (!r->eval.there[client]) { /* a bad one is reported as missing: no samples */
        r->eval.there[client] = true;
        if (good)
            r->eval.counts[client] = m->eval_report.eval;
    }
    reply_ack(c, id, good, err.msg);
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
        poll_take(c, e, id, m);
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
    case SL_MSG_PROBE:
        probe_take(c, client, id, m);
        break;
    default:
        reply_ack(c, id, false, "not a request");
        break;
    }
    poll_refuse_kernels(c);
    core_wake(c);
}

void sl_coordinator_forget(struct sl_coordinator *c, sl_request_id id)
{
    for (uint32_t i = 0; i < c->registry.n; i++)
        if (c->registry.clients[i].holds && c->registry.clients[i].held_id == id)
            poll_release(&c->registry.clients[i]);
    struct run *r = c->run;
    for (uint32_t i = 0; r != NULL && i < r->n_slots; i++)
        if (r->uploads[i].asks && r->uploads[i].request == id)
            r->uploads[i].asks = false;
    if (r != NULL)
        probe_forget(r, id);
    for (size_t i = 0; i < c->n_stalled; i++)
        if (c->stalled[i].id == id)
            c->stalled[i--] = c->stalled[--c->n_stalled];
}

/* --- time --------------------------------------------------------------------------------------- */

static void journal_progress(struct run *r)
{
    struct sl_coordinator *c = r->c;
    if (r->unjournalled || c->now_ms - r->journalled_ms < TICK_MS)
        return; /* an attempt must not be given the next one's time */
    struct sl_err err;
    r->journalled_ms = c->now_ms;
    enum sl_code rc = c->env.store->ops->round_progress(
        c->env.store, r->id, r->round.number, sl_round_remaining_ms(&r->round, c->now_ms), &err);
    if (rc != SL_OK)
        core_fault(c, rc, &err);
}

void sl_coordinator_time(struct sl_coordinator *c, uint64_t now_ms)
{
    c->now_ms = c->timed_ms = now_ms;
    if (c->again_ms != 0 && now_ms >= c->again_ms)
        retry(c);
    struct run *r = c->run;
    if (r != NULL && r->phase == RUN_OPEN) {
        buffer_time(r);
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
    poll_expire(c);
    if (c->run != NULL)
        probe_expire(c->run);
    poll_refuse_kernels(c);
    core_wake(c);
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
    core_wake(c);
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
    sl_text_copy(row.name, sizeof(row.name), name);
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
        poll_release(e);
        reply_ack(c, id, false, "revoked");
    }
    sl_registry_revoke(&c->registry, e);
    sl_log_write(c->env.log, SL_LOG_INFO, "client %" PRIu32 " revoked", index);
    struct run *r = c->run;
    if (r != NULL && r->phase == RUN_OPEN) {
        upload_drop(r, index, "revoked"); /* a repeated attempt waits for its successor */
        struct sl_round_event ev = {.kind = SL_ROUND_EV_FAILED,
                                    .now_ms = now_ms,
                                    .client = index,
                                    .reason = "revoked"};
        commit_act(r, sl_round_step(&r->round, &ev));
    } else if (r != NULL && r->phase == RUN_CLIENT_EVAL && index < r->eval.n) {
        r->eval.there[index] = true; /* nobody to ask */
        run_proceed(r);
    } else if (r != NULL && buffer_on(r)) { /* between two buffers */
        upload_drop(r, index, "revoked");
        buffer_void(r, index);
    }
    core_wake(c);
    return SL_OK;
}

/* --- operator ------------------------------------------------------------------------------------ */

void sl_coordinator_pause(struct sl_coordinator *c, bool paused)
{
    c->paused = paused;
    if (!paused)
        c->env.wake_at(c->env.ctx, c->now_ms); /* the next round may be due */
}

void sl_coordinator_drain(struct sl_coordinator *c, uint64_t now_ms)
{
    c->now_ms = now_ms;
    c->draining = true;
    poll_serve(c);
    if (c->run != NULL)
        probe_ask_again(c->run);
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

const float *sl_coordinator_state(const struct sl_coordinator *c, size_t *ret_n)
{
    *ret_n = 0;
    return c->run == NULL ? NULL : step_state(c->run, ret_n);
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
    *e = (struct run_entry){
        .id = row->id, .state = row->state, .calibrations = row->calibrations};
    sl_text_copy(e->reason, sizeof(e->reason), row->reason);
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
    c->now_ms = c->timed_ms = now_ms;
    enum sl_code rc = sl_registry_load(&c->registry, env->store, env->max_clients, err);
    if (rc == SL_OK)
        rc = env->store->ops->each_run(env->store, load_run, c, err);
    if (rc == SL_OK)
        rc = run_take_up(c, err);
    if (rc != SL_OK) {
        sl_coordinator_free(c);
        return rc;
    }
    core_wake(c);
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
