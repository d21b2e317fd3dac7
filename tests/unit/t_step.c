/* SPDX-License-Identifier: Apache-2.0 */
/* Strategies inside the coordinator: what becomes of spooled updates when a round is closed. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/core_rig.h"

static int setup(void **state)
{
    struct rig *r = calloc(1, sizeof(*r));
    rig_init(r);
    *state = r;
    return 0;
}

static int teardown(void **state)
{
    rig_deinit(*state);
    free(*state);
    return 0;
}

/* n clients give constant updates of these values, in another order than theirs. */
static void give_all(struct rig *r, uint64_t run, uint32_t round, const float *values, uint32_t n)
{
    for (uint32_t i = n; i-- > 0;)
        rig_expect_put(r, rig_give(r, i, run, round, values[i]), SL_PUT_ACCEPTED, "");
    rig_finish_all(r);
}

static void the_median_is_taken_of_the_spooled_updates(void **state)
{
    struct rig *r = *state;
    const float values[] = {7, -1, 2, 0.5f, 1};
    for (int wide = 0; wide < 2; wide++) {
        struct rig_plan p = {.rounds = 1,
                             .clients = 5,
                             .shape = wide ? RIG_WIDE : RIG_SMALL,
                             .more = "strategy: {name: median}\n"};
        uint64_t run = wide ? rig_submit(r, &p) : rig_start(r, &p);
        float was = rig_value(r);
        give_all(r, run, 0, values, 5);
        assert_true(rig_value(r) == was + 1);
        rig_time(r, r->now + 1);
    }
}

static void krum_ignores_the_far_one(void **state)
{
    struct rig *r = *state;
    const float values[] = {0.5f, 0.75f, -8, 0.5f, 1};
    struct rig_plan p = {.rounds = 1, .clients = 5, .more = "strategy: {name: krum, f: 1}\n"};
    uint64_t run = rig_start(r, &p);
    float was = rig_value(r);
    give_all(r, run, 0, values, 5);
    assert_true(rig_value(r) == was + 0.5f);
}

static void a_spool_that_fails_is_read_again(void **state)
{
    struct rig *r = *state;
    struct rig_plan p = {.rounds = 1, .clients = 3, .more = "strategy: {name: median}\n"};
    uint64_t run = rig_start(r, &p);
    float was = rig_value(r);
    r->ops->pass[RIG_SPOOL_READ] = 1;
    r->ops->refuse[RIG_SPOOL_READ] = 1;
    const float values[] = {1, 5, 2};
    give_all(r, run, 0, values, 3);
    assert_true(rig_value(r) == was);
    rig_time(r, r->now + 1000);
    rig_finish_all(r);
    assert_true(rig_value(r) == was + 2);
}

/* The plan promises five updates; only three clients ever enrol. */
static void a_rule_short_of_updates_ends_the_run_with_the_reason(void **state)
{
    struct rig *r = *state;
    struct rig_plan p = {.rounds = 1,
                         .clients = 5,
                         .run = ", min_clients: 3",
                         .more = "strategy: {name: trimmed-mean, trim: 2}\n"};
    rig_boot(r);
    rig_enrol(r, 0, 3);
    uint64_t run = rig_submit(r, &p);
    const float values[] = {1, 2, 3};
    give_all(r, run, 0, values, 3);
    const json_t *end = rig_line(r, "run_end", 0);
    assert_true(json_is_true(json_object_get(end, "failed")));
    assert_string_equal(rig_text(end, "reason"),
                        "trimmed-mean needs 5 updates, the round has 3");
}

/* 111 values of 1: a norm of sqrt(111) */
static void long_updates_are_clipped_and_short_ones_left(void **state)
{
    struct rig *r = *state;
    struct rig_plan p = {.rounds = 1, .more = "aggregation: {clip_norm: 2}\n"};
    uint64_t run = rig_start(r, &p);
    double was = (double)rig_value(r);
    const float values[] = {1, 0.125f};
    give_all(r, run, 0, values, 2);
    double want = (2 / sqrt(111) + 0.125) / 2;
    assert_true(fabs((double)rig_value(r) - was - want) < 1e-6);
}

