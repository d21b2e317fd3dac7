/* SPDX-License-Identifier: Apache-2.0 */
/* Who goes on after the probe epoch (Zhang, Lin, Zhang 2022): reports come in and are held, the policy
 * decides over plain facts (probe_facts.c) once all have reported or their time is over, the journal has the
 * decision, and then everybody is told. It stands for its round, whatever happens to this process. With
 * the policies that decide nothing, everybody goes on, at once. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/crash_point.h"
#include "common/hash.h"
#include "common/mem.h"
#include "common/text.h"
#include "server/core.h"

#define DRAINING_AGAIN_MS 500
#define EWMA 0.3 /* weight of the newer */

bool probe_on(const struct run *r)
{
    return r->probing.on && !calibrate_under_way(r);
}

/* --- life ----------------------------------------------------------------------------------------- */

/* Loss of a model that knows nothing (fedmarl/features.h). */
static double loss_scale(const struct run *r)
{
    const struct sl_plan *p = &r->plan;
    if (p->model.head == SL_HEAD_SPHERE && p->model.loss == SL_HEAD_SQUARED)
        return sl_fedmarl_loss_scale_sphere(r->test.n_classes, r->calib.shape.width);
    return sl_fedmarl_loss_scale_ce(r->test.n_classes < 2 ? 2 : r->test.n_classes);
}

static enum sl_code load_policy(struct run *r, struct sl_err *err)
{
    struct probing *p = &r->probing;
    if (strcmp(p->ops->name, "fedmarl") != 0)
        return SL_OK;
    enum sl_code rc = sl_fedmarl_policy_load(r->plan.selection.policy_file, &p->policy, err);
    if (rc != SL_OK)
        return sl_err_wrap(err, rc, "selection.policy_file");
    uint8_t digest[SL_DIGEST_BYTES];
    sl_blake2b_256(p->policy.net.values, p->policy.net.n_values * sizeof(float), digest);
    sl_hex(digest, SL_DIGEST_BYTES, p->digest);
    p->learned = true;
    return SL_OK;
}

enum sl_code probe_build(struct run *r, struct sl_err *err)
{
    struct probing *p = &r->probing;
    p->on = r->plan.selection.probe_epochs > 0;
    if (!p->on)
        return SL_OK;
    if (sl_plan_decides(&r->plan))
        p->ops = sl_decide_find(r->plan.selection.policy);
    enum sl_code rc = p->ops != NULL ? load_policy(r, err) : SL_OK;
    if (rc == SL_OK)
        rc = sl_decide_work_new(r->n_clients, p->learned ? &p->policy : NULL, &p->work, err);
    if (rc != SL_OK)
        return rc;
    p->known = sl_calloc(r->n_clients, sizeof(*p->known));
    p->rows = sl_calloc(r->n_clients, sizeof(*p->rows));
    p->member = sl_calloc(r->n_clients, sizeof(*p->member));
    p->scratch = sl_calloc(r->n_clients, 1);
    if (p->known == NULL || p->rows == NULL || p->member == NULL || p->scratch == NULL)
        return sl_err_set(err, SL_E_NOMEM, "probes of %" PRIu32 " clients", r->n_clients);
    p->loss_scale = loss_scale(r);
    for (uint32_t k = 0; k < r->n_clients; k++) {
        p->known[k].client = k;
        if (r->share[k].train > p->max_samples)
            p->max_samples = r->share[k].train;
    }
    return SL_OK;
}

void probe_free(struct run *r)
{
    struct probing *p = &r->probing;
    sl_fedmarl_policy_deinit(&p->policy);
    sl_decide_work_free(&p->work);
    free(p->known);
    free(p->rows);
    free(p->member);
    free(p->scratch);
    json_decref(p->decision);
}

void probe_reset(struct run *r)
{
    for (uint32_t i = 0; r->probing.on && i < r->n_clients; i++)
        r->probing.member[i] = (struct probe){.rest_s = NAN, .upload_s = NAN};
}

/* --- time for probes ------------------------------------------------------------------------------ */

static int ascending(const void *pa, const void *pb)
{
    double a = *(const double *)pa, b = *(const double *)pb;
    return (a > b) - (a < b);
}

static double expected_s(const struct sl_client_facts *f)
{
    double s = f->probe_s[f->n_probe - 1];
    for (uint32_t i = f->n_probe - 1; i-- > 0;)
        s += EWMA * (f->probe_s[i] - s);
    return s;
}

/* Half of the deadline, or less: slack x quantile of what clients are known to need, once as many as a
 * round has are known. */
