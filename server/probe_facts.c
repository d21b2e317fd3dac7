/* SPDX-License-Identifier: Apache-2.0 */
/* What a coordinator knows of its clients when it decides who goes on, and where it comes from: each
 * committed round's line of the report has what every probe told and how long everything took, and the
 * histories are those lines read in order. So they are the same after a restart, and under --replay. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/mem.h"
#include "server/core.h"
#include "server/selection/fedmarl/record.h"
#include "server/selection/fedmarl/reward.h"

static const char *const verdict_names[] = {"silent", "go", "stop"};
static const char *const why_names[] = {"policy", "silent", "capped", "forced", "minimum"};

static uint8_t index_of(const char *const *names, uint8_t n, const json_t *v)
{
    const char *text = json_string_value(v);
    for (uint8_t i = 0; text != NULL && i < n; i++)
        if (strcmp(names[i], text) == 0)
            return i;
    return 0;
}

static uint8_t verdict_of(const json_t *o)
{
    return index_of(verdict_names, 3, json_object_get(o, "verdict"));
}

static uint32_t client_of(const json_t *o)
{
    return (uint32_t)json_integer_value(json_object_get(o, "client"));
}

static double number_of(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);
    return json_is_number(v) ? json_number_value(v) : NAN;
}

static json_t *number(double x)
{
    return isfinite(x) ? json_real(x) : json_null();
}

/* --- what a policy sees --------------------------------------------------------------------------- */

static void shift_in(double *history, uint32_t *n, double value)
{
    memmove(history + 1, history, (SL_FACTS_HISTORY - 1) * sizeof(history[0]));
    history[0] = value;
    if (*n < SL_FACTS_HISTORY)
        ++*n;
}

void probe_facts(struct run *r, struct sl_round_facts *ret)
{
    struct probing *p = &r->probing;
    struct sl_fedmarl_times probes = p->probes;
    uint64_t most = p->max_samples;
    for (size_t i = 0; i < r->round.n_members; i++) {
        const struct probe *m = &p->member[i];
        struct sl_client_facts *f = &p->rows[i];
        uint32_t client = r->round.members[i].client;
        *f = p->known[client];
        f->reported = m->verdict != SL_VERDICT_SILENT;
        f->probe_loss = f->reported ? (double)m->loss : 0;
        if (f->reported)
            f->samples = m->samples;
        else if (f->samples == 0)
            f->samples = r->share[client].train > 0 ? r->share[client].train : 1;
        f->upload_bytes = r->codec.n_bytes;
        f->message_valid = true;
        most = f->samples > most ? f->samples : most;
        shift_in(f->probe_s, &f->n_probe, m->probe_s);
        sl_fedmarl_times_add(&probes, m->probe_s);
    }
    *ret = (struct sl_round_facts){.seed = r->plan.run.seed,
                                   .round = r->round.number,
                                   .rounds = r->plan.run.rounds,
                                   .epochs = r->plan.train.epochs,
                                   .probe_epochs = r->plan.selection.probe_epochs,
                                   .loss_scale = p->loss_scale,
                                   .median_probe_s = sl_fedmarl_times_median(&probes),
                                   .mean_probe_s = sl_fedmarl_times_mean(&probes),
                                   .mean_upload_s = sl_fedmarl_times_mean(&p->uploads),
                                   .full_bytes = r->model_ref.size,
                                   .max_samples = most};
}

/* --- as JSON -------------------------------------------------------------------------------------- */

json_t *probe_member_json(const struct run *r, size_t position)
{
    const struct probe *m = &r->probing.member[position];
    json_t *o = json_pack("{s:I, s:o, s:I, s:o, s:s, s:s}", "client",
                          (json_int_t)r->round.members[position].client, "loss",
                          m->reported ? json_real((double)m->loss) : json_null(), "samples",
                          (json_int_t)m->samples, "probe_s", number(m->probe_s), "verdict",
                          verdict_names[m->verdict], "why", why_names[m->why]);
    if (r->probing.learned)
        json_object_set_new(o, "q", json_pack("[f, f]", (double)m->q[0], (double)m->q[1]));
    return o;
}

json_t *probe_members_json(const struct run *r)
{
    json_t *list = json_array();
    for (size_t i = 0; i < r->round.n_members; i++)
        json_array_append_new(list, probe_member_json(r, i));
    return list;
}

