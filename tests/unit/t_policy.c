/* SPDX-License-Identifier: Apache-2.0 */
/* Learning to select in the simulator: the enumerable game (F10, F13), that a training's result
 * depends neither on workers nor on interruptions, and the game of federations. */
#include "sim/policy/learn.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "accel/accel.h"
#include "common/rng.h"
#include "server/selection/fedmarl/record.h"
#include "sim/policy/compare.h"
#include "sim/policy/gain_game.h"

#define AGENTS 6
#define WORKERS_MAX 3

struct rig {
    struct sl_workers *workers;
    struct sl_game *games[WORKERS_MAX];
    struct sl_vdn *v;
    struct sl_qnet best;
    unsigned n;
};

static struct sl_vdn_options gain_options(uint32_t episodes)
{
    struct sl_vdn_options o = {.shape = {3, 64, 1, 2}, .n_agents = AGENTS, SL_VDN_DEFAULTS};
    o.epsilon_steps = episodes / 2;
    o.credit = false; /* all of the reward is the team's */
    o.seed = 3;
    return o;
}

static void rig_open(struct rig *r, unsigned workers, double w2, double w3,
                     const struct sl_vdn_options *o)
{
    *r = (struct rig){.n = workers};
    assert_int_equal(sl_workers_new(workers, &r->workers, NULL), SL_OK);
    for (unsigned i = 0; i < workers; i++)
        assert_int_equal(sl_gain_game_new(AGENTS, w2, w3, &r->games[i], NULL), SL_OK);
    assert_int_equal(sl_vdn_new(o, &r->v, NULL), SL_OK);
    assert_int_equal(sl_qnet_new(&o->shape, 1, &r->best, NULL), SL_OK);
}

static void rig_close(struct rig *r)
{
    sl_workers_free(r->workers);
    for (unsigned i = 0; i < r->n; i++)
        sl_game_free(r->games[i]);
    sl_vdn_free(r->v);
    sl_qnet_deinit(&r->best);
}

static void learn(struct rig *r, uint32_t episodes, const char *state_path)
{
    const struct sl_learn_options o = {.seed = 3,
                                       .episodes = episodes,
                                       .batch_episodes = 20,
                                       .updates_per_step = 1,
                                       .lookahead = 1,
                                       .validate_every = 10,
                                       .validation_episodes = 50};
    const struct sl_learn_env env = {.workers = r->workers,
                                     .games = r->games,
                                     .state_path = state_path,
                                     .identity = "gain"};
    struct sl_err err = {.msg = ""};
    if (sl_learn(&o, &env, r->v, &r->best, &err) != SL_OK)
        fail_msg("%s", err.msg);
}

/* Shares of the optimum and of agents that go, over fresh states. */
static double share_of_best(struct rig *r, double *ret_go)
{
    double own = 0, best = 0, go = 0;
    for (uint32_t i = 0; i < 400; i++) {
        float x[AGENTS * 3], q[AGENTS * 2];
        uint8_t a[AGENTS];
        struct sl_game *g = r->games[0];
        g->ops->reset(g, sl_learn_test_seed(3, i));
        g->ops->observe(g, x);
        sl_qnet_forward(&r->best, x, AGENTS, q);
        sl_vdn_greedy(q, AGENTS, 2, a);
        own += sl_gain_game_reward(g, a);
        best += sl_gain_game_best(g);
        for (int k = 0; k < AGENTS; k++)
            go += a[k];
    }
    *ret_go = go / 400 / AGENTS;
    return best > 0 ? own / best : 1;
}

static void a_trained_team_comes_near_the_enumerated_optimum(void **state)
{
    const struct sl_vdn_options o = gain_options(2000);
    struct rig r;
    double go;
    rig_open(&r, 2, 0, 1, &o);
    learn(&r, 2000, NULL);
    assert_true(share_of_best(&r, &go) >= 0.95);
    rig_close(&r);
}

static void acceptance_falls_with_the_price_of_traffic_and_of_latency(void **state)
{
    static const double w3[] = {0, 0.5, 1, 4}, w2[] = {0, 2, 4, 20};
    const struct sl_vdn_options o = gain_options(1200);
    for (int which = 0; which < 2; which++) {
        double go[4];
        for (int i = 0; i < 4; i++) {
            struct rig r;
            rig_open(&r, 2, which == 0 ? 0 : w2[i], which == 0 ? w3[i] : 0, &o);
            learn(&r, 1200, NULL);
            share_of_best(&r, &go[i]);
            rig_close(&r);
        }
        print_message("accepted: %.3f %.3f %.3f %.3f\n", go[0], go[1], go[2], go[3]);
        assert_true(go[0] > 0.95 && go[0] > go[1] && go[1] > go[2] && go[2] > go[3]);
        assert_true(go[3] < 0.25);
    }
}

