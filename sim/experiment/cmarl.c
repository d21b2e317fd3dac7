/* SPDX-License-Identifier: Apache-2.0 */
/* cmarl.c - one dishonest client against learned selection (Lin et al. 2020): goals of the attacker against
 * defences, each met by an attacker of the same budget that was trained with that defence on. Updates
 * are cached: what selection loses is measured, not what a federation reaches. Attackers train on one
 * set of federations and are measured on another; the policy has seen neither. */
#include "sim/experiment/cmarl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/file.h"
#include "common/hash.h"
#include "sim/experiment/experiment.h"
#include "sim/policy/usual.h"

#define POLICY "plans/policies/fedmarl.safetensors" /* of the source tree, where the command runs */
#define PLAN_SEED 7000 /* apart from the seeds that policies are trained with */
#define BIT SL_DEFENCE_BIT
#define ALL ((1u << SL_DEFENCES) - 1)
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

const struct sl_cmarl_setting sl_cmarl_settings[] = {
    {"none", "no defence", 0},
    {"own", "D1 own clock, samples and cost", BIT(SL_DEFENCE_OWN)},
    {"claim", "D2 claims checked", BIT(SL_DEFENCE_CLAIM)},
    {"clamp", "D3 inputs clamped", BIT(SL_DEFENCE_CLAMP)},
    {"margin", "D4 fair draw in the margin", BIT(SL_DEFENCE_MARGIN)},
    {"cap", "D5 influence cap", BIT(SL_DEFENCE_CAP)},
    {"deadline", "D6 own deadline", BIT(SL_DEFENCE_DEADLINE)},
    {"detector", "D8 behaviour", BIT(SL_DEFENCE_DETECTOR)},
    {"smoothing", "D9 majority of noisy copies", BIT(SL_DEFENCE_SMOOTHING)},
    {"freeze", "D8 + D10 no learning under suspicion",
     BIT(SL_DEFENCE_DETECTOR) | BIT(SL_DEFENCE_FREEZE)},
    {"standard", "D1, D2, D3, D5, D6, D10",
     BIT(SL_DEFENCE_OWN) | BIT(SL_DEFENCE_CLAIM) | BIT(SL_DEFENCE_CLAMP) | BIT(SL_DEFENCE_CAP) |
         BIT(SL_DEFENCE_DEADLINE) | BIT(SL_DEFENCE_FREEZE)},
    {"all", "all of them", ALL},
};
const size_t sl_cmarl_n_settings = COUNT(sl_cmarl_settings);

/* --- cells ------------------------------------------------------------------------ */

static enum sl_code digest_of(const char *path, char ret[SL_DIGEST_HEX], struct sl_err *err)
{
    uint8_t *bytes, digest[SL_DIGEST_BYTES];
    size_t n;
    enum sl_code rc = sl_file_read(path, (size_t)64 << 20, &bytes, &n, err);
    if (rc != SL_OK)
        return sl_err_wrap(err, rc, "the policy under attack");
    sl_blake2b_256(bytes, n, digest);
    sl_hex(digest, sizeof(digest), ret);
    free(bytes);
    return SL_OK;
}

/* policy "": an untrained one, for the short form. */
static json_t *cell_of(const char *part, const char *setting, uint64_t seed, bool quick,
                       const char *path, const char *digest)
{
    return json_pack("{s:s, s:s, s:I, s:{s:s, s:s}, s:{s:i, s:i}, s:{s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:i}}",
                     "part", part, "setting", setting, "seed", (json_int_t)seed, "policy", "path",
                     quick ? "" : path, "digest", digest, "budget", "training",
                     quick ? 16 : 120, "episodes", quick ? 4 : 30, "federations", "dataset",
                     quick ? "synthetic" : "fashion-mnist", "samples", quick ? 400 : 10000,
                     "holdout", quick ? 100 : 1000, "pooling", 4, "clients",
                     quick ? 12 : 50, "cohort", quick ? 4 : 10, "rounds", quick ? 8 : 30,
                     "buckets", quick ? 3 : 4);
}