static void updates_of_several_chunks_are_clipped_as_a_whole(void **state)
{
    struct rig *r = *state;
    const char *const strategies[] = {"fedavg", "median"};
    for (size_t i = 0; i < 2; i++) {
        char more[96];
        snprintf(more, sizeof(more), "strategy: {name: %s}\naggregation: {clip_norm: 10}\n",
                 strategies[i]);
        struct rig_plan p = {.rounds = 1, .shape = RIG_WIDE, .more = more};
        uint64_t run = i > 0 ? rig_submit(r, &p) : rig_start(r, &p);
        double was = (double)rig_value(r);
        const float values[] = {1, 3};
        give_all(r, run, 0, values, 2);
        assert_true(fabs((double)rig_value(r) - was - 10 / sqrt(132483)) < 1e-6);
        rig_time(r, r->now + 1);
    }
}

static void momentum_is_restored_with_its_round(void **state)
{
    struct rig *r = *state;
    struct rig_plan p = {.rounds = 3,
                         .more = "strategy: {name: fedavgm, beta: 0.5, eta: 1}\n"};
    uint64_t run = rig_start(r, &p);
    double was = (double)rig_value(r), v = 0, w = 0;
    for (uint32_t round = 0; round < 3; round++) {
        const float values[] = {(float)(round + 1), (float)(round + 1)};
        give_all(r, run, round, values, 2);
        v = 0.5 * v + round + 1;
        w += v;
        assert_true(fabs((double)rig_value(r) - was - w) < 1e-5);
        if (round == 2)
            break;
        rig_kill(r, true);
        rig_boot(r);
    }
}

/* Every model is as accurate as the first: adding the same to all weights moves no class ahead. */
static void the_earliest_of_the_best_models_is_kept(void **state)
{
    struct rig *r = *state;
    struct rig_plan p = {.rounds = 5};
    const float values[] = {1, 1};
    const struct sl_layout *layout;
    struct sl_err err = {0};
    float *best = NULL;
    rig_boot(r);
    assert_int_equal(sl_coordinator_best(r->c, &best, &layout, &err), SL_E_NOTFOUND);
    rig_kill(r, false);
    uint64_t run = rig_start(r, &p);
    float was = rig_value(r);
    assert_int_equal(sl_coordinator_best(r->c, &best, &layout, &err), SL_E_NOTFOUND);
    for (uint32_t round = 0; round < 5; round++) {
        give_all(r, run, round, values, 2);
        if (round == 2) {
            rig_kill(r, true);
            rig_boot(r);
        }
        assert_true(fabs((double)rig_value(r) - (double)was - round - 1) < 1e-5);
        assert_int_equal(sl_coordinator_best(r->c, &best, &layout, &err), SL_OK);
        assert_true(best[0] == was + 1);
        free(best);
    }
    const json_t *told = json_object_get(rig_line(r, "run_end", 0), "best");
    assert_int_equal(rig_integer(told, "round"), 0);
}

static void a_run_without_evaluation_has_no_best_model(void **state)
{
    struct rig *r = *state;
    struct rig_plan p = {.rounds = 1, .more = "evaluation: {where: clients}\n"};
    const float values[] = {1, 1};
    const struct sl_layout *layout;
    struct sl_err err = {0};
    float *best = NULL;
    uint64_t run = rig_start(r, &p);
    give_all(r, run, 0, values, 2);
    assert_true(json_is_null(json_object_get(rig_line(r, "run_end", 0), "best")));
    assert_int_equal(sl_coordinator_best(r->c, &best, &layout, &err), SL_E_NOTFOUND);
    assert_string_equal(err.msg, "no best model: the coordinator has evaluated none "
                                 "(run.eval_every, evaluation.where)");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_median_is_taken_of_the_spooled_updates),
        TEST(krum_ignores_the_far_one),
        TEST(a_spool_that_fails_is_read_again),
        TEST(a_rule_short_of_updates_ends_the_run_with_the_reason),
        TEST(long_updates_are_clipped_and_short_ones_left),
        TEST(updates_of_several_chunks_are_clipped_as_a_whole),
        TEST(momentum_is_restored_with_its_round),
        TEST(the_earliest_of_the_best_models_is_kept),
        TEST(a_run_without_evaluation_has_no_best_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