/* What the list tells of a member, NULL = nothing. */
static const json_t *entry_of(const json_t *list, uint32_t client)
{
    size_t at;
    json_t *v;
    json_array_foreach(list, at, v) if (client_of(v) == client) return v;
    return NULL;
}

void probe_read_members(struct run *r, const json_t *list)
{
    for (size_t i = 0; i < r->round.n_members; i++) {
        struct probe *m = &r->probing.member[i];
        const json_t *o = entry_of(list, r->round.members[i].client);
        const json_t *q = json_object_get(o, "q");
        m->verdict = verdict_of(o);
        m->why = index_of(why_names, 5, json_object_get(o, "why"));
        m->reported = json_is_number(json_object_get(o, "loss"));
        m->loss = m->reported ? (float)number_of(o, "loss") : 0;
        m->samples = (uint32_t)json_integer_value(json_object_get(o, "samples"));
        m->probe_s = number_of(o, "probe_s");
        for (size_t a = 0; a < 2; a++)
            m->q[a] = (float)json_number_value(json_array_get(q, a));
    }
}

/* --- --replay ------------------------------------------------------------------------------------- */

const json_t *probe_recorded(const struct run *r, uint32_t round, const char *key)
{
    size_t at;
    json_t *line;
    json_array_foreach(r->c->env.replay, at, line)
    {
        const char *event = json_string_value(json_object_get(line, "event"));
        if (event != NULL && strcmp(event, "round") == 0 &&
            json_integer_value(json_object_get(line, "round")) == (json_int_t)round)
            return json_object_get(line, key);
    }
    return NULL;
}

void probe_recall_times(struct run *r)
{
    const json_t *list = probe_recorded(r, r->round.number, "probes");
    for (size_t i = 0; i < r->round.n_members; i++) {
        struct probe *m = &r->probing.member[i];
        const json_t *o = entry_of(list, r->round.members[i].client);
        m->probe_s = number_of(o, "probe_s");
        m->rest_s = number_of(o, "rest_s");
        m->upload_s = number_of(o, "upload_s");
    }
}

void probe_recall_verdicts(struct run *r)
{
    const json_t *list = probe_recorded(r, r->round.number, "probes");
    for (size_t i = 0; i < r->round.n_members; i++) {
        struct probe *m = &r->probing.member[i];
        uint8_t recorded = verdict_of(entry_of(list, r->round.members[i].client));
        m->redecided = recorded != m->verdict;
        if (m->redecided)
            sl_log_write(r->c->env.log, SL_LOG_WARN,
                         "round %u: client %u: %s, but the record says %s",
                         (unsigned)r->round.number, (unsigned)r->round.members[i].client,
                         verdict_names[m->verdict], verdict_names[recorded]);
        m->verdict = recorded;
    }
}

/* --- the line of a round -------------------------------------------------------------------------- */

/* Seconds from the decision to the end of the upload: measured, or those of a client that vanished, or as
 * foretold. */
static double after_s(const struct run *r, const struct sl_round_facts *round, size_t i)
{
    const struct probe *m = &r->probing.member[i];
    if (m->verdict == SL_VERDICT_GO && r->round.members[i].state != SL_MEMBER_ACCEPTED)
        return r->plan.selection.deadline_s;
    if (m->verdict == SL_VERDICT_GO && isfinite(m->rest_s) && isfinite(m->upload_s))
        return m->rest_s + m->upload_s;
    return sl_decide_rest_s(round, &r->probing.rows[i]);
}

struct tally_of_probes {
    size_t n_probed, n_go, n_stopped, n_redecided;
    double latency_s, latency_all_s; /* of the round; if everybody had gone on */
};

static struct tally_of_probes count(const struct run *r, const struct sl_round_facts *round)
{
    struct tally_of_probes t = {0};
    double probe_s = 0, go_s = 0, all_s = 0;
    for (size_t i = 0; i < r->round.n_members; i++) {
        const struct probe *m = &r->probing.member[i];
        double s = after_s(r, round, i);
        bool go = m->verdict == SL_VERDICT_GO;
        probe_s = m->probe_s > probe_s ? m->probe_s : probe_s;
        go_s = go && s > go_s ? s : go_s;
        all_s = s > all_s ? s : all_s;
        t.n_probed += m->verdict != SL_VERDICT_SILENT;
        t.n_go += go;
        t.n_stopped += m->verdict == SL_VERDICT_STOP;
        t.n_redecided += m->redecided;
    }
    t.latency_s = probe_s + go_s;
    t.latency_all_s = probe_s + all_s;
    return t;
}