uint64_t probe_time_ms(const struct run *r)
{
    const struct probing *p = &r->probing;
    uint64_t all_ms = (uint64_t)(r->plan.selection.deadline_s * 1000), most_ms = all_ms / 2;
    double *s = p->work.score;
    uint32_t n = 0;
    if (p->ops == NULL || r->c->env.replay != NULL)
        return p->ops == NULL ? 0 : all_ms;
    most_ms = most_ms > 0 ? most_ms : 1;
    for (uint32_t k = 0; k < r->n_clients; k++)
        if (p->known[k].n_probe > 0)
            s[n++] = expected_s(&p->known[k]);
    if (n < sl_plan_cohort_size(&r->plan))
        return most_ms;
    qsort(s, n, sizeof(s[0]), ascending);
    uint32_t at = (uint32_t)(r->plan.selection.probe_quantile * n);
    double ms = 1000 * r->plan.selection.probe_slack * s[at < n ? at : n - 1];
    return ms < 1 ? 1 : ms < (double)most_ms ? (uint64_t)ms : most_ms;
}

uint64_t probe_wake_ms(const struct run *r)
{
    const struct sl_round *o = &r->round;
    return o->cfg.probe_ms > 0 && !o->decided && o->n_probed > 0 ? o->probe_at_ms : UINT64_MAX;
}

/* --- answers -------------------------------------------------------------------------------------- */

static void answer(struct sl_coordinator *c, sl_request_id id, enum sl_go go, const char *reason)
{
    struct sl_msg m = {.kind = SL_MSG_DECISION};
    m.decision.go = go;
    m.decision.again_ms = go == SL_GO_WAIT && c->draining ? DRAINING_AGAIN_MS : 0;
    sl_text_copy(m.decision.reason, sizeof(m.decision.reason), reason);
    c->env.reply(c->env.ctx, id, &m);
}

/* What the member at this position is to do, as far as that is known. */
static enum sl_go go_of(const struct run *r, size_t position, const char **ret_reason)
{
    const struct sl_member *m = &r->round.members[position];
    *ret_reason = "";
    switch (m->state) {
    case SL_MEMBER_FAILED:
        *ret_reason = m->reason;
        return SL_GO_STOP;
    case SL_MEMBER_STOPPED: /* the word says it all, and weighs as much as `go` */
        return SL_GO_STOP;
    case SL_MEMBER_ACCEPTED:
        *ret_reason = "its update is in";
        return SL_GO_STOP;
    default:
        return r->probing.ops == NULL || m->go ? SL_GO_ON : SL_GO_WAIT;
    }
}

static void hold(struct probe *p, sl_request_id id, uint64_t now_ms)
{
    p->asks = true;
    p->request = id;
    p->asked_ms = now_ms;
}

/* Answers whoever is held, with what is known, or with `instead`. */
static void release(struct run *r, const char *instead)
{
    for (size_t i = 0; r->probing.on && i < r->round.n_members; i++) {
        struct probe *p = &r->probing.member[i];
        const char *reason;
        if (!p->asks)
            continue;
        p->asks = false;
        enum sl_go go = go_of(r, i, &reason);
        answer(r->c, p->request, instead != NULL ? SL_GO_STOP : go,
               instead != NULL ? instead : reason);
    }
}

void probe_close(struct run *r)
{
    release(r, "the round is closed");
}

void probe_ask_again(struct run *r)
{
    if (probe_on(r))
        release(r, NULL);
}

void probe_expire(struct run *r)
{
    bool timed = r->probing.on && r->c->env.poll_hold_ms > 0;
    for (size_t i = 0; timed && i < r->round.n_members; i++) {
        struct probe *p = &r->probing.member[i];
        if (!p->asks || r->c->now_ms - p->asked_ms < r->c->env.poll_hold_ms)
            continue;
        p->asks = false;
        answer(r->c, p->request, SL_GO_WAIT, "");
    }
}

void probe_forget(struct run *r, sl_request_id id)
{
    for (size_t i = 0; r->probing.on && i < r->round.n_members; i++)
        if (r->probing.member[i].asks && r->probing.member[i].request == id)
            r->probing.member[i].asks = false;
}

/* --- the decision --------------------------------------------------------------------------------- */

static uint32_t quorum_of(const struct run *r, uint32_t n_go)
{
    double least = r->plan.selection.quorum * n_go;
    uint32_t n = (uint32_t)least;
    n += (double)n < least;
    return n < 1 ? 1 : n;
}

/* What stands beside the members holds for the round. */
static enum sl_round_action adopt(struct run *r)
{
    struct probing *p = &r->probing;
    uint32_t n_go = 0;
    for (size_t i = 0; i < r->round.n_members; i++) {
        p->scratch[i] = p->member[i].verdict;
        p->member[i].decided_ms = r->c->now_ms;
        n_go += p->scratch[i] == SL_VERDICT_GO;
    }
    return sl_round_decide(&r->round, p->scratch, quorum_of(r, n_go), r->c->now_ms);
}

