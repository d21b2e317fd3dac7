/* SPDX-License-Identifier: Apache-2.0 */
/* The same plan and seed end with the same model, whatever happens on the way. */
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

/* A3's shape (20 clients, 5 a round, lenet, everybody must report) on little data. */
static struct sl_plan lenet_plan(void)
{
    return plan_of(
        "run: {name: equal, seed: 3, rounds: 3, eval_every: 1}\n"
        "data:\n"
        "  dataset: synthetic\n"
        "  path: \"train=400,test=50\"\n"
        "  partition: {kind: dirichlet, alpha: 0.5, clients: 20, min_size: 5}\n"
        "model: {name: lenet}\n"
        "train: {epochs: 1, batch_size: 8, lr: 0.05}\n"
        "selection: {clients_per_round: 5, deadline_s: 600, quorum: 1.0}\n");
}

static void worker_threads_change_nothing(void **state)
{
    struct sl_plan p = lenet_plan();
    struct outcome one = run_plan(&p, 1), two = run_plan(&p, 2), four = run_plan(&p, 4);
    assert_ok(&one);
    assert_ok(&two);
    assert_string_equal(one.digest, two.digest);
    assert_string_equal(one.digest, four.digest);
    assert_int_equal(one.stats.steps, two.stats.steps);
    assert_int_equal(one.stats.wire_bytes, four.stats.wire_bytes);
    assert_int_equal(strlen(one.digest), SL_DIGEST_HEX - 1);
    sl_plan_deinit(&p);
}

static void delayed_uploads_change_nothing(void **state)
{
    struct sl_plan p = lenet_plan();
    struct outcome calm = run_plan(&p, 2);
    p.sim.faults.delay = 1;
    p.sim.faults.delay_ms = 3000;
    struct outcome late = run_plan(&p, 2);
    p.sim.faults.seed = 99;
    struct outcome otherwise = run_plan(&p, 2);
    assert_ok(&calm);
    assert_ok(&late);
    assert_ok(&otherwise);
    assert_true(late.stats.virtual_s > calm.stats.virtual_s);
    assert_string_equal(calm.digest, late.digest);
    assert_string_equal(calm.digest, otherwise.digest);
    sl_plan_deinit(&p);
}

static void slow_and_uneven_devices_and_links_change_nothing(void **state)
{
    struct sl_plan p = small_plan();
    struct outcome even = run_plan(&p, 1);
    strcpy(p.sim.world.device, "lognormal");
    strcpy(p.sim.world.network, "lognormal");
    p.sim.world.device_sigma = p.sim.world.network_sigma = 1;
    p.sim.world.up_mbit = 1;
    struct outcome uneven = run_plan(&p, 1);
    assert_ok(&even);
    assert_ok(&uneven);
    assert_true(even.stats.virtual_s != uneven.stats.virtual_s);
    assert_string_equal(even.digest, uneven.digest);
    sl_plan_deinit(&p);
}

/* Kills and lost messages end with the calm run's model. */
static void survive(struct sl_plan *plan)
{
    struct sl_plan p = *plan;
    struct outcome calm = run_plan(&p, 2);
    assert_ok(&calm);
    p.sim.faults.coordinator_kills = 4;
    p.sim.faults.client_kills = 4;
    p.sim.faults.drop = p.sim.faults.duplicate = p.sim.faults.reorder = 0.1;
    p.sim.faults.disconnect = 0.02;
    uint32_t kills = 0; /* an instant drawn behind the end of its round does not come */
    for (uint64_t seed = 1; seed <= 4; seed++) {
        p.sim.faults.seed = seed;
        p.sim.faults.power_loss = seed % 2 == 0;
        struct outcome stormy = run_plan(&p, 2);
        assert_ok(&stormy);
        assert_true(stormy.stats.coordinator_kills >= 1);
        kills += stormy.stats.coordinator_kills;
        assert_string_equal(calm.digest, stormy.digest);
    }
    assert_true(kills >= 8);
}

static void kills_and_lost_messages_change_nothing_when_all_must_report(void **state)
{
    struct sl_plan p = lenet_plan();
    survive(&p);
    sl_plan_deinit(&p);
}

static void encoded_updates_and_what_clients_carry_over_survive_kills(void **state)
{
    const struct sl_codec_options uplinks[] = {
        {.encoding = SL_ENC_TERNARY, .error_feedback = true},
        {.encoding = SL_ENC_BFP, .m = 4},
    };
    for (size_t i = 0; i < sizeof(uplinks) / sizeof(uplinks[0]); i++) {
        struct sl_plan p = lenet_plan();
        p.run.rounds = 5;
        p.selection.clients_per_round = 12; /* most take part again */
        p.uplink = uplinks[i];
        survive(&p);
        sl_plan_deinit(&p);
    }
}

static void error_feedback_carries_over(void **state)
{
    struct sl_plan p = lenet_plan();
    p.selection.clients_per_round = 20;
    p.uplink = (struct sl_codec_options){.encoding = SL_ENC_TERNARY, .error_feedback = true};
    struct outcome with = run_plan(&p, 2);
    p.uplink.error_feedback = false;
    struct outcome without = run_plan(&p, 2);
    assert_ok(&with);
    assert_ok(&without);
    assert_string_not_equal(with.digest, without.digest);
    sl_plan_deinit(&p);
}

static void another_seed_gives_another_model(void **state)
{
    struct sl_plan p = small_plan();
    struct outcome a = run_plan(&p, 1);
    p.run.seed = 2;
    struct outcome b = run_plan(&p, 1);
    assert_ok(&a);
    assert_ok(&b);
    assert_string_not_equal(a.digest, b.digest);
    sl_plan_deinit(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(worker_threads_change_nothing),
        cmocka_unit_test(delayed_uploads_change_nothing),
        cmocka_unit_test(slow_and_uneven_devices_and_links_change_nothing),
        cmocka_unit_test(kills_and_lost_messages_change_nothing_when_all_must_report),
        cmocka_unit_test(encoded_updates_and_what_clients_carry_over_survive_kills),
        cmocka_unit_test(error_feedback_carries_over),
        cmocka_unit_test(another_seed_gives_another_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