static void neither_workers_nor_interruptions_change_the_policy(void **state)
{
    char path[] = "/tmp/t_policy_XXXXXX";
    const struct sl_vdn_options o = gain_options(800);
    struct rig one, three, cut;
    struct sl_err err;
    close(mkstemp(path));
    unlink(path);
    rig_open(&one, 1, 0.2, 1, &o);
    rig_open(&three, 3, 0.2, 1, &o);
    learn(&one, 800, NULL);
    learn(&three, 800, NULL);
    assert_memory_equal(one.best.values, three.best.values, one.best.n_values * sizeof(float));
    rig_open(&cut, 2, 0.2, 1, &o);
    learn(&cut, 400, path); /* the state of a training that was ended half way */
    rig_close(&cut);
    rig_open(&cut, 2, 0.2, 1, &o);
    learn(&cut, 800, path);
    assert_memory_equal(one.best.values, cut.best.values, one.best.n_values * sizeof(float));
    const struct sl_learn_options other = {3, 800, 20, 1, 1, 10, 50};
    const struct sl_learn_env env = {
        .workers = cut.workers, .games = cut.games, .state_path = path, .identity = "else"};
    assert_int_equal(sl_learn(&other, &env, cut.v, &cut.best, &err), SL_E_INPUT);
    assert_non_null(strstr(err.msg, "of another plan"));
    unlink(path);
    rig_close(&one);
    rig_close(&three);
    rig_close(&cut);
}

/* What agents do in the first step is paid in the last: 1 for each action 1, less a tenth for every later
 * one. They see the time. */
#define LATE_STEPS 6
struct late_game {
    struct sl_game game;
    uint32_t t;
    double due;
};

static void late_reset(struct sl_game *g, uint64_t seed)
{
    struct late_game *l = (struct late_game *)g;
    l->t = 0;
    l->due = 0;
}

static void late_observe(const struct sl_game *g, float *ret)
{
    const struct late_game *l = (const struct late_game *)g;
    for (uint32_t i = 0; i < g->n_agents; i++) {
        ret[2 * i] = l->t == 0 ? 1 : 0;
        ret[2 * i + 1] = (float)l->t / LATE_STEPS;
    }
}

static double late_step(struct sl_game *g, const uint8_t *actions, bool *ret_done)
{
    struct late_game *l = (struct late_game *)g;
    for (uint32_t i = 0; i < g->n_agents; i++)
        l->due += actions[i] * (l->t == 0 ? 1 : -0.1);
    *ret_done = ++l->t == LATE_STEPS;
    return *ret_done ? l->due : 0;
}

static void late_free(struct sl_game *g)
{
    free(g);
}

static void a_team_that_looks_ahead_learns_what_is_paid_late(void **state)
{
    static const struct sl_game_ops ops = {"late", late_reset, late_observe, late_step, late_free,
                                           NULL};
    struct sl_vdn_options o = {.shape = {2, 32, 1, 2}, .n_agents = 2, SL_VDN_DEFAULTS};
    const struct sl_learn_options how = {.seed = 3,
                                         .episodes = 400,
                                         .batch_episodes = 20,
                                         .updates_per_step = 1,
                                         .lookahead = LATE_STEPS,
                                         .validate_every = 10,
                                         .validation_episodes = 1};
    struct sl_learn_env env = {.identity = "late"};
    struct late_game *late = calloc(1, sizeof(*late));
    struct sl_game *g = &late->game;
    struct sl_qnet best;
    struct sl_vdn *v;
    bool done = false;
    double sum = 0;
    *g = (struct sl_game){&ops, 2, 2, 2, LATE_STEPS};
    o.gamma = 1;
    o.credit = false;
    o.seed = 3;
    o.epsilon_steps = 400 * LATE_STEPS / 2;
    env.games = &g;
    assert_int_equal(sl_workers_new(1, &env.workers, NULL), SL_OK);
    assert_int_equal(sl_vdn_new(&o, &v, NULL), SL_OK);
    assert_int_equal(sl_qnet_new(&o.shape, 1, &best, NULL), SL_OK);
    assert_int_equal(sl_learn(&how, &env, v, &best, NULL), SL_OK);
    g->ops->reset(g, 0);
    while (!done) {
        float x[4], q[4];
        uint8_t a[2];
        g->ops->observe(g, x);
        sl_qnet_forward(&best, x, 2, q);
        sl_vdn_greedy(q, 2, 2, a);
        sum += g->ops->step(g, a, &done);
    }
    assert_true(sum > 1.75); /* 2 is the most */
    sl_workers_free(env.workers);
    sl_vdn_free(v);
    sl_qnet_deinit(&best);
    sl_game_free(g);
}