static enum sl_code list(const struct sl_experiment_options *o, json_t *cells, struct sl_err *err)
{
    const char *path = o->policy != NULL ? o->policy : POLICY;
    char digest[SL_DIGEST_HEX] = "untrained";
    int failed = 0;
    if (!o->quick) {
        enum sl_code rc = digest_of(path, digest, err);
        if (rc != SL_OK)
            return rc;
    }
    for (size_t k = 0; k < o->n_seeds; k++) {
        const uint64_t seed = o->seeds[k];
        failed |= json_array_append_new(
            cells, cell_of(SL_CMARL_RULES, sl_cmarl_goal_name(SL_GOAL_COST), seed, o->quick, path, digest));
        failed |= json_array_append_new(
            cells, cell_of(SL_CMARL_RULES, sl_cmarl_goal_name(SL_GOAL_RETURN), seed, o->quick, path, digest));
        for (size_t i = 0; i < sl_cmarl_n_settings; i++) {
            const char *name = sl_cmarl_settings[i].name;
            const bool frozen = strcmp(name, "freeze") == 0;
            const bool screens = i > 0 && sl_cmarl_settings[i].on < BIT(SL_DEFENCE_CAP);
            for (int goal = SL_GOAL_COST; goal < SL_GOALS && !frozen; goal++)
                failed |= json_array_append_new(
                    cells, cell_of(sl_cmarl_goal_name((enum sl_cmarl_goal)goal), name, seed,
                                   o->quick, path, digest));
            if (!screens)
                failed |= json_array_append_new(
                    cells, cell_of(SL_CMARL_LEARNER, name, seed, o->quick, path, digest));
        }
    }
    return failed ? sl_err_set(err, SL_E_NOMEM, "cells of the experiment") : SL_OK;
}

/* --- the lab ---------------------------------------------------------------------- */

static enum sl_code read_plan(const json_t *cell, struct sl_cmarl_lab *lab, struct sl_err *err)
{
    struct sl_policy_plan *p = &lab->plan;
    const char *dataset;
    json_int_t seed;
    sl_policy_plan_default(p);
    if (json_unpack((json_t *)cell, "{s:I, s:{s:i, s:i}, s:{s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:i}}",
                    "seed", &seed, "budget", "training", &lab->training, "episodes",
                    &lab->episodes, "federations", "dataset", &dataset, "samples", &p->data.samples,
                    "holdout", &p->data.holdout, "pooling", &p->data.pooling, "clients",
                    &p->federation.clients, "cohort", &p->federation.cohort, "rounds",
                    &p->federation.rounds, "buckets", &p->federation.buckets) != 0)
        return sl_err_set(err, SL_E_INPUT, "cell of cmarl without its settings");
    snprintf(p->data.dataset, sizeof(p->data.dataset), "%s", dataset);
    lab->seed = (uint64_t)seed;
    p->seed = PLAN_SEED + lab->seed;
    p->local.hidden = 16;
    p->federation.pool = p->federation.held_out = 1;
    p->federation.reference_cohort = p->federation.cohort;
    p->federation.reference_rounds = 4 * p->federation.buckets;
    p->reward.w2 = 0.1;
    p->reward.w3 = 0.05;
    p->window = 10; /* a return is of the last ten rounds, not of the last alone */
    p->learner.gamma = 0.9;
    sl_policy_plan_complete(p);
    return SL_OK;
}

static enum sl_code read_policy(const json_t *cell, struct sl_cmarl_lab *lab, struct sl_err *err)
{
    char digest[SL_DIGEST_HEX];
    const char *path, *wanted;
    if (json_unpack((json_t *)cell, "{s:{s:s, s:s}}", "policy", "path", &path, "digest", &wanted) !=
        0)
        return sl_err_set(err, SL_E_INPUT, "cell of cmarl without its policy");
    if (path[0] == '\0') {
        lab->policy.spec = lab->plan.features;
        return sl_qnet_new(&lab->plan.learner.shape, lab->seed, &lab->policy.net, err);
    }
    enum sl_code rc = digest_of(path, digest, err);
    if (rc == SL_OK && strcmp(digest, wanted) != 0)
        rc = sl_err_set(err, SL_E_INPUT, "%s: %.12s..., the cell is of %.12s...", path, digest,
                        wanted);
    return rc == SL_OK ? sl_fedmarl_policy_load(path, &lab->policy, err) : rc;
}

static void lab_close(struct sl_cmarl_lab *lab)
{
    sl_fedmarl_policy_deinit(&lab->policy);
    sl_update_table_free(lab->table);
    sl_workers_free(lab->workers);
}

