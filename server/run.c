/* SPDX-License-Identifier: Apache-2.0 */
/* A run between its rounds: what comes next, its report, its end. Built in run_build.c, taken up in
 * run_restore.c. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/hash.h"
#include "common/mem.h"
#include "common/text.h"
#include "server/core.h"

/* --- where it stands ----------------------------------------------------------------------------- */

bool run_due(const struct run *r, uint32_t round)
{
    uint32_t every = r->plan.run.eval_every;
    return round + 1 == r->plan.run.rounds || (every > 0 && (round + 1) % every == 0);
}

bool run_asks_eval(const struct run *r)
{
    return r->plan.evaluation.where != SL_EVAL_COORDINATOR && !calibrate_under_way(r) &&
           r->buffers.flight == NULL && r->round.number > 0 && run_due(r, r->round.number - 1);
}

bool run_target_reached(const struct run *r)
{
    return r->plan.run.target_accuracy > 0 && r->has_accuracy &&
           r->accuracy >= r->plan.run.target_accuracy;
}

bool run_idle(const struct run *r)
{
    return !r->work.busy && r->checks == NULL;
}

struct run_entry *run_entry_of(struct sl_coordinator *c, uint64_t id)
{
    for (size_t i = 0; i < c->n_runs; i++)
        if (c->runs[i].id == id)
            return &c->runs[i];
    return NULL;
}

bool run_set_state(struct run *r, enum sl_run_state state, const char *reason)
{
    struct sl_coordinator *c = r->c;
    struct sl_err err;
    enum sl_code rc = c->env.store->ops->set_run_state(c->env.store, r->id, state, reason, &err);
    if (rc != SL_OK) {
        core_fault(c, rc, &err);
        return false;
    }
    struct run_entry *e = run_entry_of(c, r->id);
    e->state = state;
    sl_text_copy(e->reason, sizeof(e->reason), reason);
    return true;
}

void run_report(struct run *r, json_t *line)
{
    r->c->env.report(r->c->env.ctx, r->id, line);
}

bool run_put_report(struct run *r, json_t *line)
{
    struct sl_coordinator *c = r->c;
    struct sl_err err;
    char *text = json_dumps(line, JSON_COMPACT | JSON_REAL_PRECISION(17));
    enum sl_code rc = text == NULL ? sl_err_set(&err, SL_E_NOMEM, "report")
                                   : c->env.store->ops->put_report(c->env.store, r->id, text, &err);
    free(text);
    if (rc != SL_OK)
        core_fault(c, rc, &err);
    else
        run_report(r, line);
    json_decref(line);
    return rc == SL_OK;
}

static void hex_digest(const uint8_t digest[SL_DIGEST_BYTES], char ret[SL_DIGEST_HEX])
{
    sl_hex(digest, SL_DIGEST_BYTES, ret);
}

static bool report_start(struct run *r)
{
    char plan[SL_DIGEST_HEX];
    uint8_t digest[SL_DIGEST_BYTES];
    sl_blake2b_256(r->plan_text, r->plan_ref.size, digest);
    hex_digest(digest, plan);
    json_t *line = json_pack("{s:s, s:I, s:s, s:s, s:I, s:I, s:I, s:s, s:s}", "event", "run_start",
                             "run", (json_int_t)r->id, "name", r->plan.run.name, "plan_digest",
                             plan, "seed", (json_int_t)r->plan.run.seed, "clients",
                             (json_int_t)r->n_clients, "parameters", (json_int_t)r->n_all,
                             "version", SL_VERSION, "blas", r->c->env.blas_name);
    if (r->probing.learned)
        json_object_set_new(line, "policy_digest", json_string(r->probing.digest));
    return run_put_report(r, line);
}

/* --- end ------------------------------------------------------------------------------------------ */

