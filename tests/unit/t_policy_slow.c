/* SPDX-License-Identifier: Apache-2.0 */
/* The shipped policy against its rivals, and F13 on the game of federations with real data: minutes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "accel/accel.h"
#include "sim/policy/train.h"

#define WORKERS 2

static struct world {
    struct sl_policy_plan plan;
    struct sl_workers *workers;
    struct sl_update_table *table;
} world;

static char *from_root(const char *name, char ret[1024])
{
    const char *root = getenv("SL_ROOT");
    assert_non_null(root);
    snprintf(ret, 1024, "%s/%s", root, name);
    return ret;
}

static int open_world(void **state)
{
    char path[1024];
    struct sl_err err = {.msg = ""};
    sl_accel_init();
    if (sl_policy_plan_load(from_root("plans/policies/fedmarl.yaml", path), NULL, 0, &world.plan,
                            &err) != SL_OK ||
        sl_workers_new(WORKERS, &world.workers, &err) != SL_OK ||
        sl_update_table_new(&world.plan, world.workers, NULL, NULL, &world.table, &err) != SL_OK)
        fail_msg("%s", err.msg);
    return 0;
}

static int close_world(void **state)
{
    sl_update_table_free(world.table);
    sl_workers_free(world.workers);
    return 0;
}

static struct sl_policy_training training_of(const struct sl_policy_plan *plan)
{
    return (struct sl_policy_training){
        .plan = plan, .table = world.table, .workers = world.workers};
}

static void compare(const struct sl_policy_plan *plan, const struct sl_fedmarl_policy *p,
                    struct sl_compare_row rows[SL_COMPARE_ROWS])
{
    const struct sl_policy_training t = training_of(plan);
    assert_int_equal(sl_policy_compare(&t, p, rows, NULL), SL_OK);
    for (int i = 0; i < SL_COMPARE_ROWS; i++)
        print_message("%-16s return %.3f late %.3f latency %.3f traffic %.3f lead %.3f +- %.3f\n",
                      rows[i].name, rows[i].reward, rows[i].late_accuracy,
                      rows[i].latency / rows[1].latency, rows[i].traffic / rows[1].traffic,
                      rows[i].lead, rows[i].lead_half);
}

static void the_shipped_policy_beats_every_rival_at_equal_bytes(void **state)
{
    char path[1024];
    struct sl_fedmarl_policy p;
    struct sl_compare_row rows[SL_COMPARE_ROWS];
    struct sl_err err = {.msg = ""};
    if (sl_fedmarl_policy_load(from_root("plans/policies/fedmarl.safetensors", path), &p, &err) !=
        SL_OK)
        fail_msg("%s", err.msg);
    compare(&world.plan, &p, rows);
    for (int i = 1; i < SL_COMPARE_ROWS; i++)
        assert_true(rows[i].lead > 0);
    assert_true(rows[0].latency < 0.7 * rows[1].latency && rows[0].traffic < 0.7 * rows[1].traffic);
    sl_fedmarl_policy_deinit(&p);
}

/* Mean acceptance and latency of a policy trained with these prices. */
static void train(double w2, double w3, double *ret_accepted, double *ret_latency)
{
    struct sl_policy_plan plan = world.plan;
    struct sl_fedmarl_policy p;
    struct sl_compare_row rows[SL_COMPARE_ROWS];
    struct sl_err err = {.msg = ""};
    plan.reward.w2 = w2;
    plan.reward.w3 = w3;
    plan.training.episodes = 160;
    sl_policy_plan_complete(&plan);
    const struct sl_policy_training t = training_of(&plan);
    if (sl_policy_train(&t, &p, &err) != SL_OK)
        fail_msg("%s", err.msg);
    print_message("w2 %g w3 %g\n", w2, w3);
    compare(&plan, &p, rows);
    *ret_accepted = rows[0].accepted;
    *ret_latency = rows[0].latency;
    sl_fedmarl_policy_deinit(&p);
}

static void prices_govern_acceptance_and_latency(void **state)
{
    static const double prices[] = {0, 0.1, 0.5, 5};
    double accepted[4], latency[4];
    for (int i = 0; i < 4; i++)
        train(0, prices[i], &accepted[i], &latency[i]);
    assert_true(accepted[0] > accepted[1] && accepted[1] > accepted[2] && accepted[2] > accepted[3]);
    assert_true(accepted[3] < 1.5);
    for (int i = 0; i < 4; i++)
        train(prices[i], 0, &accepted[i], &latency[i]);
    assert_true(latency[0] > latency[1] && latency[1] > latency[2] && latency[2] > latency[3]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_shipped_policy_beats_every_rival_at_equal_bytes),
        cmocka_unit_test(prices_govern_acceptance_and_latency),
    };
    return cmocka_run_group_tests(tests, open_world, close_world);
}
