/* SPDX-License-Identifier: Apache-2.0 */
/* Closing a round: the next model (step.c), digest, checkpoint and evaluation as one job on a worker; then one transaction, one line of the report, and the next round. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/crash_point.h"
#include "common/mem.h"
#include "server/core.h"

/* --- on a worker ------------------------------------------------------------------------------------ */

static void finalise_run(struct sl_job *job)
{
    struct work *w = (struct work *)job;
    struct run *r = (struct run *)((char *)w - offsetof(struct run, work));
    const struct sl_layout *layout = sl_model_layout(r->model);
    const float *next = step_next(r);
    struct sl_store *s = r->c->env.store;
    w->rc = step_model(r, &w->err);
    if (w->rc != SL_OK)
        return;
    sl_model_digest(layout, next, w->digest);
    step_name_next(r, &w->model_id);
    w->rc = s->ops->checkpoint_write(s, r->id, r->round.number + 1, layout, next, w->checkpoint,
                                     &w->err);
    if (w->rc != SL_OK || !w->due)
        return;
    struct sl_samples samples = {.set = &r->test, .n = r->test.n};
    w->rc = sl_evaluate(r->trainer, next, &samples, &w->eval, &w->err);
}

/* --- the report's line ------------------------------------------------------------------------------- */

static int by_order(const void *a, const void *b)
{
    const struct upload *const *x = a, *const *y = b;
    return ((*x)->order > (*y)->order) - ((*x)->order < (*y)->order);
}

/* Sums over the included updates, in client order: floating point sums have one order. */
struct tally {
    uint64_t samples, bytes_up, bytes_down;
    double loss_sum;
    size_t n;
    struct sl_task_cost cost;
};

static void add_cost(struct sl_task_cost *sum, const struct sl_task_cost *c)
{
    sum->macs += c->macs;
    sum->work += c->work;
    sum->cycles += c->cycles;
    sum->conversions += c->conversions;
    sum->bits += c->bits;
    sum->energy += c->energy;
}

static json_t *cost_json(const struct sl_task_cost *c)
{
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:f}", "macs", (json_int_t)c->macs, "work",
                     (json_int_t)c->work, "cycles", (json_int_t)c->cycles, "conversions",
                     (json_int_t)c->conversions, "bits", (json_int_t)c->bits, "energy",
                     c->energy);
}

static struct tally tally(const struct run *r)
{
    struct tally t = {0};
    bool buffer = buffer_on(r);
    uint64_t down = poll_bytes_down(r, r->round.number);
    for (size_t i = 0; i < r->round.n_members; i++) {
        const struct upload *u = &r->uploads[i];
        enum sl_member_state state = r->round.members[i].state;
        if (state != SL_MEMBER_WAITING && !buffer)
            t.bytes_down += down;
        if (probe_on(r) && r->probing.member[i].reported) {
            t.bytes_up += poll_bytes_probe(r, i, false);
            t.bytes_down += poll_bytes_probe(r, i, true);
            t.bytes_up += state == SL_MEMBER_STOPPED ? poll_bytes_fetch(r) : 0;
        }
        if (state != SL_MEMBER_ACCEPTED)
            continue;
        if (buffer)
            t.bytes_down += poll_bytes_down(r, buffer_start(r, i));
        t.bytes_up += poll_bytes_up(r, u);
        t.samples += u->meta.samples;
        t.loss_sum += u->meta.loss_sum;
        add_cost(&t.cost, &u->meta.cost);
        t.n++;
    }
    return t;
}

static json_t *members_json(const struct run *r)
{
    json_t *list = json_array();
    for (size_t i = 0; i < r->round.n_members; i++)
        if (r->round.members[i].state != SL_MEMBER_IDLE)
            json_array_append_new(list, json_integer(r->round.members[i].client));
    return list;
}

