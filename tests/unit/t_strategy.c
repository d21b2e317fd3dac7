/* SPDX-License-Identifier: Apache-2.0 */
#include "server/strategy/strategy.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/mem.h"

static const char *const names[] = {
    "fedavg",  "fedavgm",    "fedprox", "fednova",      "scaffold", "fedadam",
    "fedyogi", "fedadagrad", "median",  "trimmed-mean", "krum",     "multi-krum",
    "geometric-median", "fedbuff"};
#define N_NAMES (sizeof(names) / sizeof(names[0]))

static struct sl_step step_of(struct sl_plan *plan, const char *name)
{
    sl_plan_default(plan);
    snprintf(plan->strategy.name, sizeof(plan->strategy.name), "%s", name);
    sl_plan_strategy_defaults(plan);
    return (struct sl_step){.plan = plan};
}

static void assert_near(float got, double want)
{
    if (!(fabs((double)got - want) <= 1e-6 * fmax(1, fabs(want))))
        fail_msg("%.9g instead of %.9g", (double)got, want);
}

static void every_strategy_of_a_plan_is_found_by_name(void **state)
{
    for (size_t i = 0; i < N_NAMES; i++) {
        char text[128];
        struct sl_plan p;
        struct sl_err err = {0};
        int n = snprintf(text, sizeof(text), "data: {dataset: csv}\nstrategy: {name: %s%s}\n",
                         names[i], strcmp(names[i], "fedprox") == 0 ? ", mu: 0.1" : "");
        if (sl_plan_parse(text, (size_t)n, "p", NULL, 0, &p, &err) != SL_OK)
            fail_msg("%s", err.msg);
        const struct sl_strategy_ops *s = sl_strategy_find(names[i]);
        assert_non_null(s);
        assert_string_equal(s->name, names[i]);
        assert_true(s->rule == NULL || strcmp(s->rule->name, names[i]) == 0);
        sl_plan_deinit(&p);
    }
    assert_null(sl_strategy_find("FedAvg"));
    assert_null(sl_strategy_find(""));
}

static void fedavg_and_fedprox_add_the_mean(void **state)
{
    struct sl_update_meta meta = {.steps = 7};
    struct sl_plan plan;
    const struct sl_strategy_ops *both[] = {&sl_strategy_fedavg, &sl_strategy_fedprox};
    for (size_t i = 0; i < 2; i++) {
        struct sl_step s = step_of(&plan, both[i]->name);
        float values[] = {1.0f, -2.0f, 0.25f};
        const float mean[] = {0.5f, 2.0f, -0.125f}, want[] = {1.5f, 0.0f, 0.125f};
        assert_true(both[i]->scale(&plan, &meta) == 1.0);
        both[i]->step(&s, values, mean, 3, NULL);
        assert_memory_equal(values, want, sizeof(want));
        assert_int_equal(both[i]->state_per_value, 0);
        sl_plan_deinit(&plan);
    }
}

static void fedavgm_keeps_its_momentum_from_round_to_round(void **state)
{
    struct sl_plan plan;
    struct sl_step s = step_of(&plan, "fedavgm");
    float value = 1, v = 0;
    const float first = 2, second = -1;
    plan.strategy.beta = 0.75;
    plan.strategy.eta = 0.5;
    sl_strategy_fedavgm.step(&s, &value, &first, 1, &v);
    assert_near(v, 2);
    assert_near(value, 1 + 0.5 * 2);
    sl_strategy_fedavgm.step(&s, &value, &second, 1, &v);
    assert_near(v, 0.75 * 2 - 1);
    assert_near(value, 2 + 0.5 * 0.5);
    sl_plan_deinit(&plan);
}

static void fedbuff_damps_updates_by_their_age(void **state)
{
    struct sl_plan plan;
    struct sl_step s = step_of(&plan, "fedbuff");
    struct sl_update_meta meta = {.steps = 7};
    float value = 1;
    const float mean = 2;
    assert_true(sl_strategy_fedbuff.scale(&plan, &meta) == 1.0);
    assert_true(sl_strategy_fedbuff.stale(&plan, 0) == 1.0);
    assert_true(fabs(sl_strategy_fedbuff.stale(&plan, 3) - 0.5) < 1e-15); /* 4^-1/2 */
    plan.strategy.staleness_power = 2;
    assert_true(fabs(sl_strategy_fedbuff.stale(&plan, 2) - 1.0 / 9) < 1e-15);
    plan.strategy.staleness_power = 0;
    assert_true(sl_strategy_fedbuff.stale(&plan, 1000) == 1.0);
    plan.strategy.eta = 0.25;
    sl_strategy_fedbuff.step(&s, &value, &mean, 1, NULL);
    assert_near(value, 1.5);
    for (size_t i = 0; i < N_NAMES; i++) /* the others know rounds only */
        assert_int_equal(sl_strategy_find(names[i])->stale != NULL, strcmp(names[i], "fedbuff") == 0);
    sl_plan_deinit(&plan);
}