static json_t *client_eval_json(const struct run *r)
{
    uint64_t samples = 0, correct = 0;
    double loss = 0, mean = 0;
    uint32_t n = 0;
    json_t *list = json_array();
    for (uint32_t k = 0; k < r->eval.n; k++) {
        const struct sl_eval_counts *e = &r->eval.counts[k];
        if (!r->eval.there[k] || e->samples == 0)
            continue;
        samples += e->samples;
        correct += e->correct;
        loss += e->loss_sum;
        mean += (double)e->correct / (double)e->samples;
        n++;
        json_array_append_new(list, json_pack("{s:I, s:I, s:f}", "client", (json_int_t)k, "samples",
                                              (json_int_t)e->samples, "accuracy",
                                              (double)e->correct / (double)e->samples));
    }
    if (n == 0) {
        json_decref(list);
        return json_null();
    }
    return json_pack("{s:I, s:f, s:f, s:f, s:o}", "samples", (json_int_t)samples, "accuracy",
                     (double)correct / (double)samples, "loss", loss / (double)samples,
                     "mean_client_accuracy", mean / n, "clients", list);
}

static json_t *end_json(const struct run *r)
{
    char model[SL_DIGEST_HEX];
    hex_digest(r->digest, model);
    json_t *line = json_pack(
        "{s:s, s:I, s:I, s:o, s:o, s:I, s:I, s:f, s:s, s:s, s:b}", "event", "run_end", "run",
        (json_int_t)r->id, "rounds", (json_int_t)r->next_round, "accuracy",
        r->has_accuracy ? json_real(r->accuracy) : json_null(), "loss",
        r->has_accuracy ? json_real(r->loss) : json_null(), "bytes_up", (json_int_t)r->bytes_up,
        "bytes_down", (json_int_t)r->bytes_down, "wall_s", r->wall_s, "model_digest", model,
        "reason", r->end_reason, "failed", r->failed);
    if (line != NULL)
        json_object_set_new(line, "best", best_json(r));
    if (line != NULL && r->plan.evaluation.where != SL_EVAL_COORDINATOR)
        json_object_set_new(line, "client_eval", client_eval_json(r));
    return line;
}

void run_put_end(struct run *r)
{
    r->end_reported = r->end_reported || run_put_report(r, end_json(r));
    if (r->end_reported && !r->ended)
        r->ended = run_set_state(r, r->failed ? SL_RUN_FAILED : SL_RUN_DONE, r->end_reason);
}

void run_end(struct run *r, bool failed, const char *reason)
{
    upload_close(r);
    r->phase = RUN_OVER;
    r->failed = failed;
    if (reason != r->end_reason)
        sl_text_copy(r->end_reason, sizeof(r->end_reason), reason);
    run_put_end(r);
    sl_log_write(r->c->env.log, failed ? SL_LOG_ERROR : SL_LOG_INFO, "run %" PRIu64 ": %s", r->id,
                 r->end_reason);
    poll_serve(r->c);
}

/* All rounds are done: the clients measure the final model, if the plan wants it. */
static void finish(struct run *r, const char *reason)
{
    sl_text_copy(r->end_reason, sizeof(r->end_reason), reason);
    if (r->plan.evaluation.where == SL_EVAL_COORDINATOR || r->plan.evaluation.holdout <= 0) {
        run_end(r, false, reason);
        return;
    }
    memset(r->eval.there, 0, r->eval.n * sizeof(*r->eval.there));
    memset(r->eval.counts, 0, r->eval.n * sizeof(*r->eval.counts));
    for (uint32_t k = 0; k < r->eval.n; k++)
        if (sl_registry_at(&r->c->registry, k) == NULL)
            r->eval.there[k] = true; /* nobody to ask */
    r->phase = RUN_CLIENT_EVAL;
    r->eval_deadline_ms = r->c->now_ms + (uint64_t)(r->plan.selection.deadline_s * 1000);
    poll_serve(r->c);
}

/* --- rounds --------------------------------------------------------------------------------------- */