/* Fills in what the policy says about those who have probed. */
static void ask_policy(struct run *r)
{
    struct probing *p = &r->probing;
    const size_t n = r->round.n_members;
    struct sl_round_facts round;
    probe_facts(r, &round);
    double accept = r->plan.selection.accept;
    struct sl_decide_input in = {
        .round = &round,
        .rows = p->rows,
        .n = n,
        .accept = accept > 0 ? accept : (double)sl_plan_cohort_size(&r->plan) / 2,
        .candidates = r->plan.selection.candidates,
        .oort = p->oort,
        .policy = p->learned ? &p->policy : NULL,
        .rails = {.min_accepted = r->plan.selection.min_accepted,
                  .force_after = r->plan.selection.force_after,
                  .cap = r->plan.selection.cap,
                  .cap_window = r->plan.selection.cap_window},
    };
    p->ops->decide(&in, &p->work, p->scratch);
    for (size_t i = 0; i < n; i++) {
        struct probe *m = &p->member[i];
        if (m->verdict != SL_VERDICT_SILENT)
            m->verdict = p->scratch[i] ? SL_VERDICT_GO : SL_VERDICT_STOP;
        if (p->learned) {
            m->why = p->work.decisions[i].why;
            memcpy(m->q, p->work.decisions[i].q, sizeof(m->q));
        } else {
            m->why = m->verdict == SL_VERDICT_SILENT ? SL_WHY_SILENT : SL_WHY_POLICY;
        }
    }
}

/* To the journal. false: the store refused it. */
static bool journal(struct run *r)
{
    struct sl_coordinator *c = r->c;
    struct sl_err err;
    json_t *line = json_pack("{s:s, s:I, s:I, s:I, s:o}", "event", "decision", "run",
                             (json_int_t)r->id, "round", (json_int_t)r->round.number, "attempt",
                             (json_int_t)r->round.attempt, "probes", probe_members_json(r));
    if (!run_put_report(r, line))
        return false;
    /* it is written; this makes it safe from a power cut too */
    enum sl_code rc = c->env.store->ops->round_progress(
        c->env.store, r->id, r->round.number, sl_round_remaining_ms(&r->round, c->now_ms), &err);
    if (rc != SL_OK)
        core_fault(c, rc, &err);
    SL_CRASH_POINT("after_decision");
    return true;
}

/* --replay: a member that goes on, but whose update was not in the sum. */
static void drop_unrecorded(struct run *r)
{
    const json_t *included = probe_recorded(r, r->round.number, "included");
    for (size_t i = 0; i < r->round.n_members && r->phase == RUN_OPEN; i++) {
        const struct sl_member *m = &r->round.members[i];
        size_t at;
        json_t *v;
        bool in = false;
        json_array_foreach(included, at, v) in = in || json_integer_value(v) == m->client;
        if (in || !m->go)
            continue;
        struct sl_round_event ev = {.kind = SL_ROUND_EV_FAILED,
                                    .now_ms = r->c->now_ms,
                                    .client = m->client,
                                    .reason = "not in the recorded sum"};
        commit_act(r, sl_round_step(&r->round, &ev));
    }
}

static void decide(struct run *r)
{
    struct sl_coordinator *c = r->c;
    const bool replay = c->env.replay != NULL;
    for (size_t i = 0; i < r->round.n_members; i++) {
        struct probe *p = &r->probing.member[i];
        bool there = r->round.members[i].state == SL_MEMBER_PROBED;
        p->verdict = there ? SL_VERDICT_STOP : SL_VERDICT_SILENT;
        if (!there)
            p->probe_s = (double)(c->now_ms - r->opened_ms) * 1e-3;
    }
    if (replay)
        probe_recall_times(r);
    ask_policy(r);
    if (replay)
        probe_recall_verdicts(r);
    if (!journal(r))
        return;
    enum sl_round_action action = adopt(r);
    release(r, NULL);
    commit_act(r, action);
    if (replay)
        drop_unrecorded(r);
}

void probe_act(struct run *r)
{
    if (probe_on(r) && r->phase == RUN_OPEN && !r->unjournalled && r->c->fault.code == SL_OK &&
        sl_round_wants_decision(&r->round, r->c->now_ms))
        decide(r);
}

void probe_restore(struct run *r)
{
    struct probing *p = &r->probing;
    if (!probe_on(r) || p->decision == NULL || p->decision_round != r->round.number)
        return;
    probe_read_members(r, p->decision);
    adopt(r);
}

/* --replay: who was silent is not waited for. */
void probe_open(struct run *r)
{
    size_t at;
    json_t *v;
    if (r->probing.ops == NULL || r->c->env.replay == NULL)
        return;
    json_array_foreach(probe_recorded(r, r->round.number, "probes"), at, v)
    {
        const char *verdict = json_string_value(json_object_get(v, "verdict"));
        if (verdict == NULL || strcmp(verdict, "silent") != 0)
            continue;
        struct sl_round_event ev = {
            .kind = SL_ROUND_EV_FAILED,
            .now_ms = r->c->now_ms,
            .client = (uint32_t)json_integer_value(json_object_get(v, "client")),
            .reason = "silent in the record"};
        commit_act(r, sl_round_step(&r->round, &ev));
    }
}