/* --- the game of federations ------------------------------------------------------------------ */

/* Seconds on one core: synthetic images, few clients. */
static void small_plan(struct sl_policy_plan *p)
{
    sl_policy_plan_default(p);
    strcpy(p->data.dataset, "synthetic");
    p->data.samples = 400;
    p->data.holdout = 100;
    p->data.pooling = 4;
    p->local.hidden = 16;
    p->local.epochs = 3;
    p->local.batch_size = 8;
    p->federation.clients = 12;
    p->federation.cohort = 4;
    p->federation.rounds = 6;
    p->federation.pool = 1;
    p->federation.buckets = 3;
    p->federation.reference_cohort = 6;
    p->federation.reference_rounds = 8;
    p->features.n_probe = 2;
    sl_policy_plan_complete(p);
}

struct world {
    struct sl_policy_plan plan;
    struct sl_workers *workers;
    struct sl_update_table *table;
    struct sl_game *game;
};

static struct world shared;

static int open_world(void **state)
{
    struct sl_err err = {.msg = ""};
    sl_accel_init();
    small_plan(&shared.plan);
    assert_int_equal(sl_workers_new(2, &shared.workers, &err), SL_OK);
    if (sl_update_table_new(&shared.plan, shared.workers, NULL, NULL, &shared.table, &err) != SL_OK)
        fail_msg("%s", err.msg);
    assert_int_equal(sl_federation_game_new(&shared.plan, shared.table, SL_FEDERATION_POOL,
                                            &shared.game, &err),
                     SL_OK);
    return 0;
}

static int close_world(void **state)
{
    sl_game_free(shared.game);
    sl_update_table_free(shared.table);
    sl_workers_free(shared.workers);
    return 0;
}

/* The sum of an episode's rewards under a pseudo-random policy; checks what every game promises. */
static double play(struct sl_game *g, uint64_t seed, uint32_t *ret_accepted)
{
    float x[SL_GAME_AGENTS_MAX * SL_GAME_INPUTS_MAX];
    uint8_t a[SL_GAME_AGENTS_MAX];
    double sum = 0;
    bool done = false;
    uint32_t steps = 0;
    struct sl_rng r;
    sl_rng_init(&r, &(struct sl_rng_id){.seed = seed, .purpose = SL_RNG_TEST});
    g->ops->reset(g, seed);
    *ret_accepted = 0;
    while (!done) {
        g->ops->observe(g, x);
        for (uint32_t i = 0; i < g->n_agents * g->n_inputs; i++)
            assert_true(fabsf(x[i]) <= SL_GAME_INPUT_LIMIT);
        for (uint32_t i = 0; i < g->n_agents; i++)
            *ret_accepted += a[i] = (uint8_t)sl_rng_below(&r, 2);
        sum += g->ops->step(g, a, &done);
        steps++;
    }
    assert_int_equal(steps, g->max_steps);
    return sum;
}

static void an_episode_is_a_function_of_seed_and_actions(void **state)
{
    uint32_t accepted, again;
    for (uint64_t seed = 0; seed < 5; seed++) {
        double first = play(shared.game, seed, &accepted);
        play(shared.game, seed + 100, &again);
        assert_true(play(shared.game, seed, &again) == first);
        assert_int_equal(again, accepted);
    }
}

static void the_score_is_the_sum_of_the_rewards(void **state)
{
    struct sl_federation_score s;
    uint32_t accepted;
    double sum = play(shared.game, 9, &accepted);
    sl_federation_score(shared.game, &s);
    assert_true(fabs(sum - s.reward) < 1e-9);
    assert_int_equal(s.accepted, accepted);
    assert_int_equal(s.rounds, shared.game->max_steps);
    assert_float_equal(s.traffic, accepted / 4.0, 1e-9);
}