/* What is usual is measured on the pool, whatever the policy's file says: all policies alike. */
static enum sl_code lab_open(const json_t *cell, struct sl_cmarl_lab *ret, struct sl_err *err)
{
    struct sl_game *game = NULL;
    *ret = (struct sl_cmarl_lab){.workers = NULL};
    enum sl_code rc = read_plan(cell, ret, err);
    if (rc == SL_OK)
        rc = read_policy(cell, ret, err);
    if (rc == SL_OK)
        rc = sl_workers_new(1, &ret->workers, err);
    if (rc == SL_OK)
        rc = sl_update_table_new(&ret->plan, ret->workers, NULL, NULL, &ret->table, err);
    if (rc == SL_OK)
        rc = sl_federation_game_new(&ret->plan, ret->table, SL_FEDERATION_POOL, &game, err);
    if (rc == SL_OK)
        rc = sl_policy_usual(game, &ret->policy.net, ret->plan.seed, ret->episodes,
                             &ret->policy.usual, err);
    sl_game_free(game);
    if (rc != SL_OK)
        lab_close(ret);
    return rc;
}

enum sl_code sl_cmarl_side_new(const struct sl_cmarl_lab *lab, const struct sl_cmarl_side_options *o,
                               struct sl_cmarl_side *ret, struct sl_err *err)
{
    struct sl_cmarl_side s = {.game = NULL};
    struct sl_federation_team_options t = {.policy = o->policy != NULL ? o->policy : &lab->policy,
                                           SL_FEDERATION_TEAM_DEFAULTS,
                                           .goal = o->goal,
                                           .learn = o->learn,
                                           .learn_ctx = o->learn_ctx};
    const struct sl_siege_options siege = {
        .control = o->control,
        .craft = {.method = o->method, .step = .04, .step_most = .64, .iterations = 8},
        .lambda = o->lambda};
    t.defences.on = o->defences;
    enum sl_code rc = sl_federation_game_new(&lab->plan, lab->table, o->part, &s.game, err);
    if (rc == SL_OK) {
        sl_federation_resident(s.game, true);
        rc = sl_federation_team_new(&t, &lab->plan, &s.team, err);
    }
    if (rc == SL_OK)
        rc = sl_siege_new(&siege, s.game, s.team, &s.siege, err);
    if (rc != SL_OK) {
        sl_cmarl_side_free(&s);
        return rc;
    }
    *ret = s;
    return SL_OK;
}

void sl_cmarl_side_free(struct sl_cmarl_side *s)
{
    sl_game_free(s->siege);
    sl_federation_team_free(s->team);
    sl_game_free(s->game);
    *s = (struct sl_cmarl_side){.game = NULL};
}

struct sl_cmarl_score sl_cmarl_measure(const struct sl_cmarl_lab *lab, struct sl_cmarl_side *side,
                                       const struct sl_cmarl_rule *rule)
{
    struct sl_cmarl_score s = {0};
    double steps = 0, wanted = 0, hits = 0, lies = 0, l1 = 0, delay = 0;
    for (uint32_t e = 0; e < lab->episodes; e++) {
        struct sl_cmarl_rule own = *rule;
        struct sl_federation_score f;
        own.seed = e;
        const struct sl_siege_counts c =
            sl_siege_play(side->siege, &own, sl_learn_test_seed(lab->plan.seed, e));
        const struct sl_federation_alarms *a = sl_federation_alarms(side->team);
        sl_federation_score(side->game, &f);
        steps += c.steps;
        wanted += c.wanted;
        hits += c.hits;
        lies += c.lies;
        l1 += c.l1;
        s.team += c.team / lab->episodes;
        s.share += c.accepted;
        s.mispredicted += c.mispredicted;
        s.latency += f.latency / lab->episodes;
        s.accuracy += f.late_accuracy / lab->episodes;
        s.detected += a->first > 0;
        delay += a->first > 0 ? a->first - 1 : 0;
        s.false_alarms += a->others;
    }
    s.share /= steps;
    s.mispredicted /= steps;
    s.wanted = wanted / steps;
    s.hits = wanted > 0 ? hits / wanted : 0;
    s.l1 = lies > 0 ? l1 / lies : 0;
    s.delay = s.detected > 0 ? delay / s.detected : 0;
    s.detected /= lab->episodes;
    s.false_alarms /= steps * (side->game->n_agents - 1);
    return s;
}

json_t *sl_cmarl_score_json(const struct sl_cmarl_score *s)
{
    return json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "team", s->team,
                     "share", s->share, "wanted", s->wanted, "hits", s->hits, "mispredicted",
                     s->mispredicted, "l1", s->l1, "latency", s->latency, "accuracy", s->accuracy,
                     "detected", s->detected, "delay", s->delay, "false_alarms", s->false_alarms);
}