/* --- reports -------------------------------------------------------------------------------------- */

void probe_tasked(struct run *r, size_t position)
{
    if (!probe_on(r))
        return;
    struct probe *p = &r->probing.member[position];
    if (p->timed)
        return;
    p->timed = true;
    p->tasked_ms = r->c->now_ms;
}

/* The first report counts. */
static void note(struct run *r, struct probe *p, const struct sl_msg *m)
{
    uint64_t from_ms = p->timed ? p->tasked_ms : r->opened_ms;
    if (p->reported)
        return;
    p->reported = true;
    p->loss = m->probe.loss;
    p->samples = m->probe.samples;
    p->probe_s = (double)(r->c->now_ms - from_ms) * 1e-3;
    p->decided_ms = r->c->now_ms; /* unless a decision comes */
}

static const char *fault_of(const struct run *r, uint32_t client, const struct sl_msg *m)
{
    if (!isfinite(m->probe.loss))
        return "its probe's loss is not a finite number";
    if (m->probe.samples == 0 || m->probe.samples > meta_samples(r, client))
        return "its probe tells of samples that it can't have";
    return NULL;
}

static void report(struct run *r, size_t position, sl_request_id id, const struct sl_msg *m)
{
    struct sl_coordinator *c = r->c;
    struct probe *p = &r->probing.member[position];
    const char *reason, *fault;
    uint32_t client = r->round.members[position].client;
    enum sl_go go = go_of(r, position, &reason);
    if (go != SL_GO_STOP && !p->reported && (fault = fault_of(r, client, m)) != NULL) {
        struct sl_round_event ev = {
            .kind = SL_ROUND_EV_FAILED, .now_ms = c->now_ms, .client = client, .reason = fault};
        answer(c, id, SL_GO_STOP, fault);
        commit_act(r, sl_round_step(&r->round, &ev));
        return;
    }
    if (go != SL_GO_STOP)
        note(r, p, m);
    if (go != SL_GO_WAIT || c->draining) {
        answer(c, id, go, reason);
        if (go != SL_GO_WAIT)
            return;
    } else {
        hold(p, id, c->now_ms);
    }
    struct sl_round_event ev = {
        .kind = SL_ROUND_EV_PROBED, .now_ms = c->now_ms, .client = client};
    commit_act(r, sl_round_step(&r->round, &ev));
}

void probe_take(struct sl_coordinator *c, uint32_t client, sl_request_id id,
                const struct sl_msg *m)
{
    struct run *r = c->run;
    if (r == NULL || m->probe.run_id != r->id || r->phase != RUN_OPEN || !probe_on(r) ||
        m->probe.round != r->round.number) {
        answer(c, id, SL_GO_STOP, "its round is not open");
        return;
    }
    const struct sl_member *member = sl_round_member(&r->round, client);
    if (member == NULL) {
        answer(c, id, SL_GO_STOP, "not selected in this round");
        return;
    }
    size_t position = (size_t)(member - r->round.members);
    struct probe *p = &r->probing.member[position];
    if (p->asks) { /* the later report is the one that waits */
        p->asks = false;
        answer(c, p->request, SL_GO_WAIT, "");
    }
    report(r, position, id, m);
}

/* --- updates -------------------------------------------------------------------------------------- */

void probe_first_chunk(struct run *r, size_t position)
{
    if (probe_on(r))
        r->probing.member[position].first_ms = r->c->now_ms;
}

/* Of an update of several chunks the time between first and last is that of all but the first. Of one
 * that comes in one piece only the sum is known: what goes beyond the pace of the probe is the upload. */
void probe_uploaded(struct run *r, size_t position, uint32_t n_chunks)
{
    if (!probe_on(r) || r->c->env.replay != NULL) /* the record's times count */
        return;
    struct probe *p = &r->probing.member[position];
    if (!p->reported)
        return;
    double all_s = (double)(r->c->now_ms - p->decided_ms) * 1e-3;
    double left = (double)r->plan.train.epochs - 1;
    if (n_chunks > 1) {
        double rest_s = ((double)p->first_ms - (double)p->decided_ms) * 1e-3;
        p->rest_s = rest_s > 0 ? rest_s : 0;
        p->upload_s = (double)(r->c->now_ms - p->first_ms) * 1e-3 * n_chunks / (n_chunks - 1);
        return;
    }
    p->rest_s = p->probe_s * left < all_s ? p->probe_s * left : all_s;
    p->upload_s = all_s - p->rest_s;
}
