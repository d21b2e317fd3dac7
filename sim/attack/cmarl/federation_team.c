/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/attack/cmarl/federation_team.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/fdmath.h"
#include "common/mem.h"
#include "sim/attack/cmarl/jacobian.h"

struct federation_team {
    struct sl_team team;
    struct sl_federation_team_options o;
    uint32_t n; /* rows */
    struct sl_client_facts *rows;
    struct sl_fedmarl_decision *decisions;
    float *scratch;
    struct sl_defence_state state;
    struct sl_defence_client *clients, **present; /* of the federation; [n], of the round */
    uint32_t n_clients;
    struct sl_defence_mark *marks;
    struct sl_defence_outcome *outcomes;
    double *checks;
    struct sl_round_facts round;
    struct sl_federation_alarms alarms;
};

static struct federation_team *self(struct sl_team *t)
{
    return (struct federation_team *)t;
}

/* Places of the features that a client has a say in (features.h). */
struct places {
    uint32_t loss, probe, cost, samples;
};

static struct places places_of(const struct sl_fedmarl_spec *s)
{
    const uint32_t histories = 1 + s->n_probe + s->n_upload;
    return (struct places){.loss = 0, .probe = 1, .cost = histories, .samples = histories + 1};
}

static void features_of(const struct federation_team *t, const struct sl_game *g, uint32_t row,
                        float *ret)
{
    struct sl_round_facts round;
    const struct sl_client_facts *rows;
    sl_federation_facts(g, &round, &rows);
    sl_fedmarl_features(&t->o.policy->spec, &round, &rows[row], 1, ret);
}

static bool is_on(const struct federation_team *t, enum sl_defence d)
{
    return (t->o.defences.on & SL_DEFENCE_BIT(d)) != 0;
}

static const struct sl_defence_client *state_of(const struct federation_team *t,
                                                const struct sl_game *g, uint32_t row)
{
    struct sl_round_facts round;
    const struct sl_client_facts *rows;
    sl_federation_facts(g, &round, &rows);
    return &t->clients[rows[row].client];
}

/* Euclidean length of the gradient of the lead over the inputs. */
static double steepness(const struct sl_qnet *net, const float *x)
{
    double x64[SL_FEDMARL_INPUTS_MAX], j[2 * SL_FEDMARL_INPUTS_MAX], sum = 0;
    const uint32_t n = net->shape.n_inputs;
    for (uint32_t i = 0; i < n; i++)
        x64[i] = x[i];
    sl_cmarl_jacobian(net, x64, NULL, j);
    for (uint32_t i = 0; i < n; i++)
        sum += (j[n + i] - j[i]) * (j[n + i] - j[i]);
    return sqrt(sum);
}

static void narrow(struct sl_craft_range *r, uint32_t i, float lo, float hi)
{
    r->lo[i] = r->lo[i] > lo ? r->lo[i] : lo;
    r->hi[i] = r->hi[i] < hi ? r->hi[i] : hi;
}

static void close_input(struct sl_craft_range *r, uint32_t i)
{
    r->lo[i] = r->hi[i] = 0;
}

