/* SPDX-License-Identifier: Apache-2.0 */
/* Asynchronous aggregation in whole federations: every acknowledged update counts once whatever is killed, and
 * a replay of the record of a disturbed run gives its model. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/scenario/fixture.h"
#include "tests/storms.h"

#define STORMS SL_STORMS(120)

static void assert_ok(const struct outcome *o, const char *what, uint64_t seed)
{
    if (o->rc != SL_OK)
        fail_msg("%s, seed %d: %s", what, (int)seed, o->err.msg);
}

/* Devices of very different speeds and uneven shares; hidden: units of the inner layer. */
static struct sl_plan buffer_plan(unsigned hidden, const char *more)
{
    char text[1024];
    snprintf(text, sizeof(text),
             "run: {name: buffer, seed: 5, rounds: 8, eval_every: 8, max_retries: 20}\n"
             "data:\n"
             "  dataset: synthetic\n"
             "  path: \"channels=1,height=6,width=6,classes=3,train=240,test=60\"\n"
             "  partition: {kind: dirichlet, alpha: 0.5, clients: 10, min_size: 5}\n"
             "model: {layers: [flatten, {dense: %u}, relu, {dense: 3}]}\n"
             "train: {epochs: 2, batch_size: 8, lr: 0.05}\n"
             "strategy: {name: fedbuff, buffer: 3}\n"
             "selection: {clients_per_round: 6, deadline_s: 120}\n"
             "sim: {device: {kind: lognormal, samples_per_s: 20, sigma: 1}}\n"
             "%s",
             hidden, more);
    return plan_of(text);
}

static void calm_down(struct sl_plan *p)
{
    memset(&p->sim.faults, 0, sizeof(p->sim.faults));
    p->sim.world.dropout = 0;
    snprintf(p->sim.world.device, sizeof(p->sim.world.device), "constant");
}

static void draw_storm(struct sl_plan *p, uint64_t seed)
{
    p->sim.faults.seed = seed;
    p->sim.faults.coordinator_kills = p->sim.faults.client_kills = 6;
    p->sim.faults.drop = p->sim.faults.duplicate = p->sim.faults.reorder = 0.1;
    p->sim.faults.disconnect = 0.03;
    p->sim.faults.delay = seed % 3 == 0 ? 0 : 0.3;
    p->sim.faults.delay_ms = 2000;
    p->sim.faults.power_loss = seed % 2 == 0;
    p->sim.world.dropout = seed % 5 == 0 ? 0.2 : 0;
}

static uint32_t staleness(const json_t *record)
{
    uint32_t sum = 0;
    size_t i, j;
    json_t *line, *start;
    json_array_foreach(record, i, line)
        json_array_foreach(json_object_get(line, "starts"), j, start)
            sum += (uint32_t)(json_integer_value(json_object_get(line, "round")) - json_integer_value(start));
    return sum;
}

/* Runs p in storms, then calm and with other devices as each was recorded. */
static void replay_storms(struct sl_plan *p, const char *what, uint64_t n_storms)
{
    uint32_t coordinator = 0, client = 0, stale = 0;
    for (uint64_t seed = 1; seed <= n_storms; seed++) {
        json_t *record = json_array();
        draw_storm(p, seed);
        struct outcome o = run_recorded(p, 2, NULL, record);
        assert_ok(&o, what, seed);
        coordinator += o.stats.coordinator_kills;
        client += o.stats.client_kills;
        stale += staleness(record);
        struct sl_plan calm = *p;
        calm_down(&calm);
        struct outcome again = run_recorded(&calm, 2, record, NULL);
        assert_ok(&again, "replay", seed);
        if (strcmp(again.digest, o.digest) != 0)
            fail_msg("%s, storm %d: %s, replayed %s", what, (int)seed, o.digest, again.digest);
        json_decref(record);
    }
    assert_true(coordinator >= 2 * n_storms && client >= 2 * n_storms && stale > n_storms);
}

static void replays_of_disturbed_runs_give_their_models(void **state)
{
    struct sl_plan p = buffer_plan(16, "");
    replay_storms(&p, "one chunk", STORMS);
    sl_plan_deinit(&p);
}

/* Checked and added by jobs, which reach into the next version. */
static void models_of_several_chunks_too(void **state)
{
    struct sl_plan p = buffer_plan(1700, "");
    replay_storms(&p, "two chunks", STORMS / 6);
    sl_plan_deinit(&p);
}

/* Residuals that clients carry over must be those of committed updates only. */
static void encoded_updates_too(void **state)
{
    static const char *const uplinks[] = {"uplink: {encoding: ternary}\n", "uplink: {encoding: bfp}\n",
                                          "uplink: {encoding: bf16}\naggregation: {clip_norm: 0.5}\n"};
    for (size_t i = 0; i < 3; i++) {
        struct sl_plan p = buffer_plan(16, uplinks[i]);
        replay_storms(&p, uplinks[i], STORMS / 6);
        sl_plan_deinit(&p);
    }
}

/* The replay is disturbed as well; a client that loses its update in a power cut can't make it again later. */
static void a_disturbed_replay_gives_the_model_too(void **state)
{
    struct sl_plan p = buffer_plan(16, "");
    json_t *record = json_array();
    draw_storm(&p, 7);
    struct outcome o = run_recorded(&p, 2, NULL, record);
    assert_ok(&o, "recorded", 7);
    for (uint64_t seed = 1; seed <= STORMS / 4; seed++) {
        draw_storm(&p, 100 + seed);
        p.sim.faults.power_loss = false;
        struct outcome again = run_recorded(&p, 2, record, NULL);
        assert_ok(&again, "replay", 100 + seed);
        assert_string_equal(again.digest, o.digest);
    }
    json_decref(record);
    sl_plan_deinit(&p);
}