/* Members of a recorded round: those whose updates went in; where a policy decided, all. */
static bool recorded_members(const struct run *r, uint32_t round, uint32_t *ret, size_t *ret_n)
{
    size_t i, j;
    json_t *line, *v;
    json_array_foreach(r->c->env.replay, i, line)
    {
        const char *event = json_string_value(json_object_get(line, "event"));
        if (event == NULL || strcmp(event, "round") != 0 ||
            json_integer_value(json_object_get(line, "round")) != (json_int_t)round)
            continue;
        size_t n = 0;
        const json_t *probes = json_object_get(line, "probes");
        bool decided = r->probing.ops != NULL && probes != NULL;
        json_array_foreach(decided ? probes : json_object_get(line, "included"), j, v)
        {
            json_int_t k = json_integer_value(decided ? json_object_get(v, "client") : v);
            if (k >= 0 && k < (json_int_t)r->n_clients && n < r->n_slots)
                ret[n++] = (uint32_t)k;
        }
        *ret_n = n;
        return n > 0;
    }
    return false;
}

static int ascending(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static enum sl_code draw_cohort(struct run *r, uint32_t *ret, size_t *ret_n, struct sl_err *err)
{
    uint32_t *candidates = sl_calloc(r->n_clients, sizeof(*candidates));
    if (candidates == NULL)
        return sl_err_set(err, SL_E_NOMEM, "cohort");
    struct sl_selection_input in = {.plan = &r->plan,
                                    .round = r->next_round,
                                    .candidates = candidates,
                                    .n_candidates = sl_registry_candidates(&r->c->registry,
                                                                           r->n_clients, candidates),
                                    .file = &r->selection_file};
    double wanted = (double)sl_plan_cohort_size(&r->plan) * r->plan.selection.over_select;
    in.n_wanted = (size_t)wanted + ((double)(size_t)wanted < wanted ? 1 : 0);
    if (in.n_wanted > in.n_candidates)
        in.n_wanted = in.n_candidates;
    enum sl_code rc = SL_OK;
    if (r->c->env.replay != NULL) {
        if (!recorded_members(r, r->next_round, ret, ret_n))
            rc = sl_err_set(err, SL_E_INPUT, "--replay: the record has no round %" PRIu32,
                            r->next_round);
        else
            qsort(ret, *ret_n, sizeof(*ret), ascending);
    } else if (in.n_candidates == 0) {
        rc = sl_err_set(err, SL_E_FAILED, "no enrolled client is left");
    } else {
        rc = r->selection->select(&in, ret, ret_n, err);
    }
    free(candidates);
    return rc;
}

struct sl_round_cfg run_round_cfg(const struct run *r, size_t n_members)
{
    double quorum = r->plan.selection.quorum * (double)n_members;
    uint32_t q = (uint32_t)quorum;
    if ((double)q < quorum)
        q++;
    bool over = r->plan.selection.over_select > 1.0 && r->c->env.replay == NULL;
    uint32_t target = over ? sl_plan_cohort_size(&r->plan) : 0;
    if (target > n_members)
        target = 0;
    return (struct sl_round_cfg){.target = target,
                                 .quorum = q < 1 ? 1 : q,
                                 .deadline_ms = (uint64_t)(r->plan.selection.deadline_s * 1000),
                                 .max_retries = r->plan.run.max_retries,
                                 .probe_ms = r->probing.on ? probe_time_ms(r) : 0};
}

void run_begin_counting(struct run *r, uint64_t spent_ms)
{
    struct sl_coordinator *c = r->c;
    r->opened_ms = c->now_ms > spent_ms ? c->now_ms - spent_ms : 0;
    r->journalled_ms = c->now_ms;
    r->wall_open = c->env.wall_s(c->env.ctx);
    r->wire_open = c->env.wire_bytes(c->env.ctx);
    r->next_order = 0;
    r->weight_in = 0;
    r->work.stepped = false;
    r->unjournalled = false;
    sl_sum_clear(&r->sum);
    for (uint32_t i = 0; i < r->n_slots; i++)
        if (!buffer_on(r) || !r->buffers.flight[i].under_way)
            upload_reset(&r->uploads[i]);
    memset(r->eval.there, 0, r->eval.n * sizeof(*r->eval.there));
    memset(r->eval.counts, 0, r->eval.n * sizeof(*r->eval.counts));
    probe_reset(r);
    r->phase = RUN_OPEN;
}

static void open_round(struct run *r)
{
    struct sl_coordinator *c = r->c;
    struct sl_err err;
    uint32_t *members = sl_calloc(r->n_clients, sizeof(*members));
    size_t n = 0;
    enum sl_code rc = members == NULL ? sl_err_set(&err, SL_E_NOMEM, "cohort")
                                      : draw_cohort(r, members, &n, &err);
    if (rc == SL_OK && n > r->n_slots)
        rc = sl_err_set(&err, SL_E_BUG, "cohort of %zu for %" PRIu32 " slots", n, r->n_slots);
    if (rc != SL_OK) {
        free(members);
        run_end(r, true, err.msg);
        return;
    }
    struct sl_round_cfg cfg = run_round_cfg(r, n);
    rc = c->env.store->ops->round_open(c->env.store, r->id, r->next_round, 0, members, n,
                                       cfg.deadline_ms, &err);
    if (rc == SL_OK)
        rc = sl_round_open(&r->round, &cfg, r->next_round, 0, members, n, c->now_ms,
                           cfg.deadline_ms, &err);
    free(members);
    if (rc != SL_OK) {
        core_fault(c, rc, &err);
        return;
    }
    run_begin_counting(r, 0);
    sl_log_write(c->env.log, SL_LOG_DEBUG, "round %" PRIu32 ": %zu clients", r->next_round, n);
    probe_open(r);
    poll_serve(c);
}

static bool enough_clients(const struct run *r)
{
    uint32_t want = r->plan.run.min_clients == 0 ? r->n_clients : r->plan.run.min_clients;
    uint32_t n = 0;
    for (uint32_t k = 0; k < r->n_clients && n < want; k++)
        n += sl_registry_at(&r->c->registry, k) != NULL;
    return n >= want;
}

static bool eval_complete(const struct run *r)
{
    for (uint32_t k = 0; k < r->eval.n; k++)
        if (!r->eval.there[k])
            return false;
    return true;
}

void run_proceed(struct run *r)
{
    struct sl_coordinator *c = r->c;
    if (r->phase == RUN_CLIENT_EVAL) {
        if (eval_complete(r) || c->now_ms >= r->eval_deadline_ms)
            run_end(r, false, r->end_reason);
        return;
    }
    if (r->phase != RUN_WAITS)
        return;
    r->active = r->active || run_set_state(r, SL_RUN_ACTIVE, "");
    if (!r->active)
        return;
    if (calibrate_proceed(r))
        return;
    bool target = run_target_reached(r);
    if (target || r->next_round >= r->plan.run.rounds) {
        finish(r, target ? "target accuracy reached" : "all rounds done");
        return;
    }
    if (c->paused || c->draining || (!r->started && !enough_clients(r)))
        return;
    if (!r->started)
        r->started = report_start(r);
    if (r->started && r->buffers.flight != NULL)
        buffer_open(r);
    else if (r->started)
        open_round(r);
}

void run_retry(struct run *r)
{
    switch (r->phase) {
    case RUN_OVER:
        if (!r->ended)
            run_put_end(r);
        break;
    case RUN_FINALISES:
        if (!r->work.busy)
            commit_start(r);
        break;
    case RUN_OPEN:
        commit_attempt(r);
        buffer_act(r);
        probe_act(r);
        upload_advance(r);
        break;
    case RUN_CLOSING:
        upload_advance(r);
        break;
    case RUN_WAITS:
    case RUN_CLIENT_EVAL:
        run_proceed(r);
        break;
    }
}