static void range(const struct sl_team *team, const struct sl_game *g, uint32_t victim,
                  struct sl_craft_range *ret, double *ret_margin)
{
    const struct federation_team *t = (const struct federation_team *)team;
    const struct sl_defence_options *d = &t->o.defences;
    const struct places at = places_of(&t->o.policy->spec);
    float o[SL_FEDMARL_INPUTS_MAX];
    features_of(t, g, victim, o);
    *ret = (struct sl_craft_range){{0}};
    *ret_margin = 0;
    ret->hi[at.loss] = (float)SL_FEDMARL_CLAMP;
    ret->lo[at.probe] = o[at.probe]; /* later only */
    ret->hi[at.probe] = (float)SL_FEDMARL_CLAMP;
    ret->hi[at.cost] = 1;
    ret->hi[at.samples] = 1;
    if (is_on(t, SL_DEFENCE_OWN)) {
        close_input(ret, at.cost);
        close_input(ret, at.samples);
    }
    /* once it was caught every claim is checked; until then a bold one pays */
    const float slack = (float)(0.99 * d->claim_deviations * d->claim_floor);
    if (is_on(t, SL_DEFENCE_CLAIM) && state_of(t, g, victim)->caught > 0)
        narrow(ret, at.loss, o[at.loss] - slack, o[at.loss] + slack);
    for (uint32_t i = 0; is_on(t, SL_DEFENCE_CLAMP) && i < g->n_inputs; i++)
        if (ret->lo[i] < ret->hi[i])
            narrow(ret, i, t->o.policy->usual.lo[i], t->o.policy->usual.hi[i]);
    if (is_on(t, SL_DEFENCE_MARGIN))
        *ret_margin = 1.01 * t->o.policy->usual.gap;
    if (is_on(t, SL_DEFENCE_SMOOTHING)) {
        double sure = d->sigma * steepness(&t->o.policy->net, o);
        *ret_margin = sure > *ret_margin ? sure : *ret_margin;
    }
}

static uint32_t available(struct sl_team *team, const struct sl_game *g, uint32_t victim)
{
    struct federation_team *t = self(team);
    int bound = sl_defence_bound(&t->o.defences, state_of(t, g, victim));
    return bound < 0 ? 3 : 1u << bound;
}

static void reset(struct sl_team *team, struct sl_game *g)
{
    struct federation_team *t = self(team);
    t->state = (struct sl_defence_state){.n_off = 0};
    memset(t->clients, 0, t->n_clients * sizeof(t->clients[0]));
    t->alarms = (struct sl_federation_alarms){0};
}

/* What a client would have to report for features x; facts that x leaves alone stay to the bit. */
static void report(const struct federation_team *t, struct sl_game *g, uint32_t victim,
                   const float *x, struct sl_federation_terms *terms, struct sl_client_facts *f)
{
    const struct places at = places_of(&t->o.policy->spec);
    struct sl_round_facts round;
    const struct sl_client_facts *rows;
    float o[SL_FEDMARL_INPUTS_MAX];
    sl_federation_facts(g, &round, &rows);
    features_of(t, g, victim, o);
    if (x[at.loss] != o[at.loss])
        f->probe_loss = x[at.loss] * round.loss_scale;
    if (x[at.cost] != o[at.cost])
        f->upload_bytes = (uint64_t)rint(x[at.cost] * (double)round.full_bytes);
    if (x[at.samples] != o[at.samples])
        f->samples = (uint64_t)rint(sl_exp(x[at.samples] * sl_log((double)round.max_samples)));
    if (x[at.probe] > o[at.probe])
        terms->probe_delay_s = x[at.probe] * round.median_probe_s - f->probe_s[0];
}

static double distance(const float *a, const float *b, uint32_t n)
{
    double sum = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += fabs((double)a[i] - b[i]);
    return sum;
}

static struct sl_defence_input defence_input(const struct federation_team *t)
{
    return (struct sl_defence_input){.o = &t->o.defences,
                                     .policy = t->o.policy,
                                     .rails = &t->o.rails,
                                     .round = &t->round,
                                     .rows = t->rows,
                                     .checks = t->checks,
                                     .upload_bytes = t->round.full_bytes,
                                     .n = t->n};
}

/* Until just before its deadline, if it has one. */
static double stall_s(const struct federation_team *t, const struct sl_game *g, uint32_t victim,
                      double deadline_s)
{
    const double wanted_s = t->o.stall * sl_federation_latency_ref_s(g);
    if (deadline_s == 0)
        return wanted_s;
    const double left_s = 0.98 * deadline_s - sl_federation_natural_s(g, victim);
    return left_s < 0 ? 0 : left_s < wanted_s ? left_s : wanted_s;
}