/* Included clients in the order of acceptance; when each was accepted, and what it began from. */
static json_t *included_json(const struct run *r, json_t **ret_latencies, json_t **ret_starts)
{
    const struct upload **u = sl_calloc(r->round.n_members, sizeof(*u));
    json_t *list = json_array();
    *ret_latencies = json_array();
    *ret_starts = json_array();
    size_t n = 0;
    if (u == NULL)
        return list;
    for (size_t i = 0; i < r->round.n_members; i++)
        if (r->round.members[i].state == SL_MEMBER_ACCEPTED)
            u[n++] = &r->uploads[i];
    qsort(u, n, sizeof(*u), by_order);
    for (size_t i = 0; i < n; i++) {
        json_array_append_new(list, json_integer(r->round.members[u[i]->position].client));
        json_array_append_new(*ret_latencies,
                              json_real((double)(u[i]->accepted_ms - r->opened_ms) * 1e-3));
        json_array_append_new(*ret_starts, json_integer(buffer_start(r, u[i]->position)));
    }
    free(u);
    return list;
}

json_t *run_not_included(const struct run *r)
{
    json_t *list = json_array();
    for (size_t i = 0; i < r->round.n_members; i++) {
        const struct sl_member *m = &r->round.members[i];
        if (m->state == SL_MEMBER_ACCEPTED || m->state == SL_MEMBER_STOPPED || (buffer_on(r) && m->state != SL_MEMBER_FAILED))
            continue;
        json_array_append_new(
            list, json_pack("{s:I, s:s}", "client", (json_int_t)m->client, "reason",
                            m->state == SL_MEMBER_FAILED ? m->reason
                            : m->state == SL_MEMBER_TASKED ? "no update by the end of the round"
                                                           : "did not ask for its task"));
    }
    return list;
}

static json_t *measured_json(const struct run *r)
{
    uint64_t samples = 0, correct = 0;
    double loss = 0;
    json_t *clients = json_array();
    for (uint32_t k = 0; k < r->eval.n; k++) {
        const struct sl_eval_counts *e = &r->eval.counts[k];
        if (!r->eval.there[k] || e->samples == 0)
            continue;
        samples += e->samples;
        correct += e->correct;
        loss += e->loss_sum;
        json_array_append_new(clients,
                              json_pack("{s:I, s:I, s:f}", "client", (json_int_t)k, "samples",
                                        (json_int_t)e->samples, "accuracy",
                                        (double)e->correct / (double)e->samples));
    }
    if (samples == 0) {
        json_decref(clients);
        return NULL;
    }
    return json_pack("{s:I, s:I, s:f, s:f, s:o}", "model_of_round",
                     (json_int_t)r->round.number - 1, "samples", (json_int_t)samples, "accuracy",
                     (double)correct / (double)samples, "loss", loss / (double)samples, "clients",
                     clients);
}

static json_t *round_json(struct run *r, const struct tally *t)
{
    struct sl_coordinator *c = r->c;
    const struct work *w = &r->work;
    char digest[SL_DIGEST_HEX];
    sl_hex(w->digest, SL_DIGEST_BYTES, digest);
    double n = (double)w->eval.n;
    json_t *latencies, *starts, *included = included_json(r, &latencies, &starts);
    json_t *members = members_json(r), *missing = run_not_included(r);
    json_t *line = json_pack(
        "{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:o, s:o, s:I, s:I, s:I, s:f, s:f, s:o, s:s}",
        "event", "round", "run", (json_int_t)r->id, "round", (json_int_t)r->round.number, "attempt",
        (json_int_t)r->round.attempt, "selected", (json_int_t)json_array_size(members), "completed",
        (json_int_t)t->n, "dropped", (json_int_t)json_array_size(missing), "train_loss",
        t->samples > 0 ? t->loss_sum / (double)t->samples : 0.0, "accuracy",
        w->due ? json_real((double)w->eval.correct / n) : json_null(), "loss",
        w->due ? json_real(w->eval.loss_sum / n) : json_null(), "bytes_up",
        (json_int_t)t->bytes_up, "bytes_down", (json_int_t)t->bytes_down, "wire_bytes",
        (json_int_t)(c->env.wire_bytes(c->env.ctx) - r->wire_open), "latency_s",
        (double)(c->now_ms - r->opened_ms) * 1e-3, "wall_s",
        c->env.wall_s(c->env.ctx) - r->wall_open, "cost", cost_json(&t->cost), "model_digest",
        digest);
    json_object_set_new(line, "members", members);
    json_object_set_new(line, "included", included);
    json_object_set_new(line, "latencies_s", latencies);
    json_object_set_new(line, "not_included", missing);
    if (buffer_on(r))
        json_object_set(line, "starts", starts);
    json_decref(starts);
    json_t *measured = measured_json(r);
    if (measured != NULL)
        json_object_set_new(line, "client_eval", measured);
    probe_report(r, line);
    return line;
}