enum sl_code sl_cmarl_attacker(const struct sl_cmarl_lab *lab, const struct sl_cmarl_side_options *o,
                               struct sl_qnet *ret, struct sl_err *err)
{
    struct sl_cmarl_training t = {SL_CMARL_TRAINING_DEFAULTS};
    struct sl_cmarl_side side;
    t.seed = lab->plan.seed;
    t.episodes = lab->training;
    t.validation_episodes = lab->episodes < t.validation_episodes ? lab->episodes : t.validation_episodes;
    enum sl_code rc = sl_cmarl_side_new(lab, o, &side, err);
    if (rc == SL_OK) {
        rc = sl_cmarl_train(&t, lab->workers, &side.siege, ret, err);
        sl_cmarl_side_free(&side);
    }
    return rc;
}

/* --- cells of goals and defences -------------------------------------------------- */

/* A network that always wants the last action of a siege, or with `first` the first. */
static enum sl_code constant(const struct sl_game *siege, bool first, struct sl_qnet *ret,
                             struct sl_err *err)
{
    const struct sl_qnet_shape shape = {siege->n_inputs, 1, 1, siege->n_actions};
    enum sl_code rc = sl_qnet_new(&shape, 0, ret, err);
    if (rc != SL_OK)
        return rc;
    memset(ret->values, 0, ret->n_values * sizeof(float));
    ret->values[ret->n_values - (first ? siege->n_actions : 1)] = 1;
    return SL_OK;
}

static enum sl_code measure_goal(const struct sl_cmarl_lab *lab, struct sl_cmarl_side_options *o,
                                 json_t *result, struct sl_err *err)
{
    const struct sl_cmarl_rule truth = {SL_CMARL_TRUTH};
    struct sl_qnet learned = {0}, fixed = {0};
    struct sl_cmarl_side side = {.game = NULL};
    o->part = SL_FEDERATION_POOL;
    enum sl_code rc = sl_cmarl_attacker(lab, o, &learned, err);
    o->part = SL_FEDERATION_HELD_OUT;
    if (rc == SL_OK)
        rc = sl_cmarl_side_new(lab, o, &side, err);
    if (rc == SL_OK)
        rc = constant(side.siege, o->goal == SL_GOAL_STARVE, &fixed, err);
    if (rc == SL_OK) {
        const struct sl_cmarl_rule by_learned = {SL_CMARL_LEARNED, &learned, 0};
        const struct sl_cmarl_rule by_fixed = {SL_CMARL_LEARNED, &fixed, 0};
        struct sl_cmarl_score clean = sl_cmarl_measure(lab, &side, &truth);
        struct sl_cmarl_score a = sl_cmarl_measure(lab, &side, &by_learned);
        struct sl_cmarl_score b = sl_cmarl_measure(lab, &side, &by_fixed);
        json_object_set_new(result, "clean", sl_cmarl_score_json(&clean));
        json_object_set_new(result, "learned", sl_cmarl_score_json(&a));
        json_object_set_new(result, "fixed", sl_cmarl_score_json(&b));
        bool fixed_is_worse = o->goal == SL_GOAL_STARVE ? b.share < a.share : b.team < a.team;
        json_object_set(result, "worst", json_object_get(result, fixed_is_worse ? "fixed" : "learned"));
    }
    sl_qnet_deinit(&learned);
    sl_qnet_deinit(&fixed);
    sl_cmarl_side_free(&side);
    return rc;
}

/* --- cells of rules --------------------------------------------------------------- */

