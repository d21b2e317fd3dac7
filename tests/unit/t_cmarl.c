/* SPDX-License-Identifier: Apache-2.0 */
/* An adversary of one agent: crafting, rules and training: A1 to A10 of the method, on a game whose worst
 * case is enumerable and on a small federation. */
#include "sim/attack/cmarl/train.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "accel/accel.h"
#include "sim/attack/cmarl/harden.h"
#include "sim/attack/cmarl/haunted.h"
#include "sim/attack/cmarl/jacobian.h"
#include "tests/unit/stock_game.h"

#define EPISODES 40

static struct sl_rng rng_of(uint64_t seed)
{
    struct sl_rng r;
    sl_rng_init(&r, &(struct sl_rng_id){.seed = seed, .purpose = SL_RNG_TEST});
    return r;
}

/* A victim like those of selection: 11 inputs, 2 actions, with weights of some size. */
static struct sl_qnet victim_net(uint64_t seed, uint32_t layers, uint32_t actions)
{
    struct sl_qnet q;
    const struct sl_qnet_shape shape = {11, 32, layers, actions};
    assert_int_equal(sl_qnet_new(&shape, seed, &q, NULL), SL_OK);
    return q;
}

static void random_inputs(uint64_t seed, float x[11])
{
    struct sl_rng r = rng_of(seed);
    for (int i = 0; i < 11; i++)
        x[i] = (float)(2 * sl_rng_f64(&r));
}

/* Loss, and the like, from 0 up; one input upwards only; the rest is not the attacker's. */
static struct sl_craft_range some_inputs(const float *x)
{
    struct sl_craft_range r = {{0}};
    static const uint32_t mine[] = {0, 7, 8};
    for (size_t i = 0; i < 3; i++)
        r.hi[mine[i]] = 3;
    r.lo[1] = x[1];
    r.hi[1] = 3;
    return r;
}

/* --- crafting --------------------------------------------------------------------------------- */

static void slopes_equal_central_differences(void **state)
{
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct sl_qnet q = victim_net(seed, 1 + seed % 2, 3);
        float x32[11], q32[3];
        double x[11], j[33], own[3];
        random_inputs(seed, x32);
        for (int i = 0; i < 11; i++)
            x[i] = x32[i];
        sl_cmarl_jacobian(&q, x, own, j);
        sl_qnet_forward(&q, x32, 1, q32);
        for (int a = 0; a < 3; a++)
            assert_true(fabs(own[a] - q32[a]) < 1e-5);
        for (int i = 0; i < 11; i++) {
            double up[3], down[3], at = x[i];
            x[i] = at + 1e-7;
            sl_cmarl_jacobian(&q, x, up, NULL);
            x[i] = at - 1e-7;
            sl_cmarl_jacobian(&q, x, down, NULL);
            x[i] = at;
            for (int a = 0; a < 3; a++) {
                double slope = (up[a] - down[a]) / 2e-7;
                assert_true(fabs(j[a * 11 + i] - slope) <= 1e-3 * fabs(slope) + 1e-6);
            }
        }
        sl_qnet_deinit(&q);
    }
}

static void what_counts_as_a_success_takes_the_target_and_is_legal(void **state)
{
    uint32_t hits[4] = {0}, tried = 0;
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct sl_qnet q = victim_net(seed % 8, 1, 2);
        float x[11], lie[11], values[2];
        random_inputs(1000 + seed, x);
        sl_qnet_forward(&q, x, 1, values);
        const struct sl_craft_range range = some_inputs(x);
        const uint32_t target = 1 - sl_cmarl_natural(values, 2);
        tried++;
        for (int m = SL_CRAFT_FGSM; m <= SL_CRAFT_ANY; m++) {
            const struct sl_craft_options o = {.method = (enum sl_craft_method)m,
                                               .step = .02,
                                               .step_most = .32,
                                               .iterations = 32,
                                               .margin = seed % 3 == 0 ? 0.01 : 0};
            struct sl_craft_result r;
            double l1 = 0, q64[2], x64[11];
            sl_craft(&q, &o, &range, x, target, lie, &r);
            for (int i = 0; i < 11; i++) {
                l1 += fabs((double)lie[i] - x[i]);
                x64[i] = lie[i];
                if (range.lo[i] >= range.hi[i])
                    assert_true(lie[i] == x[i]);
                else
                    assert_true(lie[i] == x[i] ||
                                (lie[i] >= range.lo[i] && lie[i] <= range.hi[i]));
            }
            assert_true(lie[1] >= x[1]);
            assert_true(fabs(l1 - r.l1) < 1e-9);
            if (!r.hit)
                continue;
            hits[m]++;
            sl_cmarl_jacobian(&q, x64, q64, NULL);
            assert_true(q64[target] - q64[1 - target] > o.margin - 1e-5);
        }
        sl_qnet_deinit(&q);
    }
    assert_true(hits[SL_CRAFT_DJSMA] > hits[SL_CRAFT_JSMA]);
    assert_true(hits[SL_CRAFT_ANY] >= hits[SL_CRAFT_DJSMA]);
    assert_true(hits[SL_CRAFT_ANY] > tried / 2);
}