/* rows and checks of the round; the truth of a claim is what the table has. */
static void prepare(struct federation_team *t, const struct sl_client_facts *truth, uint32_t victim,
                    const struct sl_client_facts *claim)
{
    for (uint32_t i = 0; i < t->n; i++) {
        t->rows[i] = truth[i];
        t->present[i] = &t->clients[truth[i].client];
        if (t->present[i]->samples == 0) /* enrolled before anybody lied */
            t->present[i]->samples = truth[i].samples;
        t->checks[i] = sl_defence_wants_check(&t->o.defences, &t->round, truth[i].client,
                                              t->present[i])
                           ? truth[i].probe_loss
                           : NAN;
    }
    t->rows[victim] = *claim;
}

static void decide(struct sl_team *team, struct sl_game *g, uint32_t victim, const float *shown,
                   bool weapon, uint8_t *ret, double *ret_l1)
{
    struct federation_team *t = self(team);
    struct sl_federation_terms terms = {SL_FEDERATION_TERMS_DEFAULTS};
    const struct sl_client_facts *truth;
    float o[SL_FEDMARL_INPUTS_MAX], x[SL_FEDMARL_INPUTS_MAX];
    features_of(t, g, victim, o);
    sl_federation_facts(g, &t->round, &truth);
    struct sl_client_facts claim = truth[victim];
    if (shown != NULL)
        report(t, g, victim, shown, &terms, &claim);
    if (weapon && t->o.goal == SL_GOAL_ADMISSION)
        terms.update_scale = (float)t->o.poison;
    sl_federation_terms(g, victim, &terms);
    claim.probe_s[0] = truth[victim].probe_s[0]; /* the coordinator's clock */
    sl_fedmarl_features(&t->o.policy->spec, &t->round, &claim, 1, x);
    *ret_l1 = distance(x, o, g->n_inputs);
    prepare(t, truth, victim, &claim);
    const struct sl_defence_input in = defence_input(t);
    sl_defence_decide(&in, &t->state, t->present, t->scratch, t->decisions, t->marks);
    for (uint32_t i = 0; i < t->n; i++) {
        struct sl_federation_terms own = {SL_FEDERATION_TERMS_DEFAULTS};
        own = i == victim ? terms : own;
        own.deadline_s = t->marks[i].deadline_s;
        if (i == victim && weapon && t->o.goal == SL_GOAL_COST)
            own.stall_s = stall_s(t, g, victim, own.deadline_s);
        sl_federation_terms(g, i, &own);
        ret[i] = t->decisions[i].accept;
    }
}

static void count_alarms(struct federation_team *t, uint32_t victim)
{
    for (uint32_t i = 0; i < t->n; i++) {
        const bool suspect = t->marks[i].suspect;
        if (i != victim) {
            t->alarms.others += suspect;
            t->alarms.others_out += t->decisions[i].why == SL_WHY_QUARANTINED;
            continue;
        }
        t->alarms.victim += suspect;
        if (suspect && t->alarms.first == 0)
            t->alarms.first = t->round.round + 1;
    }
}

/* What the coordinator learns from the round. */
static void observe(struct federation_team *t, const struct sl_game *g, uint32_t victim,
                    const uint8_t *actions, double reward)
{
    for (uint32_t i = 0; i < t->n; i++) {
        t->outcomes[i] = (struct sl_defence_outcome){.accepted = actions[i] != 0};
        t->outcomes[i].finish_s = sl_federation_finish_s(g, i, &t->outcomes[i].late);
        t->outcomes[i].late = t->outcomes[i].late && actions[i];
    }
    const struct sl_defence_input in = defence_input(t);
    count_alarms(t, victim);
    bool may = sl_defence_observe(&in, &t->state, t->present, t->outcomes, t->marks, reward);
    if (t->o.learn != NULL)
        t->o.learn(t->o.learn_ctx, t->scratch, actions, reward, may);
}