/* The terms of the utility's mean over a window sum to that over the last rounds less U(0) (F9). */
static void utility_over_a_window_telescopes(void **state)
{
    struct sl_policy_plan plan = shared.plan;
    struct sl_federation_score s;
    struct sl_game *g;
    bool done = false;
    plan.window = 3;
    plan.reward.w2 = plan.reward.w3 = 0;
    assert_int_equal(
        sl_federation_game_new(&plan, shared.table, SL_FEDERATION_POOL, &g, NULL), SL_OK);
    g->ops->reset(g, 3);
    sl_federation_score(g, &s);
    const double start = sl_fedmarl_utility_of(&plan.reward, s.accuracy);
    double u[6], sum = 0;
    for (uint32_t t = 0; !done; t++) {
        const uint8_t actions[4] = {1, t % 2, t % 3 == 0, 0};
        sum += g->ops->step(g, actions, &done);
        sl_federation_score(g, &s);
        u[t] = sl_fedmarl_utility_of(&plan.reward, s.accuracy);
    }
    assert_true(fabs(sum - plan.reward.w1 * ((u[3] + u[4] + u[5]) / 3 - start)) < 1e-9);
    assert_true(fabs(s.plain - plan.reward.w1 * (u[5] - start)) < 1e-9);
    sl_game_free(g);
}

/* Two endings of the same episode earn what their credits say. */
static void credits_differ_as_the_returns_do(void **state)
{
    static const uint8_t endings[2][4] = {{1, 1, 1, 1}, {0, 1, 0, 1}};
    double sum[2] = {0}, parts[2] = {0};
    struct sl_policy_plan plan = shared.plan;
    struct sl_game *g;
    plan.window = 3;
    assert_int_equal(
        sl_federation_game_new(&plan, shared.table, SL_FEDERATION_POOL, &g, NULL), SL_OK);
    for (int k = 0; k < 2; k++) {
        double own[4];
        bool done = false;
        g->ops->reset(g, 11);
        for (uint32_t t = 0; t < g->max_steps; t++) {
            const bool last = t + 1 == g->max_steps;
            sum[k] += g->ops->step(g, last ? endings[k] : (const uint8_t[4]){1, 1, 0, 0}, &done);
            parts[k] = g->ops->credit(g, own);
            for (int i = 0; i < 4; i++)
                parts[k] += own[i];
        }
        assert_true(own[0] <= 0 && (endings[k][0] || own[0] == 0) && own[1] < 0);
    }
    assert_true(fabs((sum[0] - sum[1]) - (parts[0] - parts[1])) < 1e-9);
    assert_true(sum[0] != sum[1]);
    sl_game_free(g);
}

static void nobody_accepted_leaves_the_model_and_costs_the_probe(void **state)
{
    const uint8_t nobody[4] = {0};
    struct sl_federation_score before, after;
    bool done;
    shared.game->ops->reset(shared.game, 4);
    sl_federation_score(shared.game, &before);
    double r = shared.game->ops->step(shared.game, nobody, &done);
    sl_federation_score(shared.game, &after);
    assert_true(before.accuracy == after.accuracy && r < 0 && after.latency > 0);
    assert_true(after.traffic == 0);
}

static void what_is_accepted_shows_in_the_facts(void **state)
{
    const uint8_t first[4] = {1, 0, 0, 0};
    struct sl_round_facts round;
    const struct sl_client_facts *rows;
    bool done = false;
    shared.game->ops->reset(shared.game, 1);
    sl_federation_facts(shared.game, &round, &rows);
    uint32_t known = rows[0].client;
    assert_true(round.round == 0 && rows[0].n_upload == 0 && rows[0].n_probe == 1);
    assert_true(round.median_probe_s > 0 && round.mean_upload_s == 0);
    shared.game->ops->step(shared.game, first, &done);
    for (uint32_t t = 1; t < shared.game->max_steps; t++) {
        sl_federation_facts(shared.game, &round, &rows);
        for (uint32_t i = 0; i < 4; i++)
            if (rows[i].client == known) {
                assert_true(rows[i].n_upload == 1 && rows[i].n_probe >= 2);
                assert_true(rows[i].accepted == 1ull << (t - 1) && rows[i].idle_rounds == t - 1);
            }
        shared.game->ops->step(shared.game, (const uint8_t[4]){0}, &done);
    }
}

