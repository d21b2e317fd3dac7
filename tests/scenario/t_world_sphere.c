/* SPDX-License-Identifier: Apache-2.0 */
/* SphereFed in a federation with faults: the fixed head, and the calibration. */
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

/* Ternary layers take longer than this to learn anything: the run and its head must hold. */
static void ternary_layers_work_in_front_of_the_head(void **state)
{
    struct sl_plan p = plan_of(SPHERE "accelerator: {matmul: rtn}\n");
    struct outcome o = run_plan(&p, 2);
    assert_ok(&o);
    assert_int_equal(o.n_rounds, 4);
    sl_plan_deinit(&p);
}

static void every_unit_trains_towards_the_head(void **state)
{
    static const char *const all[] = {
        SPHERE "accelerator: {matmul: fast}\n",
        SPHERE "accelerator: {matmul: tr}\n",
        SPHERE "uplink: {encoding: bfp}\n",
        PLAN "model: {name: mlp, head: sphere, loss: cross-entropy}\n",
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        struct sl_plan p = plan_of(all[i]);
        struct outcome o = run_plan(&p, 2);
        assert_ok(&o);
        assert_true(o.accuracy > 0.2);
        sl_plan_deinit(&p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_run_with_a_fixed_head_ends_alike_whatever_happens),
        cmocka_unit_test(ternary_layers_work_in_front_of_the_head),
        cmocka_unit_test(every_unit_trains_towards_the_head),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
