/* SPDX-License-Identifier: Apache-2.0 */
/* Strategies in plans: defaults, ranges, and what is told of values out of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/plan.h"

#define DATA "data: {dataset: csv}\n"

static enum sl_code try_plan(const char *text, struct sl_plan *ret, struct sl_err *err)
{
    return sl_plan_parse(text, strlen(text), "p", NULL, 0, ret, err);
}

static void parse(const char *text, struct sl_plan *ret)
{
    struct sl_err err = {0};
    if (try_plan(text, ret, &err) != SL_OK)
        fail_msg("%s", err.msg);
}

static void every_strategy_round_trips_with_its_own_keys(void **state)
{
    static const char *const plans[] = {
        "{name: fedavgm, eta: 0.5, beta: 0.7}",
        "{name: fedprox, mu: 0.01}",
        "{name: fednova}",
        "{name: scaffold, eta: 0.8}",
        "{name: fedadam, eta: 0.1, beta1: 0.8, beta2: 0.95, tau: 0.01}",
        "{name: fedyogi, beta2: 0.5}",
        "{name: fedadagrad, tau: 1.0e-4}",
        "{name: median}",
        "{name: trimmed-mean, trim: 4}",
        "{name: krum, f: 7}",
        "{name: multi-krum, f: 2, m: 10}",
        "{name: geometric-median, iterations: 3, nu: 0.001}",
        "{name: fedbuff, buffer: 4, eta: 0.5, staleness_power: 0}",
    };
    for (size_t i = 0; i < sizeof(plans) / sizeof(plans[0]); i++) {
        char text[256];
        char *a, *b;
        size_t n_a, n_b;
        struct sl_plan p, again;
        snprintf(text, sizeof(text), DATA "strategy: %s\n", plans[i]);
        parse(text, &p);
        assert_int_equal(sl_plan_canonical(&p, &a, &n_a, NULL), SL_OK);
        parse(a, &again);
        assert_memory_equal(&p.strategy, &again.strategy, sizeof(p.strategy));
        assert_int_equal(sl_plan_canonical(&again, &b, &n_b, NULL), SL_OK);
        assert_string_equal(a, b);
        free(a);
        free(b);
        sl_plan_deinit(&p);
        sl_plan_deinit(&again);
    }
}

static void a_strategy_has_its_own_defaults(void **state)
{
    struct sl_plan p;
    parse(DATA "strategy: {name: fedadam}\n", &p);
    assert_true(p.strategy.eta == 0.01 && p.strategy.beta1 == 0.9 && p.strategy.beta2 == 0.99);
    sl_plan_deinit(&p);
    parse(DATA "strategy: {name: fedadagrad}\n", &p);
    assert_true(p.strategy.eta == 0.01 && p.strategy.beta1 == 0);
    sl_plan_deinit(&p);
    parse(DATA "strategy: {name: scaffold}\n", &p);
    assert_true(p.strategy.eta == 1);
    sl_plan_deinit(&p);
}

static void hyper_parameters_out_of_range_are_told_in_one_line(void **state)
{
    static const struct {
        const char *plan, *msg;
    } cases[] = {
        {"strategy: {name: fedprox}",
         "p: strategy.mu: 0 is out of range (above 0 to 1000000: fedprox without mu is fedavg)"},
        {"strategy: {name: fedprox, mu: 0}",
         "p:2: strategy.mu: 0 is out of range (above 0 to 1000000)"},
        {"strategy: {name: fedavgm, beta: 1}",
         "p:2: strategy.beta: 1 is out of range (0 to below 1)"},
        {"strategy: {name: fedavgm, eta: 0}",
         "p:2: strategy.eta: 0 is out of range (above 0 to 1000)"},
        {"strategy: {name: fedadam, eta: -1}",
         "p:2: strategy.eta: -1 is out of range (above 0 to 1000)"},
        {"strategy: {name: fedadam, beta1: -1}",
         "p:2: strategy.beta1: -1 is out of range (0 to below 1)"},
        {"strategy: {name: fedadagrad, beta2: 0.9}",
         "p:2: strategy.beta2: is no key of strategy.name: fedadagrad"},
        {"strategy: {name: trimmed-mean, trim: 5}",
         "p:2: strategy.trim: 5 is out of range (0 to 4: a round has at least 10 updates)"},
        {"strategy: {name: trimmed-mean, trim: 3}\nselection: {quorum: 0.55}",
         "p:2: strategy.trim: 3 is out of range (0 to 2: a round has at least 6 updates)"},
        {"strategy: {name: krum, f: 8}",
         "p:2: strategy.f: 8 is out of range (krum needs f + 3 updates, a round has at least 10)"},
        {"strategy: {name: krum}\nselection: {clients_per_round: 2}",
         "p: strategy.f: 1 is out of range (krum needs f + 3 updates, a round has at least 2)"},
        {"strategy: {name: multi-krum, m: 11}",
         "p:2: strategy.m: 11 is out of range (0 to 10: a round has at least as many updates)"},
        {"strategy: {name: geometric-median, iterations: 0}",
         "p:2: strategy.iterations: 0 is out of range (1 to 100000)"},
        {"strategy: {name: geometric-median, nu: 0}",
         "p:2: strategy.nu: 0 is out of range (above 0 to 1000)"},
        {"strategy: {name: fednova}\ntrain: {momentum: 0.9}",
         "p:3: train.momentum: 0.9 is out of range (0 with fednova)"},
        {"strategy: {name: scaffold}\ntrain: {optimizer: adam}",
         "p:3: train.optimizer: adam is not available with scaffold (sgd is)"},
        {"strategy: {name: fedbuff, buffer: 0}",
         "p:2: strategy.buffer: 0 is out of range (1 to 100000)"},
        {"strategy: {name: fedbuff, buffer: 11}",
         "p:2: strategy.buffer: 11 is out of range (1 to 10, which is data.partition.clients)"},
        {"strategy: {name: fedbuff, staleness_power: -1}",
         "p:2: strategy.staleness_power: -1 is out of range (0 to 10)"},
        {"strategy: {name: fedavg, buffer: 3}",
         "p:2: strategy.buffer: is no key of strategy.name: fedavg"},
        {"strategy: {name: fedbuff, trim: 3}",
         "p:2: strategy.trim: is no key of strategy.name: fedbuff"},
        {"strategy: {name: fedbuff}\nselection: {over_select: 1.5}",
         "p:3: selection.over_select: 1.5 is out of range (1 with fedbuff: it asks one client at a time)"},
        {"strategy: {name: fedbuff}\nselection: {policy: file, path: x}",
         "p:3: selection.policy: file is not available with fedbuff (random and all are)"},
        {"strategy: {name: fedbuff}\ncalibration: {every: 2}",
         "p:3: calibration.every: 2 is out of range (0 with fedbuff, which has no pause between rounds)"},
        {"strategy: {name: scaffold}\naggregation: {clip_norm: 1}",
         "p:3: aggregation.clip_norm: 1 is out of range (0 with scaffold: variates follow from "
         "whole updates)"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[256];
        struct sl_plan p;
        struct sl_err err = {0};
        snprintf(text, sizeof(text), DATA "%s\n", cases[i].plan);
        assert_int_not_equal(try_plan(text, &p, &err), SL_OK);
        assert_string_equal(err.msg, cases[i].msg);
    }
}

static void pairs_of_updates_are_limited(void **state)
{
    struct sl_plan p;
    struct sl_err err = {0};
    assert_int_equal(try_plan("data: {dataset: csv, partition: {clients: 5000}}\n"
                              "strategy: {name: krum}\n", &p, &err),
                     SL_E_RANGE);
    assert_string_equal(err.msg, "p: selection.clients_per_round: 5000 is out of range (1 to 2000: "
                                 "krum compares every pair of updates)");
    parse("data: {dataset: csv, partition: {clients: 5000}}\nstrategy: {name: median}\n", &p);
    sl_plan_deinit(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_strategy_round_trips_with_its_own_keys),
        cmocka_unit_test(a_strategy_has_its_own_defaults),
        cmocka_unit_test(hyper_parameters_out_of_range_are_told_in_one_line),
        cmocka_unit_test(pairs_of_updates_are_limited),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