/* The reward without the luck of the cohort, where the game can tell. */
static double worth(struct sl_team *team, struct sl_game *g, uint32_t victim,
                    const uint8_t *actions, double reward)
{
    double own[SL_GAME_AGENTS_MAX];
    observe(self(team), g, victim, actions, reward);
    if (self(team)->o.goal == SL_GOAL_STARVE)
        return actions[victim] ? -1 : 0;
    double sum = g->ops->credit(g, own);
    for (uint32_t i = 0; i < g->n_agents; i++)
        sum += own[i];
    return -sum;
}

static const struct sl_team_ops ops = {.reset = reset,
                                       .available = available,
                                       .range = range,
                                       .decide = decide,
                                       .worth = worth};

const struct sl_federation_alarms *sl_federation_alarms(const struct sl_team *t)
{
    return &((const struct federation_team *)t)->alarms;
}

const float *sl_federation_team_inputs(const struct sl_team *t)
{
    return ((const struct federation_team *)t)->scratch;
}

const char *sl_cmarl_goal_name(enum sl_cmarl_goal goal)
{
    static const char *const names[SL_GOALS] = {"return", "cost", "starve", "admission"};
    return names[goal];
}

enum sl_code sl_federation_team_new(const struct sl_federation_team_options *o,
                                    const struct sl_policy_plan *plan, struct sl_team **ret,
                                    struct sl_err *err)
{
    const struct sl_fedmarl_spec *spec = &o->policy->spec;
    if (spec->n_probe != plan->features.n_probe || spec->n_upload != plan->features.n_upload ||
        spec->gate || !plan->learner.credit)
        return sl_err_set(err, SL_E_RANGE,
                          "policy of probe %u, upload %u, gate %d (the plan's: %u, %u, 0; with "
                          "learner.credit)",
                          spec->n_probe, spec->n_upload, spec->gate, plan->features.n_probe,
                          plan->features.n_upload);
    enum sl_code rc = sl_defence_check(&o->defences, o->policy, err);
    if (rc != SL_OK)
        return rc;
    struct federation_team *t = sl_calloc(1, sizeof(*t));
    if (t == NULL)
        return sl_err_set(err, SL_E_NOMEM, "team");
    t->team = (struct sl_team){.ops = &ops,
                               .net = &o->policy->net,
                               .has_weapon = o->goal == SL_GOAL_COST ||
                                             o->goal == SL_GOAL_ADMISSION};
    t->o = *o;
    t->n = plan->federation.cohort;
    t->rows = sl_calloc(t->n, sizeof(*t->rows));
    t->decisions = sl_calloc(t->n, sizeof(*t->decisions));
    t->scratch = sl_calloc(sl_fedmarl_scratch(o->policy, t->n), sizeof(float));
    t->n_clients = plan->federation.clients;
    t->clients = sl_calloc(t->n_clients, sizeof(*t->clients));
    t->present = sl_calloc(t->n, sizeof(struct sl_defence_client *));
    t->marks = sl_calloc(t->n, sizeof(*t->marks));
    t->outcomes = sl_calloc(t->n, sizeof(*t->outcomes));
    t->checks = sl_calloc(t->n, sizeof(double));
    if (t->rows == NULL || t->decisions == NULL || t->scratch == NULL || t->clients == NULL ||
        t->present == NULL || t->marks == NULL || t->outcomes == NULL || t->checks == NULL) {
        sl_federation_team_free(&t->team);
        return sl_err_set(err, SL_E_NOMEM, "team");
    }
    *ret = &t->team;
    return SL_OK;
}

void sl_federation_team_free(struct sl_team *team)
{
    struct federation_team *t = self(team);
    if (t == NULL)
        return;
    free(t->rows);
    free(t->decisions);
    free(t->scratch);
    free(t->clients);
    free(t->present);
    free(t->marks);
    free(t->outcomes);
    free(t->checks);
    free(t);
}