static void the_table_holds_real_training(void **state)
{
    for (uint32_t i = 0; i < shared.table->n_federations; i++) {
        const struct sl_federation *f = &shared.table->federations[i];
        assert_true(f->buckets >= 1 && f->buckets <= 3);
        for (uint32_t b = 0; b < f->buckets; b++) {
            assert_true(f->keep[b] >= 0 && f->keep[b] <= 1);
            assert_true(b == 0 || f->accuracy[b] > f->accuracy[b - 1]);
            assert_int_equal(sl_federation_bucket(f, f->accuracy[b]), b);
            for (uint32_t c = 0; c < f->clients; c++)
                assert_true(f->probe_loss[b * f->clients + c] > 0 && f->samples[c] > 0);
        }
        assert_true(f->accuracy[f->buckets - 1] > 0.3);
    }
}

static void rivals_and_policy_are_compared_on_the_same_episodes(void **state)
{
    struct sl_fedmarl_policy p = {.spec = shared.plan.features};
    struct sl_compare_row rows[SL_COMPARE_ROWS];
    struct sl_game *games[2];
    assert_int_equal(sl_qnet_new(&shared.plan.learner.shape, 5, &p.net, NULL), SL_OK);
    for (int i = 0; i < 2; i++)
        assert_int_equal(sl_federation_game_new(&shared.plan, shared.table, SL_FEDERATION_HELD_OUT,
                                                &games[i], NULL),
                         SL_OK);
    assert_int_equal(sl_compare(&shared.plan, shared.workers, games, &p, 10, rows, NULL), SL_OK);
    assert_string_equal(rows[0].name, "fedmarl");
    assert_true(rows[0].lead == 0 && rows[0].accepted > 0.999);
    assert_string_equal(rows[1].name, "all");
    assert_float_equal(rows[1].accepted, 4, 1e-9);
    assert_float_equal(rows[1].traffic, 6, 1e-9);
    for (int i = 1; i < SL_COMPARE_ROWS; i++)
        assert_true(fabs(rows[i].reward + rows[i].lead - rows[0].reward) < 1e-9);
    sl_fedmarl_policy_deinit(&p);
    sl_game_free(games[0]);
    sl_game_free(games[1]);
}

static void plans_with_unknown_keys_or_values_out_of_range_are_refused(void **state)
{
    char path[] = "/tmp/t_policy_XXXXXX";
    struct sl_policy_plan p;
    struct sl_err err;
    FILE *f = fdopen(mkstemp(path), "w");
    fputs("data: {dataset: synthetic}\nlearner: {gamma: 0.9}\n", f);
    fclose(f);
    assert_int_equal(sl_policy_plan_load(path, NULL, 0, &p, &err), SL_OK);
    assert_true(p.learner.gamma == 0.9 && p.learner.shape.n_inputs == 11);
    char *text, *again;
    assert_int_equal(sl_policy_plan_text(&p, &text, NULL), SL_OK);
    if (sl_policy_plan_parse(text, strlen(text), "text", NULL, 0, &p, &err) != SL_OK)
        fail_msg("%s", err.msg);
    assert_int_equal(sl_policy_plan_text(&p, &again, NULL), SL_OK);
    assert_string_equal(text, again);
    free(text);
    free(again);
    static const char *const bad[] = {"reward.w4=1", "learner.gamma=2", "federation.cohort=101",
                                      "devices.upload_s=[2, 1]", "data.dataset=mnist"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        const struct sl_plan_override o = {bad[i]};
        assert_int_not_equal(sl_policy_plan_load(path, &o, 1, &p, &err), SL_OK);
        assert_null(strchr(err.msg, '\n'));
    }
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_trained_team_comes_near_the_enumerated_optimum),
        cmocka_unit_test(acceptance_falls_with_the_price_of_traffic_and_of_latency),
        cmocka_unit_test(neither_workers_nor_interruptions_change_the_policy),
        cmocka_unit_test(a_team_that_looks_ahead_learns_what_is_paid_late),
        cmocka_unit_test(an_episode_is_a_function_of_seed_and_actions),
        cmocka_unit_test(the_score_is_the_sum_of_the_rewards),
        cmocka_unit_test(utility_over_a_window_telescopes),
        cmocka_unit_test(credits_differ_as_the_returns_do),
        cmocka_unit_test(nobody_accepted_leaves_the_model_and_costs_the_probe),
        cmocka_unit_test(what_is_accepted_shows_in_the_facts),
        cmocka_unit_test(the_table_holds_real_training),
        cmocka_unit_test(rivals_and_policy_are_compared_on_the_same_episodes),
        cmocka_unit_test(plans_with_unknown_keys_or_values_out_of_range_are_refused),
    };
    return cmocka_run_group_tests(tests, open_world, close_world);
}
