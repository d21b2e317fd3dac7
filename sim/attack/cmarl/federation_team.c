/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/attack/cmarl/federation_team.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/fdmath.h"
#include "common/mem.h"

struct federation_team {
    struct sl_team team;
    struct sl_federation_team_options o;
    uint32_t n; /* rows */
    struct sl_client_facts *rows;
    struct sl_fedmarl_decision *decisions;
    float *scratch;
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

static void range(const struct sl_team *team, const struct sl_game *g, uint32_t victim,
                  struct sl_craft_range *ret, double *ret_margin)
{
    const struct federation_team *t = (const struct federation_team *)team;
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

static void decide(struct sl_team *team, struct sl_game *g, uint32_t victim, const float *shown,
                   bool weapon, uint8_t *ret, double *ret_l1)
{
    struct federation_team *t = self(team);
    struct sl_federation_terms terms = {SL_FEDERATION_TERMS_DEFAULTS};
    struct sl_round_facts round;
    const struct sl_client_facts *rows;
    float o[SL_FEDMARL_INPUTS_MAX];
    features_of(t, g, victim, o);
    sl_federation_facts(g, &round, &rows);
    struct sl_client_facts claim = rows[victim];
    if (shown != NULL)
        report(t, g, victim, shown, &terms, &claim);
    if (weapon && t->o.goal == SL_GOAL_COST)
        terms.stall_s = t->o.stall * sl_federation_latency_ref_s(g);
    if (weapon && t->o.goal == SL_GOAL_ADMISSION)
        terms.update_scale = (float)t->o.poison;
    sl_federation_terms(g, victim, &terms);
    claim.probe_s[0] = rows[victim].probe_s[0]; /* the coordinator's clock */
    memcpy(t->rows, rows, t->n * sizeof(t->rows[0]));
    t->rows[victim] = claim;
    sl_fedmarl_decide(t->o.policy, &t->o.rails, &round, t->rows, t->n, t->scratch, t->decisions);
    *ret_l1 = distance(t->scratch + (size_t)victim * g->n_inputs, o, g->n_inputs);
    for (uint32_t i = 0; i < t->n; i++)
        ret[i] = t->decisions[i].accept;
}

/* The reward without the luck of the cohort, where the game can tell. */
static double worth(struct sl_team *team, struct sl_game *g, uint32_t victim,
                    const uint8_t *actions, double reward)
{
    double own[SL_GAME_AGENTS_MAX];
    if (self(team)->o.goal == SL_GOAL_STARVE)
        return actions[victim] ? -1 : 0;
    double sum = g->ops->credit(g, own);
    for (uint32_t i = 0; i < g->n_agents; i++)
        sum += own[i];
    return -sum;
}

static const struct sl_team_ops ops = {.range = range, .decide = decide, .worth = worth};

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
    if (t->rows == NULL || t->decisions == NULL || t->scratch == NULL) {
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
    free(t);
}