static json_t *rows_json(const struct run *r)
{
    json_t *list = json_array();
    for (size_t i = 0; i < r->round.n_members; i++) {
        const struct probe *m = &r->probing.member[i];
        bool in = r->round.members[i].state == SL_MEMBER_ACCEPTED;
        json_t *o = probe_member_json(r, i);
        bool vanished = m->verdict == SL_VERDICT_GO && !in;
        json_object_set_new(o, "rest_s", number(in ? m->rest_s : NAN));
        json_object_set_new(o, "upload_s",
                            number(in ? m->upload_s
                                   : vanished ? r->plan.selection.deadline_s
                                              : NAN));
        json_array_append_new(list, o);
    }
    return list;
}

/* w->eval is what the round's model reached, if it was measured. */
static double accuracy_after(const struct run *r, double before)
{
    const struct work *w = &r->work;
    return w->due && w->eval.n > 0 ? (double)w->eval.correct / (double)w->eval.n : before;
}

static double accuracy_before(const struct run *r)
{
    return r->has_accuracy ? r->accuracy : 1.0 / (r->test.n_classes > 0 ? r->test.n_classes : 1);
}

/* The median of what rounds take when everybody goes on, this one's with it. */
static double reward(const struct run *r, const struct tally_of_probes *t)
{
    struct sl_fedmarl_times latencies = r->probing.latencies;
    sl_fedmarl_times_add(&latencies, t->latency_all_s);
    double ref_s = sl_fedmarl_times_median(&latencies), before = accuracy_before(r);
    const struct sl_fedmarl_reward w = {.utility = SL_UTILITY_PAPER,
                                        .c = 1,
                                        .w1 = r->plan.selection.w1,
                                        .w2 = r->plan.selection.w2,
                                        .w3 = r->plan.selection.w3,
                                        .latency_ref_s = ref_s > 0 ? ref_s : 1,
                                        .traffic_ref = (double)r->round.n_members};
    return sl_fedmarl_reward_of(&w, before, accuracy_after(r, before), t->latency_s,
                                (double)t->n_go);
}

/* One record a row (fedmarl/record.h), with the features of the policy, or those of the usual one. */
static void log_records(struct run *r, const struct sl_round_facts *round, double earned)
{
    struct probing *p = &r->probing;
    const size_t n = r->round.n_members;
    const struct sl_fedmarl_spec usual = {.n_probe = 3, .n_upload = 3};
    const struct sl_fedmarl_spec *spec = p->learned ? &p->policy.spec : &usual;
    const uint32_t width = sl_fedmarl_n_inputs(spec);
    if (r->c->env.record == NULL || n > SL_VDN_AGENTS_MAX)
        return;
    float inputs[SL_VDN_AGENTS_MAX * SL_FEDMARL_INPUTS_MAX];
    uint8_t bytes[SL_VDN_AGENTS_MAX * SL_FEDMARL_RECORD_BYTES];
    double after = accuracy_after(r, accuracy_before(r));
    bool target = r->plan.run.target_accuracy > 0 && after >= r->plan.run.target_accuracy;
    sl_fedmarl_features(spec, round, p->rows, n, inputs);
    for (size_t i = 0; i < n; i++) {
        struct sl_fedmarl_record rec = {
            .run = r->id,
            .round = r->round.number,
            .client = r->round.members[i].client,
            .row = (uint16_t)i,
            .rows = (uint16_t)n,
            .action = p->member[i].verdict == SL_VERDICT_GO ? SL_FEDMARL_GO : SL_FEDMARL_STOP,
            .why = p->member[i].why,
            .last = target || r->round.number + 1 == r->plan.run.rounds,
            .n_inputs = (uint8_t)width,
            .reward = earned,
            .accuracy = after,
            .q = {p->member[i].q[0], p->member[i].q[1]}};
        memcpy(rec.inputs, inputs + i * width, width * sizeof(float));
        sl_fedmarl_record_put(&rec, bytes + i * SL_FEDMARL_RECORD_BYTES);
    }
    r->c->env.record(r->c->env.ctx, r->id, r->round.number, bytes, n * SL_FEDMARL_RECORD_BYTES);
}