static void a_dynamic_step_is_nearer_to_the_truth_than_a_large_one(void **state)
{
    const struct sl_craft_options fixed = {
        .method = SL_CRAFT_JSMA, .step = .32, .iterations = 32};
    const struct sl_craft_options dynamic = {SL_CRAFT_DEFAULTS};
    double l1_fixed = 0, l1_dynamic = 0;
    uint32_t both = 0;
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct sl_qnet q = victim_net(seed % 8, 1, 2);
        float x[11], lie[11], values[2];
        struct sl_craft_result a, b;
        random_inputs(2000 + seed, x);
        sl_qnet_forward(&q, x, 1, values);
        const struct sl_craft_range range = some_inputs(x);
        const uint32_t target = 1 - sl_cmarl_natural(values, 2);
        sl_craft(&q, &fixed, &range, x, target, lie, &a);
        sl_craft(&q, &dynamic, &range, x, target, lie, &b);
        if (a.hit && b.hit) {
            both++;
            l1_fixed += a.l1;
            l1_dynamic += b.l1;
        }
        sl_qnet_deinit(&q);
    }
    assert_true(both > 20);
    assert_true(l1_dynamic < l1_fixed);
}

static void what_is_reached_already_and_what_nothing_may_change_stay_the_truth(void **state)
{
    struct sl_qnet q = victim_net(1, 1, 2);
    const struct sl_craft_options o = {SL_CRAFT_DEFAULTS};
    const struct sl_craft_range none = {{0}};
    float x[11], lie[11], values[2];
    struct sl_craft_result r;
    random_inputs(1, x);
    sl_qnet_forward(&q, x, 1, values);
    const uint32_t natural = sl_cmarl_natural(values, 2);
    const struct sl_craft_range range = some_inputs(x);
    sl_craft(&q, &o, &range, x, natural, lie, &r);
    assert_true(r.hit && r.iterations == 0 && r.l1 == 0);
    assert_memory_equal(lie, x, sizeof(x));
    sl_craft(&q, &o, &none, x, 1 - natural, lie, &r);
    assert_true(!r.hit && r.lead < 0 && r.l1 == 0);
    assert_memory_equal(lie, x, sizeof(x));
    sl_qnet_deinit(&q);
}

/* --- rules and training on the enumerable game ------------------------------------------------ */

struct stock_rig {
    struct sl_qnet net;
    struct sl_greedy_team team;
    struct sl_game *game, *direct, *two_step;
};

static struct sl_game *siege_of(struct stock_rig *r, enum sl_siege_control control, double lambda,
                                enum sl_craft_method method)
{
    struct sl_game *siege;
    const struct sl_siege_options o = {
        .control = control,
        .craft = {.method = method, .step = .02, .step_most = .32, .iterations = 64},
        .lambda = lambda};
    assert_int_equal(sl_siege_new(&o, r->game, &r->team.team, &siege, NULL), SL_OK);
    return siege;
}

static void stock_open(struct stock_rig *r)
{
    const struct sl_craft_range range = {.hi = {1, 1}}; /* gain and load */
    r->net = stock_net();
    r->game = stock_game_new();
    sl_greedy_team_init(&r->team, &r->net, &range);
    r->direct = siege_of(r, SL_SIEGE_DIRECT, 0, SL_CRAFT_DJSMA);
    r->two_step = siege_of(r, SL_SIEGE_TWO_STEP, 0, SL_CRAFT_DJSMA);
}