static void fednova_takes_the_mean_steps_of_normalised_updates(void **state)
{
    struct sl_plan plan;
    struct sl_step s = step_of(&plan, "fednova");
    struct sl_update_meta four = {.steps = 4}, none = {.steps = 0};
    float value = 1;
    const float mean = 0.5f;
    assert_true(sl_strategy_fednova.scale(&plan, &four) == 0.25);
    assert_true(sl_strategy_fednova.scale(&plan, &none) == 0);
    s.mean_steps = 3;
    sl_strategy_fednova.step(&s, &value, &mean, 1, NULL);
    assert_near(value, 2.5);
    sl_plan_deinit(&plan);
}

static void scaffold_moves_its_variate_by_the_share_that_took_part(void **state)
{
    struct sl_plan plan;
    struct sl_step s = step_of(&plan, "scaffold");
    float value = 1, c = 0.5f;
    const float mean = 2;
    plan.strategy.eta = 0.25;
    s.share = 0.1;
    assert_int_equal(sl_strategy_scaffold.vectors, 2);
    sl_strategy_scaffold.step(&s, &value, &mean, 1, NULL);
    sl_strategy_scaffold.step_variates(&s, &c, &mean, 1);
    assert_near(value, 1.5);
    assert_near(c, 0.7);
    sl_plan_deinit(&plan);
}

/* Two rounds of d = 0.5, then -0.25, from w = 1. */
static void check_adaptive(const struct sl_strategy_ops *ops, double v1, double v2)
{
    struct sl_plan plan;
    struct sl_step s = step_of(&plan, ops->name);
    const double eta = 0.1, tau = 0.01, b1 = 0.6;
    float value = 1, mv[2];
    const float d[] = {0.5f, -0.25f};
    plan.strategy.eta = eta;
    plan.strategy.tau = tau;
    plan.strategy.beta1 = b1;
    plan.strategy.beta2 = 0.9;
    assert_int_equal(ops->state_per_value, 2);
    ops->init_state(&plan, mv, 2);
    assert_near(mv[0], 0);
    assert_near(mv[1], tau * tau);
    ops->step(&s, &value, &d[0], 1, mv);
    double m = (1 - b1) * 0.5, w = 1 + eta * m / (sqrt(v1) + tau);
    assert_near(mv[0], m);
    assert_near(mv[1], v1);
    assert_near(value, w);
    ops->step(&s, &value, &d[1], 1, mv);
    m = b1 * m + (1 - b1) * -0.25;
    assert_near(mv[0], m);
    assert_near(mv[1], v2);
    assert_near(value, w + eta * m / (sqrt(v2) + tau));
    sl_plan_deinit(&plan);
}

static void the_adaptive_ones_differ_in_their_second_moment(void **state)
{
    double adam = 0.9 * 1e-4 + 0.1 * 0.25, yogi = 1e-4 + 0.1 * 0.25, adagrad = 1e-4 + 0.25;
    check_adaptive(&sl_strategy_fedadam, adam, 0.9 * adam + 0.1 * 0.0625);
    check_adaptive(&sl_strategy_fedyogi, yogi, yogi + 0.1 * 0.0625); /* v < d^2 again */
    check_adaptive(&sl_strategy_fedadagrad, adagrad, adagrad + 0.0625);
}

static void yogi_shrinks_its_moment_when_updates_are_small(void **state)
{
    struct sl_plan plan;
    struct sl_step s = step_of(&plan, "fedyogi");
    float value = 0, mv[2] = {0, 1};
    const float d = 0.5f;
    plan.strategy.beta2 = 0.9;
    sl_strategy_fedyogi.step(&s, &value, &d, 1, mv);
    assert_near(mv[1], 1 - 0.1 * 0.25);
    sl_plan_deinit(&plan);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_strategy_of_a_plan_is_found_by_name),
        cmocka_unit_test(fedavg_and_fedprox_add_the_mean),
        cmocka_unit_test(fedavgm_keeps_its_momentum_from_round_to_round),
        cmocka_unit_test(fedbuff_damps_updates_by_their_age),
        cmocka_unit_test(fednova_takes_the_mean_steps_of_normalised_updates),
        cmocka_unit_test(scaffold_moves_its_variate_by_the_share_that_took_part),
        cmocka_unit_test(the_adaptive_ones_differ_in_their_second_moment),
        cmocka_unit_test(yogi_shrinks_its_moment_when_updates_are_small),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