void probe_report(struct run *r, json_t *line)
{
    struct probing *p = &r->probing;
    struct sl_round_facts round;
    if (!probe_on(r))
        return;
    for (size_t i = 0; p->ops == NULL && i < r->round.n_members; i++) {
        struct probe *m = &p->member[i];
        m->verdict = m->reported ? SL_VERDICT_GO : SL_VERDICT_SILENT;
        m->why = m->reported ? SL_WHY_POLICY : SL_WHY_SILENT;
        if (!m->reported)
            m->probe_s = (double)(r->c->now_ms - r->opened_ms) * 1e-3;
    }
    probe_facts(r, &round);
    struct tally_of_probes t = count(r, &round);
    double earned = reward(r, &t);
    json_object_set_new(line, "probed", json_integer((json_int_t)t.n_probed));
    json_object_set_new(line, "stopped", json_integer((json_int_t)t.n_stopped));
    json_object_set_new(line, "accepted", json_integer((json_int_t)t.n_go));
    json_object_set_new(line, "probe_latency_s", number(t.latency_s));
    json_object_set_new(line, "latency_of_all_s", number(t.latency_all_s));
    json_object_set_new(line, "reward", number(earned));
    json_object_set_new(line, "probes", rows_json(r));
    if (r->c->env.replay != NULL)
        json_object_set_new(line, "redecided", json_integer((json_int_t)t.n_redecided));
    log_records(r, &round, earned);
}

/* --- histories ------------------------------------------------------------------------------------ */

static void remember(struct probing *p, const json_t *o, struct sl_client_facts *f)
{
    double probe_s = number_of(o, "probe_s"), upload_s = number_of(o, "upload_s");
    bool go = verdict_of(o) == SL_VERDICT_GO;
    if (isfinite(probe_s)) {
        shift_in(f->probe_s, &f->n_probe, probe_s);
        sl_fedmarl_times_add(&p->probes, probe_s);
    }
    f->samples = json_integer_value(json_object_get(o, "samples")) > 0
                     ? (uint64_t)json_integer_value(json_object_get(o, "samples"))
                     : f->samples;
    f->accepted |= go;
    f->idle_rounds = go ? 0 : f->idle_rounds;
    if (isfinite(upload_s)) {
        shift_in(f->upload_s, &f->n_upload, upload_s);
        sl_fedmarl_times_add(&p->uploads, upload_s);
    }
}

void probe_observe(struct run *r, const json_t *line)
{
    struct probing *p = &r->probing;
    const json_t *list = json_object_get(line, "probes");
    size_t at, n = 0;
    json_t *o;
    if (!p->on || list == NULL)
        return;
    for (uint32_t k = 0; k < r->n_clients; k++) {
        p->known[k].accepted <<= 1;
        p->known[k].idle_rounds++;
    }
    json_array_foreach(list, at, o)
    {
        uint32_t k = client_of(o);
        if (k >= r->n_clients || n == r->n_clients)
            continue;
        remember(p, o, &p->known[k]);
        p->scratch[n] = verdict_of(o) == SL_VERDICT_GO;
        p->rows[n] = (struct sl_client_facts){.client = k,
                                              .samples = p->known[k].samples,
                                              .probe_loss = number_of(o, "loss")};
        n++;
    }
    sl_oort_observe(&p->oort, p->rows, n, p->scratch);
    sl_fedmarl_times_add(&p->latencies, number_of(line, "latency_of_all_s"));
}

void probe_recall(struct run *r, const json_t *line)
{
    const char *event = json_string_value(json_object_get(line, "event"));
    if (!r->probing.on || event == NULL)
        return;
    const char *policy = json_string_value(json_object_get(line, "policy_digest"));
    if (policy != NULL && strcmp(policy, r->probing.digest) != 0)
        r->probing.changed = true;
    if (strcmp(event, "round") == 0)
        probe_observe(r, line);
    if (strcmp(event, "decision") != 0)
        return;
    json_decref(r->probing.decision);
    r->probing.decision = json_incref(json_object_get(line, "probes"));
    r->probing.decision_round = (uint32_t)json_integer_value(json_object_get(line, "round"));
}
