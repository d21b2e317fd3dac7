/* SPDX-License-Identifier: Apache-2.0 */
/* Strategies in whole federations: what kills, power cuts and clients left out may not change. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/scenario/fixture.h"
#include "tests/storms.h"

static const char *const strategies[] = {
    "name: fedavg", "name: fedavgm", "name: fedprox, mu: 0.1", "name: fednova",
    "name: scaffold", "name: fedadam", "name: fedyogi", "name: fedadagrad",
    "name: median", "name: trimmed-mean", "name: krum", "name: multi-krum",
    "name: geometric-median", "name: fedbuff, buffer: 5"};
#define N_STRATEGIES (sizeof(strategies) / sizeof(strategies[0]))

static void assert_ok(const struct outcome *o, const char *what)
{
    if (o->rc != SL_OK)
        fail_msg("%s: %s", what, o->err.msg);
}

/* Uneven shares, so that clients differ in steps and weight; hidden: units of the inner layer. */
static struct sl_plan strategy_plan(const char *strategy, unsigned hidden)
{
    char text[1024];
    snprintf(text, sizeof(text),
             "run: {name: strategy, seed: 5, rounds: 5, eval_every: 5, max_retries: 20}\n"
             "data:\n"
             "  dataset: synthetic\n"
             "  path: \"channels=1,height=6,width=6,classes=3,train=240,test=60\"\n"
             "  partition: {kind: dirichlet, alpha: 0.5, clients: 8, min_size: 5}\n"
             "model: {layers: [flatten, {dense: %u}, relu, {dense: 3}]}\n"
             "train: {epochs: 2, batch_size: 8, lr: 0.05}\n"
             "strategy: {%s}\n"
             "selection: {clients_per_round: 6, deadline_s: 600, quorum: 1.0}\n",
             hidden, strategy);
    return plan_of(text);
}

static void every_strategy_learns_with_every_encoding(void **state)
{
    const struct sl_codec_options uplinks[] = {
        {.encoding = SL_ENC_FP32},
        {.encoding = SL_ENC_BF16},
        {.encoding = SL_ENC_BFP, .m = 4},
        {.encoding = SL_ENC_TERNARY, .error_feedback = true},
    };
    for (size_t s = 0; s < N_STRATEGIES; s++)
        for (size_t u = 0; u < 4; u++) {
            struct sl_plan p = strategy_plan(strategies[s], 16);
            p.uplink = uplinks[u];
            p.run.rounds = 10;
            p.run.eval_every = 10;
            struct outcome o = run_plan(&p, 2);
            assert_ok(&o, strategies[s]);
            if (!(o.accuracy > 0.5)) /* three classes */
                fail_msg("%s with encoding %zu: accuracy %g", strategies[s], u, o.accuracy);
            sl_plan_deinit(&p);
        }
}

static void no_two_strategies_give_one_model(void **state)
{
    char digest[N_STRATEGIES][SL_DIGEST_HEX];
    for (size_t s = 0; s < N_STRATEGIES; s++) {
        struct sl_plan p = strategy_plan(strategies[s], 16);
        struct outcome o = run_plan(&p, 2);
        assert_ok(&o, strategies[s]);
        memcpy(digest[s], o.digest, SL_DIGEST_HEX);
        for (size_t i = 0; i < s; i++)
            if (strcmp(digest[i], digest[s]) == 0)
                fail_msg("%s and %s", strategies[i], strategies[s]);
        sl_plan_deinit(&p);
    }
}

static void draw_storm(struct sl_plan *p, uint64_t seed)
{
    p->sim.faults.seed = seed;
    p->sim.faults.coordinator_kills = p->sim.faults.client_kills = 5;
    p->sim.faults.drop = p->sim.faults.duplicate = p->sim.faults.reorder = 0.1;
    p->sim.faults.disconnect = 0.02;
    p->sim.faults.delay = 0.3;
    p->sim.faults.delay_ms = 500;
    p->sim.faults.power_loss = seed % 2 == 0;
}

/* Kills and power cuts at drawn instants end with the calm run's model. */
static void survive(const char *strategy, unsigned hidden, uint64_t n_storms)
{
    struct sl_plan p = strategy_plan(strategy, hidden);
    struct outcome calm = run_plan(&p, 2);
    uint32_t coordinator = 0, client = 0;
    assert_ok(&calm, strategy);
    for (uint64_t seed = 1; seed <= n_storms; seed++) {
        draw_storm(&p, seed);
        struct outcome o = run_plan(&p, 2);
        assert_ok(&o, strategy);
        coordinator += o.stats.coordinator_kills;
        client += o.stats.client_kills;
        if (strcmp(calm.digest, o.digest) != 0)
            fail_msg("%s, storm %d: %s, calm %s", strategy, (int)seed, o.digest, calm.digest);
    }
    assert_true(coordinator >= 2 * n_storms && client >= 2 * n_storms);
    sl_plan_deinit(&p);
}

