/* SPDX-License-Identifier: Apache-2.0 */
/* The queue of runs: a run is submitted, taken up, and after a restart taken to where the journal says it
 * is: last commit, open round, accepted updates. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/hash.h"
#include "common/mem.h"
#include "common/text.h"
#include "server/core.h"

/* --- going on after a restart --------------------------------------------------------------------- */

struct history {
    struct run *r;
    bool start;
};

/* A line of the stored report: what was counted so far. */
static enum sl_code recall(void *ctx, const char *json)
{
    struct history *h = ctx;
    json_t *line = json_loads(json, 0, NULL);
    const char *event = json_string_value(json_object_get(line, "event"));
    if (event != NULL && strcmp(event, "run_start") == 0)
        h->start = true;
    if (event != NULL && strcmp(event, "run_end") == 0) {
        const char *reason = json_string_value(json_object_get(line, "reason"));
        h->r->end_reported = true;
        h->r->failed = json_is_true(json_object_get(line, "failed"));
        sl_text_copy(h->r->end_reason, sizeof(h->r->end_reason), reason != NULL ? reason : "");
    }
    h->r->best = best_after(h->r, line);
    probe_recall(h->r, line);
    if (event != NULL && strcmp(event, "calibration") == 0)
        calibrate_recall(h->r, line);
    if (event != NULL && strcmp(event, "round") == 0) {
        h->r->bytes_up += (uint64_t)json_integer_value(json_object_get(line, "bytes_up"));
        h->r->bytes_down += (uint64_t)json_integer_value(json_object_get(line, "bytes_down"));
        h->r->wall_s += json_number_value(json_object_get(line, "wall_s"));
        const json_t *a = json_object_get(line, "accuracy");
        if (json_is_number(a)) {
            h->r->has_accuracy = true;
            h->r->accuracy = json_number_value(a);
            h->r->loss = json_number_value(json_object_get(line, "loss"));
        }
    }
    json_decref(line);
    return SL_OK;
}

static enum sl_code restore_state(struct run *r, const struct sl_last_commit *last,
                                  struct sl_err *err)
{
    size_t n;
    float *state = step_state(r, &n);
    if (last->state_bytes != n * sizeof(*state))
        return sl_err_set(err, SL_E_STATE, "server state of %zu bytes, %zu expected",
                          last->state_bytes, n * sizeof(*state));
    if (n > 0)
        memcpy(state, last->state, last->state_bytes);
    return SL_OK;
}

static enum sl_code restore_model(struct run *r, struct sl_err *err)
{
    struct sl_store *s = r->c->env.store;
    struct sl_last_commit last = {0};
    enum sl_code rc = s->ops->load_last_commit(s, r->id, &last, err);
    if (rc != SL_OK || !last.present)
        return rc;
    rc = s->ops->checkpoint_read(s, last.checkpoint, sl_model_layout(r->model), r->values, err);
    if (rc == SL_OK) {
        sl_model_digest(sl_model_layout(r->model), r->values, r->digest);
        if (memcmp(r->digest, last.model_digest, SL_DIGEST_BYTES) != 0)
            rc = sl_err_set(err, SL_E_STATE, "checkpoint %s is not the model of round %" PRIu32,
                            last.checkpoint, last.round);
    }
    if (rc == SL_OK)
        rc = restore_state(r, &last, err);
    free(last.state);
    if (rc == SL_OK) {
        run_name_model(r);
        r->next_round = last.round + 1;
    }
    return rc;
}

static enum sl_code reopen(struct run *r, const struct sl_open_round *open, struct sl_err *err)
{
    struct sl_coordinator *c = r->c;
    uint32_t *members = sl_calloc(open->n_members, sizeof(*members));
    if (members == NULL)
        return sl_err_set(err, SL_E_NOMEM, "round");
    for (size_t i = 0; i < open->n_members; i++)
        members[i] = open->members[i].client;
    struct sl_round_cfg cfg = run_round_cfg(r, open->n_members);
    if (open->round >= SL_ROUND_CALIBRATION)
        cfg.target = 0, cfg.quorum = 1, cfg.probe_ms = 0;
    uint64_t left = open->remaining_ms < cfg.deadline_ms ? open->remaining_ms : cfg.deadline_ms;
    enum sl_code rc = sl_round_open(&r->round, &cfg, open->round, open->attempt, members,
                                    open->n_members, c->now_ms, left, err);
    free(members);
    if (rc != SL_OK)
        return rc;
    run_begin_counting(r, cfg.deadline_ms - left);
    probe_restore(r);
    probe_open(r);
    /* in the order of acceptance, which over-selection cares for */
    for (uint32_t order = 0; rc == SL_OK && order < open->n_members; order++)
        for (size_t i = 0; rc == SL_OK && i < open->n_members; i++)
            if (open->members[i].accepted && open->members[i].order == order)
                rc = upload_restore(r, (uint32_t)i, &open->members[i], err);
    return rc;
}