static void stock_close(struct stock_rig *r)
{
    sl_game_free(r->direct);
    sl_game_free(r->two_step);
    sl_game_free(r->game);
    sl_qnet_deinit(&r->net);
}

static struct sl_qnet trained(struct sl_game *siege, uint64_t seed)
{
    struct sl_cmarl_training t = {SL_CMARL_TRAINING_DEFAULTS};
    struct sl_workers *workers;
    struct sl_qnet net;
    struct sl_err err = {.msg = ""};
    t.seed = seed;
    t.episodes = 600;
    t.batch_episodes = 10;
    t.validate_every = 10;
    t.hidden = 32;
    t.gamma = 1;
    t.lr = 2e-3;
    t.updates_per_step = 1;
    assert_int_equal(sl_workers_new(1, &workers, NULL), SL_OK);
    if (sl_cmarl_train(&t, workers, &siege, &net, &err) != SL_OK)
        fail_msg("%s", err.msg);
    sl_workers_free(workers);
    return net;
}

static struct sl_siege_counts mean_of(struct sl_game *siege, const struct sl_cmarl_rule *rule)
{
    struct sl_siege_counts sum = {0};
    for (uint32_t i = 0; i < EPISODES; i++) {
        struct sl_cmarl_rule own = *rule;
        own.seed = i;
        struct sl_siege_counts c = sl_siege_play(siege, &own, sl_learn_test_seed(5, i));
        sum.steps += c.steps;
        sum.wanted += c.wanted;
        sum.hits += c.hits;
        sum.mispredicted += c.mispredicted;
        sum.lies += c.lies;
        sum.l1 += c.l1;
        sum.team += c.team / EPISODES;
    }
    return sum;
}

/* The team's least return over all sequences of the victim's actions. */
static double worst_case(struct stock_rig *r, uint64_t seed)
{
    double worst = INFINITY;
    for (uint32_t sequence = 0; sequence < 1u << STOCK_STEPS; sequence++) {
        bool done = false;
        r->direct->ops->reset(r->direct, seed);
        for (uint32_t t = 0; !done; t++) {
            uint8_t action = sequence >> t & 1;
            r->direct->ops->step(r->direct, &action, &done);
        }
        double team = sl_siege_counts(r->direct)->team;
        worst = team < worst ? team : worst;
    }
    return worst;
}

static void the_learned_rule_comes_near_the_enumerated_worst_case(void **state)
{
    struct stock_rig r;
    stock_open(&r);
    double worst = 0;
    for (uint32_t i = 0; i < EPISODES; i++)
        worst += worst_case(&r, sl_learn_test_seed(5, i)) / EPISODES;
    struct sl_qnet net = trained(r.direct, 3);
    const struct sl_cmarl_rule truth = {SL_CMARL_TRUTH}, learned = {SL_CMARL_LEARNED, &net};
    double clean = mean_of(r.direct, &truth).team, attacked = mean_of(r.direct, &learned).team;
    assert_true(attacked >= worst - 1e-9);
    assert_true(attacked - worst <= 0.05 * (clean - worst));
    sl_qnet_deinit(&net);
    stock_close(&r);
}

static void rules_stand_in_order_and_misprediction_is_not_damage(void **state)
{
    struct stock_rig r;
    stock_open(&r);
    struct sl_qnet net = trained(r.direct, 3);
    const struct sl_cmarl_rule truth = {SL_CMARL_TRUTH}, random = {SL_CMARL_RANDOM},
                               local = {SL_CMARL_LOCAL_WORST}, learned = {SL_CMARL_LEARNED, &net};
    const struct sl_siege_counts clean = mean_of(r.direct, &truth);
    const struct sl_siege_counts by_local = mean_of(r.direct, &local);
    const struct sl_siege_counts by_learned = mean_of(r.direct, &learned);
    const struct sl_siege_counts lied = mean_of(r.two_step, &learned);
    assert_true(by_learned.team <= by_local.team + 1e-9);
    assert_true(by_learned.team <= mean_of(r.direct, &random).team + 1e-9);
    assert_true(by_local.mispredicted > by_learned.mispredicted);
    assert_true(clean.team - by_learned.team >= 2 * (clean.team - by_local.team));
    assert_true(by_learned.team <= lied.team + 1e-9); /* direct control is the bound */
    assert_true(clean.team - lied.team >= 0.85 * (clean.team - by_learned.team));
    assert_true(lied.hits > 0 && lied.lies >= lied.hits && lied.l1 > 0);
    sl_qnet_deinit(&net);
    stock_close(&r);
}

