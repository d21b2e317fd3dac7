/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <string.h>

#include "server/core.h"

static const char *const run_states[] = {"queued", "active", "done", "failed"};
static const char *const phases[] = {"waiting for clients", "open",       "closing",
                                     "finalising",          "evaluating", "over"};
static const char *const member_states[] = {"waiting", "tasked", "accepted", "failed", "idle",
                                            "probed", "stopped"};

static json_t *run_json(const struct run *r, uint64_t now_ms)
{
    char digest[SL_DIGEST_HEX];
    sl_hex(r->digest, SL_DIGEST_BYTES, digest);
    bool open = r->phase == RUN_OPEN;
    return json_pack(
        "{s:I, s:s, s:I, s:I, s:I, s:s, s:I, s:I, s:I, s:o, s:o, s:I, s:s, s:I, s:I}", "id",
        (json_int_t)r->id, "name", r->plan.run.name, "round", (json_int_t)r->next_round, "rounds",
        (json_int_t)r->plan.run.rounds, "attempt", (json_int_t)r->round.attempt, "phase",
        r->c->paused && r->phase == RUN_WAITS ? "paused" : phases[r->phase], "members",
        (json_int_t)(buffer_on(r) ? r->round.cfg.target : r->round.n_members), "accepted", (json_int_t)r->round.n_accepted, "failed",
        (json_int_t)r->round.n_failed, "remaining_s",
        open ? json_real((double)sl_round_remaining_ms(&r->round, now_ms) * 1e-3) : json_null(),
        "accuracy", r->has_accuracy ? json_real(r->accuracy) : json_null(), "parameters",
        (json_int_t)r->n_all, "model_digest", digest, "bytes_up", (json_int_t)r->bytes_up,
        "bytes_down", (json_int_t)r->bytes_down);
}

json_t *sl_coordinator_status(const struct sl_coordinator *c, uint64_t now_ms)
{
    uint32_t registered = 0, holds = 0;
    for (uint32_t i = 0; i < c->registry.n; i++) {
        registered += c->registry.clients[i].registered;
        holds += c->registry.clients[i].holds;
    }
    json_t *runs = json_array();
    for (size_t i = 0; i < c->n_runs; i++)
        json_array_append_new(runs, json_pack("{s:I, s:s, s:s, s:s}", "id",
                                              (json_int_t)c->runs[i].id, "name", c->runs[i].name,
                                              "state", run_states[c->runs[i].state], "reason",
                                              c->runs[i].reason));
    json_t *status = json_pack("{s:{s:I, s:I, s:I}, s:o, s:s}", "clients", "enrolled",
                               (json_int_t)c->registry.n_enrolled, "registered",
                               (json_int_t)registered, "idle", (json_int_t)holds, "runs", runs,
                               "blas", c->env.blas_name);
    if (c->run != NULL)
        json_object_set_new(status, "run", run_json(c->run, now_ms));
    if (c->fault.code != SL_OK)
        json_object_set_new(status, "fault", json_string(c->fault.msg));
    return status;
}

/* A committed round as its line of the report says; -1: the last one, or the calibration after it. */
struct find_round {
    int64_t round;
    json_t *found;
};

static bool is_wanted(const struct find_round *f, const json_t *line)
{
    const char *event = json_string_value(json_object_get(line, "event"));
    if (event == NULL)
        return false;
    if (strcmp(event, "calibration") == 0)
        return f->round < 0;
    return strcmp(event, "round") == 0 &&
           (f->round < 0 || json_integer_value(json_object_get(line, "round")) == f->round);
}

static enum sl_code match_round(void *ctx, const char *json)
{
    struct find_round *f = ctx;
    json_t *line = json_loads(json, 0, NULL);
    if (is_wanted(f, line)) {
        json_decref(f->found);
        f->found = json_incref(line);
    }
    json_decref(line);
    return SL_OK;
}

static json_t *explain_open(const struct run *r)
{
    json_t *members = json_array();
    for (size_t i = 0; i < r->round.n_members; i++) {
        const struct sl_member *m = &r->round.members[i];
        const struct sl_client_entry *e = sl_registry_at(&r->c->registry, m->client);
        if (m->state == SL_MEMBER_IDLE)
            continue;
        json_t *o =
            json_pack("{s:I, s:s, s:s, s:s, s:I, s:o}", "client", (json_int_t)m->client, "name",
                      e != NULL ? e->row.name : "-", "state", member_states[m->state], "reason",
                      m->reason, "start", (json_int_t)buffer_start(r, i), "last_heard_s",
                      e != NULL && e->registered
                          ? json_real((double)(r->c->now_ms - e->seen_ms) * 1e-3)
                          : json_null());
        if (probe_on(r) && (r->probing.member[i].reported || r->round.decided))
            json_object_set_new(o, "probe", probe_member_json(r, i));
        json_array_append_new(members, o);
    }
    return json_pack("{s:I, s:I, s:s, s:I, s:I, s:f, s:o}",
                     calibrate_under_way(r) ? "calibration" : "round",
                     (json_int_t)(r->round.number & ~SL_ROUND_CALIBRATION), "attempt", (json_int_t)r->round.attempt, "phase", phases[r->phase], "quorum",
                     (json_int_t)r->round.cfg.quorum, "accepted", (json_int_t)r->round.n_accepted,
                     "remaining_s",
                     (double)sl_round_remaining_ms(&r->round, r->c->now_ms) * 1e-3, "members",
                     members);
}

json_t *sl_coordinator_explain(struct sl_coordinator *c, int64_t round, struct sl_err *err)
{
    const struct run *r = c->run;
    if (r == NULL) {
        sl_err_set(err, SL_E_NOTFOUND, "no run yet");
        return NULL;
    }
    bool current = r->phase == RUN_OPEN || r->phase == RUN_CLOSING || r->phase == RUN_FINALISES;
    if (current && (round < 0 || round == (int64_t)r->round.number))
        return explain_open(r);
    struct find_round f = {.round = round};
    enum sl_code rc = c->env.store->ops->each_report(c->env.store, r->id, match_round, &f, err);
    if (rc != SL_OK) {
        json_decref(f.found);
        return NULL;
    }
    if (f.found == NULL && round < 0)
        sl_err_set(err, SL_E_NOTFOUND, "run %" PRIu64 " has no round yet", r->id);
    else if (f.found == NULL)
        sl_err_set(err, SL_E_NOTFOUND, "run %" PRIu64 " has no round %" PRId64 " (%" PRIu32
                   " committed)", r->id, round, r->next_round);
    return f.found;
}
