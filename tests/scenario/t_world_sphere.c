/* SPDX-License-Identifier: Apache-2.0 */
/* SphereFed in a federation with faults: the fixed head, and the calibration. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/scenario/fixture.h"

static void assert_ok(const struct outcome *o)
{
    if (o->rc != SL_OK)
        fail_msg("%s", o->err.msg);
}

#define PLAN                                                                             \
    "run: {name: sphere, seed: 4, rounds: 4, eval_every: 1}\n"                           \
    "data:\n"                                                                            \
    "  dataset: synthetic\n"                                                             \
    "  path: \"height=8,width=8,classes=10,train=600,test=200\"\n"                       \
    "  partition: {kind: dirichlet, alpha: 0.2, clients: 8, min_size: 5}\n"              \
    "train: {epochs: 2, batch_size: 16, lr: 0.1}\n"                                      \
    "selection: {clients_per_round: 4, deadline_s: 600, quorum: 1.0}\n"
#define SPHERE PLAN "model: {name: mlp, head: sphere}\n"
#define STORM                                                                            \
    "sim: {faults: {seed: 9, drop: 0.05, delay: 0.3, delay_ms: 500, duplicate: 0.1, "     \
    "reorder: 0.2, disconnect: 0.02, coordinator_kills: 5, client_kills: 6}}\n"

/* Training fails at any client whose head moved (nn/train.h), and so would the run. */
static void a_run_with_a_fixed_head_ends_alike_whatever_happens(void **state)
{
    struct sl_plan p = plan_of(SPHERE), q = plan_of(SPHERE STORM);
    struct outcome calm = run_plan(&p, 2), storm = run_plan(&q, 2);
    assert_ok(&calm);
    assert_ok(&storm);
    assert_int_equal(calm.n_rounds, 4);
    assert_true(calm.accuracy > 0.3);
    assert_true(storm.stats.coordinator_kills > 0);
    assert_string_equal(calm.digest, storm.digest);
    sl_plan_deinit(&p);
    sl_plan_deinit(&q);
}

static double train_loss(const json_t *record, size_t round)
{
    size_t i;
    json_t *line;
    json_array_foreach(record, i, line)
    {
        const char *event = json_string_value(json_object_get(line, "event"));
        if (event != NULL && strcmp(event, "round") == 0 && round-- == 0)
            return json_number_value(json_object_get(line, "train_loss"));
    }
    fail_msg("no such round");
    return 0;
}

static void every_unit_trains_towards_the_head(void **state)
{
    static const char *const all[] = {
        SPHERE "accelerator: {matmul: fp32}\n",
        SPHERE "accelerator: {matmul: fast}\n",
        SPHERE "accelerator: {matmul: tr}\n",
        /* running variances move by more than a weight may */
        SPHERE "accelerator: {matmul: rtn}\naggregation: {max_abs: 1000}\n",
        SPHERE "uplink: {encoding: bfp}\n",
        PLAN "model: {name: mlp, head: sphere, loss: squared}\n",
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        struct sl_plan p = plan_of(all[i]);
        json_t *record = json_array();
        p.data.partition.alpha = 10; /* all classes everywhere */
        p.train.epochs = 5;
        struct outcome o = run_recorded(&p, 2, NULL, record);
        assert_ok(&o);
        assert_true(o.accuracy > 0.6);
        assert_true(train_loss(record, 3) < 0.9 * train_loss(record, 0));
        json_decref(record);
        sl_plan_deinit(&p);
    }
}

#define AT_END "calibration: {at_end: true}\n"

/* S12: what the rounds make does not depend on it. */
static void a_calibration_betters_the_head_and_touches_nothing_else(void **state)
{
    static const char *const all[] = {
        SPHERE,
        PLAN "model: {name: mlp}\n",
        SPHERE "accelerator: {matmul: fast}\n",
        SPHERE "strategy: {name: scaffold}\n",
        SPHERE "strategy: {name: fedadam}\n",
        SPHERE "strategy: {name: median}\n",
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        char text[2048];
        struct sl_plan p = plan_of(all[i]);
        snprintf(text, sizeof text, "%scalibration: {at_end: true, every: 1}\n", all[i]);
        struct sl_plan q = plan_of(text);
        struct outcome without = run_plan(&p, 2), with = run_plan(&q, 2);
        assert_ok(&without);
        assert_ok(&with);
        assert_int_equal(with.n_calibrations, 4);
        assert_int_equal(with.calibrated, 8);
        assert_true(with.share == 1);
        assert_true(with.gained > 0.02);
        assert_true(with.accuracy > without.accuracy + 0.02);
        assert_string_equal(with.round_digest, without.round_digest);
        assert_string_equal(without.digest, without.round_digest);
        assert_string_not_equal(with.digest, without.digest);
        sl_plan_deinit(&p);
        sl_plan_deinit(&q);
    }
}

static void kills_in_the_middle_of_a_calibration_lose_nothing(void **state)
{
    struct sl_plan p = plan_of(SPHERE AT_END);
    struct outcome calm = run_plan(&p, 2);
    assert_ok(&calm);
    uint32_t kills = 0;
    for (uint64_t seed = 1; seed <= 12; seed++) {
        struct sl_plan q = plan_of(SPHERE AT_END STORM);
        q.sim.faults.seed = seed;
        q.sim.faults.power_loss = seed % 3 == 0;
        struct outcome storm = run_plan(&q, 2);
        assert_ok(&storm);
        kills += storm.stats.coordinator_kills;
        assert_string_equal(calm.digest, storm.digest);
        assert_true(storm.accuracy == calm.accuracy);
        sl_plan_deinit(&q);
    }
    assert_true(kills > 12);
    sl_plan_deinit(&p);
}

static void clients_that_stay_away_leave_a_share(void **state)
{
    struct sl_plan p = plan_of(SPHERE AT_END "sim: {dropout: 0.3}\n");
    uint32_t away = 0;
    p.selection.quorum = 0.25;
    p.selection.deadline_s = 30;
    p.run.max_retries = 5;
    for (p.run.seed = 1; p.run.seed <= 8; p.run.seed++) {
        struct outcome o = run_plan(&p, 2);
        assert_ok(&o);
        assert_int_equal(o.n_calibrations, 1);
        assert_in_range(o.calibrated, 1, 8);
        assert_true(o.share > 0 && (o.share < 1) == (o.calibrated < 8));
        away += 8 - o.calibrated;
    }
    assert_true(away > 0);
    sl_plan_deinit(&p);
}

static void a_client_with_more_than_its_share_is_left_out(void **state)
{
    struct sl_plan p = plan_of(SPHERE "calibration: {at_end: true, max_share: 0.14}\n");
    struct outcome o = run_plan(&p, 2);
    assert_ok(&o);
    assert_int_equal(o.n_calibrations, 1);
    assert_in_range(o.calibrated, 1, 7);
    assert_true(o.share < 1);
    sl_plan_deinit(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_run_with_a_fixed_head_ends_alike_whatever_happens),
        cmocka_unit_test(every_unit_trains_towards_the_head),
        cmocka_unit_test(a_calibration_betters_the_head_and_touches_nothing_else),
        cmocka_unit_test(kills_in_the_middle_of_a_calibration_lose_nothing),
        cmocka_unit_test(clients_that_stay_away_leave_a_share),
        cmocka_unit_test(a_client_with_more_than_its_share_is_left_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