static void without_its_weight_the_regulariser_is_not_there(void **state)
{
    struct stock_rig r;
    stock_open(&r);
    struct sl_game *zero = siege_of(&r, SL_SIEGE_DIRECT, 0, SL_CRAFT_DJSMA);
    struct sl_game *some = siege_of(&r, SL_SIEGE_DIRECT, .5, SL_CRAFT_DJSMA);
    struct sl_qnet a = trained(r.direct, 4), b = trained(zero, 4), c = trained(some, 4);
    assert_memory_equal(a.values, b.values, a.n_values * sizeof(float));
    assert_memory_not_equal(a.values, c.values, a.n_values * sizeof(float));
    sl_qnet_deinit(&a);
    sl_qnet_deinit(&b);
    sl_qnet_deinit(&c);
    sl_game_free(zero);
    sl_game_free(some);
    stock_close(&r);
}

static void an_adversary_that_wants_what_the_victim_does_changes_nothing(void **state)
{
    struct stock_rig r;
    stock_open(&r);
    const struct sl_cmarl_rule truth = {SL_CMARL_TRUTH};
    for (uint32_t i = 0; i < 10; i++) {
        float x[STOCK_AGENTS * STOCK_INPUTS], q[2 * STOCK_AGENTS];
        uint8_t actions[STOCK_AGENTS];
        double sum = 0;
        bool done = false;
        struct sl_siege_counts c = sl_siege_play(r.two_step, &truth, i);
        assert_true(c.wanted == 0 && c.mispredicted == 0 && c.lies == 0 && c.l1 == 0);
        stock_reset(r.game, i);
        while (!done) {
            stock_observe(r.game, x);
            sl_qnet_forward(&r.net, x, STOCK_AGENTS, q);
            for (int k = 0; k < STOCK_AGENTS; k++)
                actions[k] = (uint8_t)sl_cmarl_natural(q + 2 * k, 2);
            sum += stock_step(r.game, actions, &done);
        }
        assert_true(sum == c.team);
    }
    stock_close(&r);
}

static uint32_t only_zero(struct sl_team *t, const struct sl_game *g, uint32_t victim)
{
    return 1;
}

static void with_one_action_left_there_is_no_attack(void **state)
{
    struct stock_rig r;
    stock_open(&r);
    struct sl_team_ops ops = *r.team.team.ops;
    ops.available = only_zero;
    r.team.team.ops = &ops;
    const struct sl_cmarl_rule local = {SL_CMARL_LOCAL_WORST};
    struct sl_siege_counts c = sl_siege_play(r.two_step, &local, 1);
    assert_true(c.steps == STOCK_STEPS && c.wanted == 0 && c.lies == 0);
    stock_close(&r);
}

static void unavailable_actions_are_never_chosen(void **state)
{
    struct sl_qnet net = victim_net(1, 1, 4);
    float x[11];
    for (uint64_t seed = 0; seed < 300; seed++) {
        float q[4];
        struct sl_rng r = rng_of(seed);
        const uint32_t available = 1 + (uint32_t)sl_rng_below(&r, 7);
        random_inputs(seed, x);
        for (int a = 0; a < 4; a++)
            q[a] = (float)sl_rng_f64(&r);
        for (int kind = SL_CMARL_RANDOM; kind <= SL_CMARL_LEARNED; kind++) {
            const struct sl_cmarl_rule rule = {(enum sl_cmarl_kind)kind, &net, seed};
            uint32_t a = sl_cmarl_choose(&rule, x, q, 3, 4, available, 0);
            assert_true(available >> (a == 3 ? 2 : a) & 1);
        }
    }
    sl_qnet_deinit(&net);
}

/* --- a federation ----------------------------------------------------------------------------- */

struct world {
    struct sl_policy_plan plan;
    struct sl_workers *workers;
    struct sl_update_table *table;
    struct sl_game *game;
    struct sl_fedmarl_policy policy;
};