/* --- the transaction ---------------------------------------------------------------------------------- */

static enum sl_code commit_row(struct run *r, const char *json, const struct best *best,
                               struct sl_err *err)
{
    struct sl_store *s = r->c->env.store;
    uint32_t *included = sl_calloc(2 * r->round.n_members, sizeof(*included));
    if (included == NULL)
        return sl_err_set(err, SL_E_NOMEM, "commit");
    uint32_t *starts = included + r->round.n_members;
    struct sl_commit_row row = {.round = r->round.number,
                                .report_json = json,
                                .included = included,
                                .starts = buffer_on(r) ? starts : NULL,
                                .keep = best->checkpoint};
    row.state = (const uint8_t *)step_next_state(r, &row.state_bytes);
    row.state_bytes *= sizeof(float);
    memcpy(row.model_digest, r->work.digest, SL_DIGEST_BYTES);
    memcpy(row.checkpoint, r->work.checkpoint, sizeof(row.checkpoint));
    for (size_t i = 0; i < r->round.n_members; i++)
        if (r->round.members[i].state == SL_MEMBER_ACCEPTED) {
            starts[row.n_included] = buffer_start(r, i);
            included[row.n_included++] = r->round.members[i].client;
        }
    SL_CRASH_POINT("before_commit");
    enum sl_code rc = s->ops->round_commit(s, r->id, &row, err);
    free(included);
    return rc;
}

static void adopt(struct run *r, const struct tally *t, double wall_s)
{
    step_adopt(r);
    r->model_ref.id = r->work.model_id;
    memcpy(r->digest, r->work.digest, SL_DIGEST_BYTES);
    r->bytes_up += t->bytes_up;
    r->bytes_down += t->bytes_down;
    r->wall_s += wall_s;
    r->next_round = r->round.number + 1;
    if (r->work.due) {
        r->has_accuracy = true;
        r->accuracy = (double)r->work.eval.correct / (double)r->work.eval.n;
        r->loss = r->work.eval.loss_sum / (double)r->work.eval.n;
    }
    r->phase = RUN_WAITS;
    r->c->said[0] = '\0';
}

static void commit(struct run *r)
{
    struct sl_coordinator *c = r->c;
    struct tally t = tally(r);
    json_t *line = round_json(r, &t);
    struct best best = best_after(r, line);
    char *text = json_dumps(line, JSON_COMPACT | JSON_REAL_PRECISION(17));
    struct sl_err err;
    enum sl_code rc = text == NULL ? sl_err_set(&err, SL_E_NOMEM, "report")
                                   : commit_row(r, text, &best, &err);
    free(text);
    if (rc != SL_OK) {
        json_decref(line);
        core_fault(c, rc, &err);
        return;
    }
    SL_CRASH_POINT("after_commit");
    r->best = best;
    adopt(r, &t, json_number_value(json_object_get(line, "wall_s")));
    buffer_committed(r);
    probe_observe(r, line);
    run_report(r, line);
    json_decref(line);
    run_proceed(r);
    poll_serve(c);
}