static enum sl_code restore(struct run *r, struct sl_err *err)
{
    struct sl_store *s = r->c->env.store;
    struct history h = {.r = r};
    enum sl_code rc = s->ops->each_report(s, r->id, recall, &h, err);
    if (rc == SL_OK && r->probing.changed)
        rc = sl_err_set(err, SL_E_INPUT, "selection.policy_file: %s is another policy than the run "
                        "began with", r->plan.selection.policy_file);
    if (rc == SL_OK)
        rc = restore_model(r, err);
    if (rc == SL_OK)
        rc = calibrate_restore(r, err);
    r->started = h.start;
    if (rc != SL_OK)
        return rc;
    bool present = false;
    struct sl_open_round open = {0};
    rc = s->ops->load_open_round(s, r->id, &present, &open, err);
    bool calibrates = rc == SL_OK && present && open.round == (r->calib.number | SL_ROUND_CALIBRATION);
    bool goes_on = calibrates || (!r->failed && r->calib.wanted > r->calib.number);
    if (rc == SL_OK && r->end_reported && !goes_on) { /* killed between the line and the state */
        free(open.members);
        r->phase = RUN_OVER;
        run_put_end(r);
        return SL_OK;
    }
    if (calibrates)
        rc = calibrate_ready(r, err);
    bool current = present && (calibrates || open.round == r->next_round);
    if (rc == SL_OK && r->buffers.flight != NULL && !calibrates) {
        rc = buffer_restore(r, current ? &open : NULL, err);
    } else if (rc == SL_OK && current && open.n_members <= r->n_slots) {
        sl_log_write(r->c->env.log, SL_LOG_INFO,
                     "run %" PRIu64 " goes on with %s %" PRIu32 ", attempt %" PRIu32, r->id,
                     calibrates ? "calibration" : "round", open.round & ~SL_ROUND_CALIBRATION,
                     open.attempt);
        rc = reopen(r, &open, err);
        if (rc == SL_OK && calibrates)
            rc = calibrate_keep(r, err);
    }
    free(open.members);
    return rc;
}

/* Makes the run of an entry of the queue; SL_E_STATE when the journal contradicts itself. */
static enum sl_code prepare(struct sl_coordinator *c, struct run_entry *e, struct run **ret,
                            struct sl_err *err)
{
    struct sl_plan plan;
    enum sl_code rc = sl_plan_parse(e->plan_text, strlen(e->plan_text), "stored plan", NULL, 0,
                                    &plan, err);
    if (rc != SL_OK)
        return rc;
    struct run *r = NULL;
    rc = run_build(c, e->id, &plan, &r, err);
    sl_plan_deinit(&plan);
    if (rc == SL_OK)
        rc = c->env.store->ops->spool_open(c->env.store, r->id, r->n_clients,
                                           calibrate_slot_bytes(r), err);
    if (rc != SL_OK) {
        run_free(r);
        return rc;
    }
    *ret = r;
    return SL_OK;
}

static enum sl_code start(struct sl_coordinator *c, struct run_entry *e, struct sl_err *err)
{
    struct run *r;
    run_free(c->run); /* before the next one takes as much memory */
    c->run = NULL;
    enum sl_code rc = prepare(c, e, &r, err);
    if (rc != SL_OK)
        return rc;
    c->run = r;
    r->active = e->state == SL_RUN_ACTIVE; /* else run_proceed makes it so */
    r->calib.wanted = e->calibrations;
    rc = restore(r, err);
    if (rc != SL_OK) { /* nothing of it is to go on */
        r->phase = RUN_OVER;
        r->ended = true;
        return rc;
    }
    if (r->phase == RUN_OPEN) {
        struct sl_round_event ev = {.kind = SL_ROUND_EV_TIME, .now_ms = c->now_ms};
        commit_act(r, sl_round_step(&r->round, &ev));
    }
    if (r->phase == RUN_OPEN || r->phase == RUN_CLOSING)
        upload_advance(r);
    run_proceed(r);
    return SL_OK;
}