static void world_open(struct world *w)
{
    struct sl_err err = {.msg = ""};
    *w = (struct world){.workers = NULL};
    sl_policy_plan_default(&w->plan);
    strcpy(w->plan.data.dataset, "synthetic");
    w->plan.data.samples = 400;
    w->plan.data.holdout = 100;
    w->plan.data.pooling = 4;
    w->plan.local.hidden = 16;
    w->plan.local.epochs = 3;
    w->plan.local.batch_size = 8;
    w->plan.federation.clients = 12;
    w->plan.federation.cohort = 4;
    w->plan.federation.rounds = 6;
    w->plan.federation.pool = 1;
    w->plan.federation.buckets = 3;
    w->plan.federation.reference_cohort = 6;
    w->plan.federation.reference_rounds = 8;
    sl_policy_plan_complete(&w->plan);
    if (sl_workers_new(1, &w->workers, &err) != SL_OK ||
        sl_update_table_new(&w->plan, w->workers, NULL, NULL, &w->table, &err) != SL_OK ||
        sl_federation_game_new(&w->plan, w->table, SL_FEDERATION_POOL, &w->game, &err) != SL_OK)
        fail_msg("%s", err.msg);
    w->policy = (struct sl_fedmarl_policy){.spec = {.n_probe = 3, .n_upload = 3}};
    const struct sl_qnet_shape shape = {11, 32, 1, 2};
    /* stops some and lets some go on: an attack has something to turn */
    assert_int_equal(sl_qnet_new(&shape, 8, &w->policy.net, NULL), SL_OK);
    sl_federation_resident(w->game, true);
}

static void world_close(struct world *w)
{
    sl_fedmarl_policy_deinit(&w->policy);
    sl_game_free(w->game);
    sl_update_table_free(w->table);
    sl_workers_free(w->workers);
}

static struct sl_game *federation_siege(struct world *w, enum sl_cmarl_goal goal,
                                        struct sl_team **ret_team)
{
    struct sl_game *siege;
    const struct sl_federation_team_options t = {
        .policy = &w->policy, SL_FEDERATION_TEAM_DEFAULTS, .goal = goal};
    const struct sl_siege_options o = {
        .control = SL_SIEGE_TWO_STEP,
        .craft = {.method = SL_CRAFT_ANY, .step = .02, .step_most = .32, .iterations = 32}};
    assert_int_equal(sl_federation_team_new(&t, &w->plan, ret_team, NULL), SL_OK);
    assert_int_equal(sl_siege_new(&o, w->game, *ret_team, &siege, NULL), SL_OK);
    return siege;
}

static void an_honest_resident_is_the_clean_run(void **state)
{
    struct world w;
    struct sl_team *team;
    world_open(&w);
    struct sl_game *siege = federation_siege(&w, SL_GOAL_RETURN, &team);
    const struct sl_cmarl_rule truth = {SL_CMARL_TRUTH};
    int compared = 0;
    for (uint64_t seed = 0; seed < 12; seed++) {
        float x[4 * 11], q[8];
        uint8_t actions[4];
        double sum = 0;
        bool done = false;
        struct sl_siege_counts c = sl_siege_play(siege, &truth, seed);
        assert_true(c.steps == 6 && c.lies == 0);
        w.game->ops->reset(w.game, seed);
        while (!done) {
            w.game->ops->observe(w.game, x);
            sl_qnet_forward(&w.policy.net, x, 4, q);
            for (int i = 0; i < 4; i++)
                actions[i] = q[2 * i + 1] > q[2 * i];
            if (!(actions[0] | actions[1] | actions[2] | actions[3])) /* the rail */
                break;
            sum += w.game->ops->step(w.game, actions, &done);
        }
        if (done) {
            assert_true(sum == c.team);
            compared++;
        }
    }
    assert_true(compared > 2);
    sl_game_free(siege);
    sl_federation_team_free(team);
    world_close(&w);
}