static void a_calm_run_is_a_function_of_its_plan(void **state)
{
    struct sl_plan p = buffer_plan(16, "");
    struct outcome one = run_plan(&p, 1), three = run_plan(&p, 3);
    assert_ok(&one, "one worker", 5);
    assert_string_equal(one.digest, three.digest);
    assert_true(one.accuracy > 0.5); /* three classes */
    for (uint32_t i = 0; i < one.n_rounds; i++)
        assert_int_equal(one.completed[i], 3);
    p.strategy.staleness_power = 0;
    struct outcome undamped = run_plan(&p, 2);
    assert_ok(&undamped, "undamped", 5);
    assert_string_not_equal(one.digest, undamped.digest);
    sl_plan_deinit(&p);
}

/* A buffer of all clients, which all begin from its version, is a round of FedAvg. */
static void a_buffer_of_everybody_is_a_round(void **state)
{
    struct sl_plan p = buffer_plan(16, "");
    p.selection.clients_per_round = p.strategy.buffer = 10;
    struct outcome buffers = run_plan(&p, 2);
    assert_ok(&buffers, "buffers", 5);
    snprintf(p.strategy.name, sizeof(p.strategy.name), "fedavg");
    struct outcome rounds = run_plan(&p, 2);
    assert_ok(&rounds, "rounds", 5);
    assert_string_equal(buffers.digest, rounds.digest);
    sl_plan_deinit(&p);
}

static void a_calibration_follows_the_last_version(void **state)
{
    struct sl_plan p = buffer_plan(16, "calibration: {at_end: true}\n");
    for (uint64_t seed = 1; seed <= STORMS / 6; seed++) {
        draw_storm(&p, seed);
        struct outcome o = run_plan(&p, 2);
        assert_ok(&o, "calibrated", seed);
        assert_int_equal(o.n_calibrations, 1);
        assert_true(o.calibrated > 0);
    }
    sl_plan_deinit(&p);
}

/* At its deadline a buffer closes with quorum, and repeats without; a run whose clients are all gone ends. */
static void deadlines_close_a_buffer_only_with_quorum(void **state)
{
    struct sl_plan p = buffer_plan(16, "");
    p.strategy.buffer = 8;
    p.selection.deadline_s = 5;
    p.sim.world.dropout = 0.5;
    p.selection.quorum = 0.25;
    struct outcome o = run_plan(&p, 2);
    assert_ok(&o, "quorum", 5);
    uint32_t least = 8;
    for (uint32_t i = 0; i < o.n_rounds; i++)
        least = o.completed[i] < least ? o.completed[i] : least;
    assert_in_range(least, 2, 7);
    p.selection.quorum = 1;
    p.run.max_retries = 1000;
    struct outcome whole = run_plan(&p, 2);
    assert_ok(&whole, "whole buffers", 5);
    for (uint32_t i = 0; i < whole.n_rounds; i++)
        assert_int_equal(whole.completed[i], 8);
    p.sim.world.dropout = 0.999999;
    p.run.max_retries = 3;
    struct outcome none = run_plan(&p, 2);
    assert_int_equal(none.rc, SL_E_FAILED);
    assert_non_null(strstr(none.err.msg, "0 of 8 updates after 4 attempts, quorum is 8"));
    sl_plan_deinit(&p);
}

static void a_record_that_does_not_fit_is_refused(void **state)
{
    struct sl_plan p = buffer_plan(16, "");
    json_t *record = json_array();
    struct outcome o = run_recorded(&p, 2, NULL, record);
    assert_ok(&o, "recorded", 5);
    p.run.rounds = 9;
    struct outcome longer = run_recorded(&p, 2, record, NULL);
    assert_int_equal(longer.rc, SL_E_FAILED);
    assert_non_null(strstr(longer.err.msg, "--replay: the record has no round 8"));
    json_t *line = json_array_get(record, 2);
    json_array_set_new(json_object_get(line, "starts"), 0, json_integer(7));
    struct outcome future = run_recorded(&p, 2, record, NULL);
    assert_int_equal(future.rc, SL_E_INPUT);
    assert_non_null(strstr(future.err.msg, "--replay: round 1 of the record has client"));
    json_object_del(line, "starts");
    struct outcome round = run_recorded(&p, 2, record, NULL);
    assert_int_equal(round.rc, SL_E_INPUT);
    assert_non_null(strstr(round.err.msg, "round 1 of the record does not say what its updates began from"));
    json_decref(record);
    sl_plan_deinit(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_calm_run_is_a_function_of_its_plan),
        cmocka_unit_test(a_buffer_of_everybody_is_a_round),
        cmocka_unit_test(replays_of_disturbed_runs_give_their_models),
        cmocka_unit_test(models_of_several_chunks_too),
        cmocka_unit_test(encoded_updates_too),
        cmocka_unit_test(a_disturbed_replay_gives_the_model_too),
        cmocka_unit_test(a_calibration_follows_the_last_version),
        cmocka_unit_test(deadlines_close_a_buffer_only_with_quorum),
        cmocka_unit_test(a_record_that_does_not_fit_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