static struct run_entry *next_entry(const struct sl_coordinator *c)
{
    for (size_t i = 0; i < c->n_runs; i++)
        if (c->runs[i].state == SL_RUN_ACTIVE)
            return &c->runs[i];
    for (size_t i = 0; i < c->n_runs; i++)
        if (c->runs[i].state == SL_RUN_QUEUED)
            return &c->runs[i];
    return NULL;
}

/* A run whose data or files are gone fails; the queue goes on. */
static enum sl_code drop_entry(struct sl_coordinator *c, struct run_entry *e,
                               const struct sl_err *why, struct sl_err *err)
{
    sl_log_write(c->env.log, SL_LOG_ERROR, "run %" PRIu64 " can't be started: %s", e->id,
                 why->msg);
    char reason[SL_WIRE_REASON];
    sl_text_copy(reason, sizeof(reason), why->msg);
    enum sl_code rc =
        c->env.store->ops->set_run_state(c->env.store, e->id, SL_RUN_FAILED, reason, err);
    if (rc == SL_OK) {
        e->state = SL_RUN_FAILED;
        memcpy(e->reason, reason, sizeof(e->reason));
    }
    return rc;
}

/* Jobs of the last run still point to it. */
static bool last_run_is_gone(const struct sl_coordinator *c)
{
    const struct run *r = c->run;
    return r == NULL || (r->phase == RUN_OVER && r->ended && run_idle(r));
}

bool run_waits_in_queue(const struct sl_coordinator *c)
{
    return last_run_is_gone(c) && next_entry(c) != NULL;
}

enum sl_code run_take_up(struct sl_coordinator *c, struct sl_err *err)
{
    if (!last_run_is_gone(c))
        return SL_OK;
    for (struct run_entry *e; (e = next_entry(c)) != NULL;) {
        struct sl_err why;
        enum sl_code rc = start(c, e, &why);
        if (rc == SL_OK)
            return SL_OK;
        if (rc == SL_E_STATE || rc == SL_E_NOMEM || rc == SL_E_NOSPACE || rc == SL_E_IO) {
            *err = why;
            return sl_err_wrap(err, rc, "run %" PRIu64, e->id);
        }
        rc = drop_entry(c, e, &why, err);
        if (rc != SL_OK)
            return rc;
    }
    return SL_OK;
}

/* The plan of the entry's run, which the queue no longer holds. */
static enum sl_code copy_plan(void *ctx, const struct sl_run_row *row)
{
    struct run_entry *e = ctx;
    if (row->id != e->id || e->plan_text != NULL)
        return SL_OK;
    e->plan_text = strndup(row->plan_text, row->plan_bytes);
    return e->plan_text == NULL ? SL_E_NOMEM : SL_OK;
}

enum sl_code run_take_up_done(struct sl_coordinator *c, struct sl_err *err)
{
    struct run_entry *last = NULL;
    for (size_t i = 0; i < c->n_runs; i++)
        if (c->runs[i].state == SL_RUN_DONE)
            last = &c->runs[i];
    if (last == NULL)
        return sl_err_set(err, SL_E_NOTFOUND, "no run is done");
    enum sl_code rc = c->env.store->ops->each_run(c->env.store, copy_plan, last, err);
    return rc == SL_OK ? start(c, last, err) : rc;
}

enum sl_code sl_coordinator_submit(struct sl_coordinator *c, uint64_t now_ms,
                                   const struct sl_plan *plan, uint64_t *ret_run,
                                   struct sl_err *err)
{
    c->now_ms = now_ms;
    struct run *probe;
    enum sl_code rc = run_build(c, 0, plan, &probe, err); /* finds all that can be wrong */
    if (rc != SL_OK)
        return rc;
    struct sl_run_row row = {.state = SL_RUN_QUEUED,
                             .plan_text = probe->plan_text,
                             .plan_bytes = probe->plan_ref.size};
    struct run_entry *more = realloc(c->runs, (c->n_runs + 1) * sizeof(*more));
    uint64_t id = 0;
    if (more == NULL)
        rc = sl_err_set(err, SL_E_NOMEM, "queue");
    else
        c->runs = more;
    if (rc == SL_OK)
        rc = c->env.store->ops->put_run(c->env.store, &row, &id, err);
    if (rc == SL_OK) {
        struct run_entry *e = &c->runs[c->n_runs++];
        *e = (struct run_entry){.id = id, .state = SL_RUN_QUEUED, .plan_text = probe->plan_text};
        snprintf(e->name, sizeof(e->name), "%s", plan->run.name);
        probe->plan_text = NULL;
        *ret_run = id;
    }
    run_free(probe);
    if (rc == SL_OK)
        rc = run_take_up(c, err);
    core_wake(c);
    return rc;
}