static void one_client_is_in_every_cohort(void **state)
{
    struct world w;
    struct sl_round_facts round;
    const struct sl_client_facts *rows;
    const uint8_t everybody[4] = {1, 1, 1, 1};
    world_open(&w);
    for (uint64_t seed = 0; seed < 5; seed++) {
        bool done = false;
        w.game->ops->reset(w.game, seed);
        sl_federation_facts(w.game, &round, &rows);
        const uint32_t resident = rows[0].client;
        while (!done) {
            sl_federation_facts(w.game, &round, &rows);
            assert_int_equal(rows[0].client, resident);
            for (int i = 1; i < 4; i++)
                assert_int_not_equal(rows[i].client, resident);
            w.game->ops->step(w.game, everybody, &done);
        }
    }
    world_close(&w);
}

static void delays_and_stalls_pass_as_time_and_deadlines_end_them(void **state)
{
    const uint8_t everybody[4] = {1, 1, 1, 1};
    struct world w;
    double latency[4];
    bool done, late;
    world_open(&w);
    for (int i = 0; i < 4; i++) {
        struct sl_federation_terms t = {SL_FEDERATION_TERMS_DEFAULTS};
        struct sl_federation_score score;
        w.game->ops->reset(w.game, 3);
        const double unit_s = sl_federation_latency_ref_s(w.game);
        t.stall_s = i >= 1 ? 10 * unit_s : 0;
        t.deadline_s = i >= 2 ? 5 * unit_s : 0;
        t.probe_delay_s = i == 3 ? 7 * unit_s : 0;
        sl_federation_terms(w.game, 0, &t);
        w.game->ops->step(w.game, everybody, &done);
        sl_federation_score(w.game, &score);
        latency[i] = score.latency;
        double s = sl_federation_finish_s(w.game, 0, &late);
        assert_true(late == (i >= 2));
        if (late)
            assert_true(s == t.deadline_s);
    }
    assert_true(latency[1] > 9 && latency[0] < 5);
    assert_true(latency[2] > 4.9 && latency[2] < latency[1]);
    assert_true(latency[3] > latency[2] + 5);
    world_close(&w);
}

static void a_late_update_is_not_in_the_model(void **state)
{
    const uint8_t everybody[4] = {1, 1, 1, 1}, others[4] = {0, 1, 1, 1};
    struct world w;
    struct sl_federation_score without, late;
    struct sl_federation_terms t = {SL_FEDERATION_TERMS_DEFAULTS, .deadline_s = 1e-9};
    bool done;
    world_open(&w);
    w.game->ops->reset(w.game, 3);
    w.game->ops->step(w.game, others, &done);
    sl_federation_score(w.game, &without);
    w.game->ops->reset(w.game, 3);
    sl_federation_terms(w.game, 0, &t);
    w.game->ops->step(w.game, everybody, &done);
    sl_federation_score(w.game, &late);
    assert_true(late.accuracy == without.accuracy);
    world_close(&w);
}

static void a_weapon_costs_what_its_goal_says(void **state)
{
    struct world w;
    struct sl_team *team;
    world_open(&w);
    const struct sl_cmarl_rule truth = {SL_CMARL_TRUTH}, local = {SL_CMARL_LOCAL_WORST};
    struct sl_game *cost = federation_siege(&w, SL_GOAL_COST, &team);
    assert_int_equal(cost->n_actions, 3);
    double clean = 0, attacked = 0;
    for (uint64_t seed = 0; seed < 6; seed++) {
        clean += sl_siege_play(cost, &truth, seed).team;
        attacked += sl_siege_play(cost, &local, seed).team;
    }
    assert_true(attacked < clean);
    sl_game_free(cost);
    sl_federation_team_free(team);
    struct sl_game *starve = federation_siege(&w, SL_GOAL_STARVE, &team);
    assert_int_equal(starve->n_actions, 2);
    struct sl_siege_counts c = sl_siege_play(starve, &truth, 1);
    assert_true(c.worth == -(double)c.accepted);
    sl_game_free(starve);
    sl_federation_team_free(team);
    world_close(&w);
}