static enum sl_code measure_rule(const struct sl_cmarl_lab *lab, enum sl_cmarl_goal goal,
                                 const struct sl_cmarl_rule *rule, const char *name,
                                 json_t *result, struct sl_err *err)
{
    static const struct {
        const char *key;
        enum sl_siege_control control;
        enum sl_craft_method method;
    } ways[] = {{"direct", SL_SIEGE_DIRECT, SL_CRAFT_DJSMA},
                {"fgsm", SL_SIEGE_TWO_STEP, SL_CRAFT_FGSM},
                {"jsma", SL_SIEGE_TWO_STEP, SL_CRAFT_JSMA},
                {"djsma", SL_SIEGE_TWO_STEP, SL_CRAFT_DJSMA},
                {"any", SL_SIEGE_TWO_STEP, SL_CRAFT_ANY}};
    json_t *by_way = json_object();
    for (size_t i = 0; i < COUNT(ways); i++) {
        struct sl_cmarl_side side;
        const struct sl_cmarl_side_options o = {.part = SL_FEDERATION_HELD_OUT,
                                                .goal = goal,
                                                .control = ways[i].control,
                                                .method = ways[i].method};
        enum sl_code rc = sl_cmarl_side_new(lab, &o, &side, err);
        if (rc != SL_OK) {
            json_decref(by_way);
            return rc;
        }
        struct sl_cmarl_score s = sl_cmarl_measure(lab, &side, rule);
        json_object_set_new(by_way, ways[i].key, sl_cmarl_score_json(&s));
        sl_cmarl_side_free(&side);
    }
    json_object_set_new(result, name, by_way);
    return SL_OK;
}

static enum sl_code measure_rules(const struct sl_cmarl_lab *lab, enum sl_cmarl_goal goal,
                                  json_t *result, struct sl_err *err)
{
    static const struct {
        const char *name;
        enum sl_cmarl_kind kind;
        double lambda;
    } rules[] = {{"truth", SL_CMARL_TRUTH, 0},
                 {"random", SL_CMARL_RANDOM, 0},
                 {"local-worst", SL_CMARL_LOCAL_WORST, 0},
                 {"optimised", SL_CMARL_LEARNED, 0},
                 {"regularised", SL_CMARL_LEARNED, 1},
                 {"regularised-more", SL_CMARL_LEARNED, 10}};
    enum sl_code rc = SL_OK;
    for (size_t i = 0; rc == SL_OK && i < COUNT(rules); i++) {
        struct sl_qnet net = {0};
        const struct sl_cmarl_side_options o = {.part = SL_FEDERATION_POOL,
                                                .goal = goal,
                                                .control = SL_SIEGE_DIRECT,
                                                .lambda = rules[i].lambda};
        if (rules[i].kind == SL_CMARL_LEARNED)
            rc = sl_cmarl_attacker(lab, &o, &net, err);
        const struct sl_cmarl_rule rule = {rules[i].kind, &net, 0};
        if (rc == SL_OK)
            rc = measure_rule(lab, goal, &rule, rules[i].name, result, err);
        sl_qnet_deinit(&net);
    }
    return rc;
}

/* --- running ---------------------------------------------------------------------- */

static enum sl_cmarl_goal goal_of(const char *name)
{
    for (int g = 0; g < SL_GOALS; g++)
        if (strcmp(name, sl_cmarl_goal_name((enum sl_cmarl_goal)g)) == 0)
            return (enum sl_cmarl_goal)g;
    return SL_GOALS;
}

static uint32_t defences_of(const char *setting)
{
    for (size_t i = 0; i < sl_cmarl_n_settings; i++)
        if (strcmp(setting, sl_cmarl_settings[i].name) == 0)
            return sl_cmarl_settings[i].on;
    return 0;
}

static enum sl_code run(const json_t *cell, json_t **ret, struct sl_err *err)
{
    const char *part = json_string_value(json_object_get(cell, "part"));
    const char *setting = json_string_value(json_object_get(cell, "setting"));
    struct sl_cmarl_lab lab;
    enum sl_code rc = lab_open(cell, &lab, err);
    if (rc != SL_OK)
        return rc;
    json_t *result = json_object();
    struct sl_cmarl_side_options o = {.goal = goal_of(part),
                                      .control = SL_SIEGE_TWO_STEP,
                                      .method = SL_CRAFT_ANY,
                                      .defences = defences_of(setting)};
    if (strcmp(part, SL_CMARL_RULES) == 0)
        rc = measure_rules(&lab, goal_of(setting), result, err);
    else if (strcmp(part, SL_CMARL_LEARNER) == 0)
        rc = sl_cmarl_run_learner(&lab, o.defences, result, err);
    else
        rc = measure_goal(&lab, &o, result, err);
    lab_close(&lab);
    if (rc == SL_OK)
        *ret = result;
    else
        json_decref(result);
    return rc;
}

const struct sl_experiment sl_experiment_cmarl = {
    .name = "cmarl",
    .help = "one dishonest client against learned selection: goals against defences",
    .default_seeds = 2,
    .list = list,
    .run = run,
    .report = sl_cmarl_report,
};
