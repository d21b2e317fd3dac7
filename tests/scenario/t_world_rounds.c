/* SPDX-License-Identifier: Apache-2.0 */
/* How rounds end: all in, at the deadline with a quorum, at the n-th update, or not at
 * all. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "tests/scenario/fixture.h"

static void assert_ok(const struct outcome *o)
{
    if (o->rc != SL_OK)
        fail_msg("%s", o->err.msg);
}

static void a_calm_run_takes_every_selected_update(void **state)
{
    struct sl_plan p = small_plan();
    struct outcome o = run_plan(&p, 2);
    assert_ok(&o);
    assert_int_equal(o.n_rounds, 3);
    for (int r = 0; r < 3; r++)
        assert_int_equal(o.completed[r], 4);
    assert_int_equal(o.stats.dropouts, 0);
    assert_int_equal(o.stats.resent, 0);
    sl_plan_deinit(&p);
}

static void dropouts_leave_a_round_to_its_quorum_at_the_deadline(void **state)
{
    struct sl_plan p = small_plan();
    p.run.rounds = 12;
    p.run.max_retries = 5;
    p.selection.quorum = 0.5;
    p.sim.world.dropout = 0.3;
    struct outcome o = run_plan(&p, 2);
    assert_ok(&o);
    assert_int_equal(o.n_rounds, 12);
    assert_true(o.stats.dropouts > 0);
    uint32_t partial = 0;
    for (int r = 0; r < 12; r++) {
        assert_in_range(o.completed[r], 2, 4);
        if (o.completed[r] < 4) {
            partial++;
            assert_true(o.latency_s[r] >= 59 && o.latency_s[r] < 60 * 6 + 20);
        }
    }
    assert_true(partial > 0);
    sl_plan_deinit(&p);
}

static void a_run_without_quorum_fails_after_its_retries(void **state)
{
    struct sl_plan p = small_plan();
    p.run.max_retries = 1;
    p.sim.world.dropout = 0.9;
    struct outcome o = run_plan(&p, 1);
    assert_int_equal(o.rc, SL_E_FAILED);
    assert_non_null(strstr(o.err.msg, "quorum"));
    assert_int_equal(o.n_runs, 1);
    sl_plan_deinit(&p);
}

static void over_selection_closes_at_the_wanted_number(void **state)
{
    struct sl_plan p = small_plan();
    p.selection.over_select = 1.5;
    strcpy(p.sim.world.device, "lognormal");
    p.sim.world.device_sigma = 1;
    struct outcome o = run_plan(&p, 2);
    assert_ok(&o);
    for (int r = 0; r < 3; r++) {
        assert_int_equal(o.selected[r], 6);
        assert_int_equal(o.completed[r], 4);
    }
    sl_plan_deinit(&p);
}

static void queued_runs_go_one_after_the_other(void **state)
{
    struct sl_plan p[2] = {small_plan(), small_plan()};
    p[1].run.rounds = 2;
    struct outcome both = run_plans(p, 2, 2), first = run_plan(&p[0], 2),
                   second = run_plan(&p[1], 2);
    assert_ok(&both);
    assert_int_equal(both.n_runs, 2);
    assert_int_equal(both.n_rounds, 5);
    assert_string_equal(both.digest, second.digest);
    assert_string_not_equal(both.digest, first.digest);
    sl_plan_deinit(&p[0]);
    sl_plan_deinit(&p[1]);
}

static void a_failed_run_lets_the_next_one_run(void **state)
{
    struct sl_plan p[2] = {small_plan(), small_plan()};
    p[0].selection.deadline_s = 0.05; /* no device is that fast */
    p[0].sim.world.samples_per_s = 10;
    p[0].run.max_retries = 0;
    p[1].sim.world.samples_per_s = 10;
    struct outcome both = run_plans(p, 2, 1);
    assert_int_equal(both.rc, SL_E_FAILED);
    assert_int_equal(both.n_runs, 2);
    assert_int_equal(both.n_rounds, 3);
    sl_plan_deinit(&p[0]);
    sl_plan_deinit(&p[1]);
}

static void clients_measure_the_model_on_their_held_out_share(void **state)
{
    struct sl_plan p = small_plan();
    p.evaluation.where = SL_EVAL_BOTH;
    p.evaluation.holdout = 0.2;
    p.run.eval_every = 1;
    struct outcome o = run_plan(&p, 2);
    assert_ok(&o);
    assert_true(o.accuracy >= 0);
    sl_plan_deinit(&p);
}

static void nothing_is_held_at_the_end_but_polls_and_last_updates(void **state)
{
    struct sl_plan p = small_plan();
    p.run.rounds = 30;
    struct outcome o = run_plan(&p, 2);
    assert_ok(&o);
    assert_true(o.holdings.requests <= 8);
    assert_true(o.holdings.regions <= 8);
    assert_true(o.holdings.blobs <= 2);
    sl_plan_deinit(&p);
}

static void a_plan_that_can_not_run_is_refused_before_it_begins(void **state)
{
    struct sl_plan p = small_plan();
    strcpy(p.sim.world.device, "trace");
    strcpy(p.sim.world.device_trace, "/no/such/trace.csv");
    struct outcome o = run_plan(&p, 1);
    assert_int_equal(o.rc, SL_E_NOTFOUND);
    strcpy(p.sim.world.device, "constant");
    p.data.partition.clients = 1000;
    p.selection.clients_per_round = 4;
    o = run_plan(&p, 1);
    assert_int_equal(o.rc, SL_E_RANGE);
    sl_plan_deinit(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_calm_run_takes_every_selected_update),
        cmocka_unit_test(dropouts_leave_a_round_to_its_quorum_at_the_deadline),
        cmocka_unit_test(a_run_without_quorum_fails_after_its_retries),
        cmocka_unit_test(over_selection_closes_at_the_wanted_number),
        cmocka_unit_test(queued_runs_go_one_after_the_other),
        cmocka_unit_test(a_failed_run_lets_the_next_one_run),
        cmocka_unit_test(clients_measure_the_model_on_their_held_out_share),
        cmocka_unit_test(nothing_is_held_at_the_end_but_polls_and_last_updates),
        cmocka_unit_test(a_plan_that_can_not_run_is_refused_before_it_begins),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