static void half_of_the_haunted_episodes_are_attacked(void **state)
{
    struct world w;
    struct sl_game *haunted, *plain;
    struct sl_qnet attacker;
    float seen[4 * 11], truth[4 * 11];
    uint32_t lied = 0, honest = 0;
    world_open(&w);
    const struct sl_qnet_shape shape = {11, 8, 1, 3};
    assert_int_equal(sl_qnet_new(&shape, 2, &attacker, NULL), SL_OK);
    assert_int_equal(
        sl_federation_game_new(&w.plan, w.table, SL_FEDERATION_POOL, &plain, NULL), SL_OK);
    assert_int_equal(
        sl_haunted_game_new(&w.plan, &w.policy, &attacker, plain, &haunted, NULL), SL_OK);
    for (uint64_t seed = 0; seed < 40; seed++) {
        bool differs[2];
        for (int resident = 0; resident < 2; resident++) {
            sl_federation_resident(w.game, resident == 1);
            w.game->ops->reset(w.game, seed);
            w.game->ops->observe(w.game, truth);
            haunted->ops->reset(haunted, seed);
            haunted->ops->observe(haunted, seen);
            differs[resident] = memcmp(seen, truth, sizeof(seen)) != 0;
            if (resident == 1 && differs[0] && differs[1]) /* only row 0 lies */
                assert_memory_equal(seen + 11, truth + 11, 3 * 11 * sizeof(float));
        }
        honest += !differs[0];
        lied += differs[0];
    }
    assert_true(honest > 8 && lied > 8);
    sl_game_free(haunted);
    sl_qnet_deinit(&attacker);
    world_close(&w);
}

static void hardening_starts_from_the_policy_and_none_leaves_it(void **state)
{
    struct world w;
    struct sl_err err = {.msg = ""};
    float before[2000];
    world_open(&w);
    const size_t bytes = w.policy.net.n_values * sizeof(float);
    assert_true(bytes <= sizeof(before));
    memcpy(before, w.policy.net.values, bytes);
    assert_int_equal(sl_cmarl_harden(&w.plan, w.table, w.workers, &w.policy, &err), SL_OK);
    assert_memory_equal(before, w.policy.net.values, bytes);
    w.plan.training.adversaries = 2;
    w.plan.training.adversary_episodes = 16;
    w.plan.training.validation_episodes = 2;
    w.plan.learner.shape.hidden = 32;
    w.plan.learner.warmup = w.plan.learner.batch;
    if (sl_cmarl_harden(&w.plan, w.table, w.workers, &w.policy, &err) != SL_OK)
        fail_msg("%s", err.msg);
    assert_memory_not_equal(before, w.policy.net.values, bytes);
    struct sl_vdn *v;
    struct sl_qnet acting;
    assert_int_equal(sl_vdn_new(&w.plan.learner, &v, NULL), SL_OK);
    assert_int_equal(sl_qnet_new(&w.policy.net.shape, 0, &acting, NULL), SL_OK);
    sl_vdn_start_from(v, &w.policy.net);
    sl_vdn_acting(v, &acting);
    for (size_t i = 0; i < acting.n_values; i++)
        assert_true(fabsf(acting.values[i] - w.policy.net.values[i]) <= 1e-6f);
    sl_qnet_deinit(&acting);
    sl_vdn_free(v);
    world_close(&w);
}

int main(void)
{
    sl_accel_init();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slopes_equal_central_differences),
        cmocka_unit_test(what_counts_as_a_success_takes_the_target_and_is_legal),
        cmocka_unit_test(a_dynamic_step_is_nearer_to_the_truth_than_a_large_one),
        cmocka_unit_test(what_is_reached_already_and_what_nothing_may_change_stay_the_truth),
        cmocka_unit_test(the_learned_rule_comes_near_the_enumerated_worst_case),
        cmocka_unit_test(rules_stand_in_order_and_misprediction_is_not_damage),
        cmocka_unit_test(without_its_weight_the_regulariser_is_not_there),
        cmocka_unit_test(an_adversary_that_wants_what_the_victim_does_changes_nothing),
        cmocka_unit_test(with_one_action_left_there_is_no_attack),
        cmocka_unit_test(unavailable_actions_are_never_chosen),
        cmocka_unit_test(an_honest_resident_is_the_clean_run),
        cmocka_unit_test(one_client_is_in_every_cohort),
        cmocka_unit_test(delays_and_stalls_pass_as_time_and_deadlines_end_them),
        cmocka_unit_test(a_late_update_is_not_in_the_model),
        cmocka_unit_test(a_weapon_costs_what_its_goal_says),
        cmocka_unit_test(half_of_the_haunted_episodes_are_attacked),
        cmocka_unit_test(hardening_starts_from_the_policy_and_none_leaves_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