static void scaffold_and_fednova_survive_kills_and_power_cuts(void **state)
{
    survive("name: scaffold", 16, SL_STORMS(40));
    survive("name: fednova", 16, SL_STORMS(40));
}

static void state_of_the_server_and_robust_rules_survive_them_too(void **state)
{
    survive("name: fedadam", 16, SL_STORMS(10));
    survive("name: fedavgm", 16, SL_STORMS(10));
    survive("name: median", 16, SL_STORMS(10));
    survive("name: geometric-median", 16, SL_STORMS(10));
}

/* More than one chunk (model, update and variates): checked and added by jobs. */
static void models_of_several_chunks_survive_them_too(void **state)
{
    survive("name: scaffold", 1700, 6);
    survive("name: krum", 1700, 4);
}

/* Clients train and are left out: the round closes without them, by number or deadline. A replay of who
 * was included, in which nobody else trains, gives the same model only if nothing that belongs to a
 * round left out stayed behind, at the clients or at the coordinator. */
static void leave_out(const char *strategy)
{
    uint32_t left_out = 0;
    for (uint64_t seed = 1; seed <= 12; seed++) {
        struct sl_plan p = strategy_plan(strategy, 16);
        json_t *record = json_array();
        p.run.rounds = ROUNDS_SEEN < 8 ? ROUNDS_SEEN : 8;
        p.selection.clients_per_round = 4;
        p.selection.over_select = seed % 3 == 0 ? 1.0 : 1.5;
        p.selection.quorum = 0.5;
        p.selection.deadline_s = 30;
        p.sim.world.dropout = 0.1;
        draw_storm(&p, seed);
        p.sim.faults.delay_ms = 3000;
        struct outcome o = run_recorded(&p, 2, NULL, record);
        assert_ok(&o, strategy);
        for (uint32_t i = 0; i < o.n_rounds; i++)
            left_out += o.selected[i] - o.completed[i];
        struct sl_plan calm = p;
        memset(&calm.sim.faults, 0, sizeof(calm.sim.faults));
        calm.sim.world.dropout = 0;
        struct outcome again = run_recorded(&calm, 2, record, NULL);
        assert_ok(&again, strategy);
        if (strcmp(again.digest, o.digest) != 0)
            fail_msg("%s, storm %d: %s, replayed %s", strategy, (int)seed, o.digest,
                     again.digest);
        json_decref(record);
        sl_plan_deinit(&p);
    }
    assert_true(left_out >= 12);
}

static void variates_advance_only_with_a_committed_round(void **state)
{
    leave_out("name: scaffold");
}

static void replays_of_disturbed_runs_give_their_models(void **state)
{
    leave_out("name: fednova");
    leave_out("name: fedadam");
    leave_out("name: median");
}

static void clipping_bounds_what_a_client_can_do(void **state)
{
    struct sl_plan p = strategy_plan("name: fedavg", 16);
    struct outcome free_run = run_plan(&p, 2);
    p.aggregation.clip_norm = 1e6;
    struct outcome wide = run_plan(&p, 2);
    p.aggregation.clip_norm = 0.05;
    struct outcome narrow = run_plan(&p, 2);
    assert_ok(&free_run, "free");
    assert_ok(&wide, "wide");
    assert_ok(&narrow, "narrow");
    assert_string_equal(free_run.digest, wide.digest);
    assert_string_not_equal(free_run.digest, narrow.digest);
    draw_storm(&p, 3);
    struct outcome stormy = run_plan(&p, 2);
    assert_ok(&stormy, "stormy");
    assert_string_equal(narrow.digest, stormy.digest);
    sl_plan_deinit(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_strategy_learns_with_every_encoding),
        cmocka_unit_test(no_two_strategies_give_one_model),
        cmocka_unit_test(scaffold_and_fednova_survive_kills_and_power_cuts),
        cmocka_unit_test(state_of_the_server_and_robust_rules_survive_them_too),
        cmocka_unit_test(models_of_several_chunks_survive_them_too),
        cmocka_unit_test(variates_advance_only_with_a_committed_round),
        cmocka_unit_test(replays_of_disturbed_runs_give_their_models),
        cmocka_unit_test(clipping_bounds_what_a_client_can_do),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