static void finalise_done(struct sl_job *job, void *ctx)
{
    struct work *w = (struct work *)job;
    struct run *r = (struct run *)((char *)w - offsetof(struct run, work));
    (void)ctx;
    w->busy = false;
    if (w->rc == SL_OK)
        commit(r);
    else if (w->rc == SL_E_FAILED) /* the model left the finite numbers */
        run_end(r, true, w->err.msg);
    else
        core_fault(r->c, w->rc, &w->err);
    core_wake(r->c);
}

void commit_start(struct run *r)
{
    if (calibrate_under_way(r)) {
        calibrate_start(r);
        return;
    }
    r->phase = RUN_FINALISES;
    r->work.busy = true;
    r->work.adds = NULL;
    r->work.due = r->plan.evaluation.where != SL_EVAL_CLIENTS && run_due(r, r->round.number);
    r->work.job = (struct sl_job){.run = finalise_run, .done = finalise_done};
    sl_executor_submit(r->c->env.executor, &r->work.job);
}

static enum sl_code journal_attempt(struct run *r, struct sl_err *err)
{
    struct sl_store *s = r->c->env.store;
    if (buffer_on(r))
        return buffer_journal_attempt(r, err);
    uint32_t *members = sl_calloc(r->round.n_members, sizeof(*members));
    if (members == NULL)
        return sl_err_set(err, SL_E_NOMEM, "round");
    for (size_t i = 0; i < r->round.n_members; i++)
        members[i] = r->round.members[i].client;
    enum sl_code rc = s->ops->round_open(s, r->id, r->round.number, r->round.attempt, members,
                                         r->round.n_members,
                                         sl_round_remaining_ms(&r->round, r->c->now_ms), err);
    free(members);
    return rc;
}

bool commit_attempt(struct run *r)
{
    struct sl_err err;
    if (!r->unjournalled)
        return true;
    enum sl_code rc = journal_attempt(r, &err);
    if (rc != SL_OK) {
        core_fault(r->c, rc, &err);
        return false;
    }
    r->unjournalled = false;
    poll_serve(r->c);
    return true;
}

static size_t wanted(const struct run *r)
{
    return buffer_on(r) ? r->round.cfg.target : r->round.n_members;
}

static void repeat(struct run *r)
{
    char name[ROUND_NAME];
    sl_log_write(r->c->env.log, SL_LOG_WARN,
                 "%s: %zu of %zu updates, quorum %" PRIu32 "; attempt %" PRIu32,
                 core_round_name(r->round.number, name), r->round.n_accepted, wanted(r),
                 r->round.cfg.quorum,
                 r->round.attempt);
    r->unjournalled = true;
    probe_ask_again(r);
    commit_attempt(r);
}

void commit_act(struct run *r, enum sl_round_action action)
{
    char reason[SL_WIRE_REASON];
    switch (action) {
    case SL_ROUND_IGNORED:
    case SL_ROUND_NOTHING:
        buffer_act(r);
        probe_act(r);
        return;
    case SL_ROUND_COMMIT:
        r->phase = RUN_CLOSING;
        if (!buffer_on(r)) /* what is on its way then goes into the next buffer */
            upload_close(r);
        upload_advance(r);
        return;
    case SL_ROUND_REPEAT:
        repeat(r);
        buffer_act(r);
        return;
    case SL_ROUND_GIVE_UP:
        if (calibrate_under_way(r)) { /* nobody's statistics: the run goes on without */
            r->phase = RUN_CLOSING;
            upload_close(r);
            upload_advance(r);
            return;
        }
        snprintf(reason, sizeof(reason),
                 "round %" PRIu32 ": %zu of %zu updates after %" PRIu32
                 " attempts, quorum is %" PRIu32,
                 r->round.number, r->round.n_accepted, wanted(r), r->round.attempt + 1,
                 r->round.cfg.quorum);
        run_end(r, true, reason);
        return;
    }
}
