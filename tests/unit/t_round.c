/* SPDX-License-Identifier: Apache-2.0 */
#include "server/round.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "common/rng.h"

static const uint32_t five[] = {2, 3, 5, 7, 11};

static struct sl_round open_five(uint32_t target, uint32_t quorum, uint32_t retries)
{
    struct sl_round r = {0};
    struct sl_err err;
    struct sl_round_cfg cfg = {target, quorum, 1000, retries};
    assert_int_equal(sl_round_open(&r, &cfg, 4, 0, five, 5, 100, 1000, &err), SL_OK);
    return r;
}

static enum sl_round_action step(struct sl_round *r, enum sl_round_event_kind kind, uint32_t client,
                                 uint64_t now)
{
    return sl_round_step(r, &(struct sl_round_event){kind, now, client, "it broke"});
}

static void round_closes_when_every_member_reported(void **state)
{
    struct sl_round r = open_five(0, 5, 0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(step(&r, SL_ROUND_EV_ACCEPTED, five[i], 200), SL_ROUND_NOTHING);
    assert_int_equal(step(&r, SL_ROUND_EV_ACCEPTED, 11, 200), SL_ROUND_COMMIT);
    assert_int_equal(r.state, SL_ROUND_CLOSED);
    sl_round_deinit(&r);
}

static void round_closes_at_the_deadline_with_quorum(void **state)
{
    struct sl_round r = open_five(0, 3, 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(step(&r, SL_ROUND_EV_ACCEPTED, five[i], 200), SL_ROUND_NOTHING);
    assert_int_equal(step(&r, SL_ROUND_EV_TIME, 0, 1099), SL_ROUND_NOTHING);
    assert_int_equal(step(&r, SL_ROUND_EV_TIME, 0, 1100), SL_ROUND_COMMIT);
    sl_round_deinit(&r);
}

static void round_without_quorum_is_repeated_with_the_same_members(void **state)
{
    struct sl_round r = open_five(0, 3, 1);
    step(&r, SL_ROUND_EV_ACCEPTED, 2, 200);
    step(&r, SL_ROUND_EV_TASKED, 3, 200);
    step(&r, SL_ROUND_EV_FAILED, 5, 200);
    assert_int_equal(step(&r, SL_ROUND_EV_TIME, 0, 1100), SL_ROUND_REPEAT);
    assert_int_equal(r.attempt, 1);
    assert_int_equal(r.deadline_at_ms, 2100);
    assert_int_equal(sl_round_member(&r, 2)->state, SL_MEMBER_ACCEPTED); /* it stays */
    assert_int_equal(sl_round_member(&r, 3)->state, SL_MEMBER_WAITING);
    assert_int_equal(sl_round_member(&r, 5)->state, SL_MEMBER_WAITING);
    assert_int_equal(step(&r, SL_ROUND_EV_TIME, 0, 2100), SL_ROUND_GIVE_UP);
    assert_int_equal(r.state, SL_ROUND_FAILED);
    sl_round_deinit(&r);
}

static void over_selection_closes_at_the_target(void **state)
{
    struct sl_round r = open_five(2, 1, 0);
    assert_int_equal(step(&r, SL_ROUND_EV_ACCEPTED, 7, 200), SL_ROUND_NOTHING);
    assert_int_equal(step(&r, SL_ROUND_EV_ACCEPTED, 3, 200), SL_ROUND_COMMIT);
    assert_int_equal(step(&r, SL_ROUND_EV_ACCEPTED, 2, 200), SL_ROUND_IGNORED);
    sl_round_deinit(&r);
}

static void failures_of_all_others_close_a_round_with_quorum(void **state)
{
    struct sl_round r = open_five(0, 2, 0);
    step(&r, SL_ROUND_EV_ACCEPTED, 2, 200);
    step(&r, SL_ROUND_EV_ACCEPTED, 3, 200);
    step(&r, SL_ROUND_EV_FAILED, 5, 200);
    step(&r, SL_ROUND_EV_FAILED, 7, 200);
    assert_int_equal(step(&r, SL_ROUND_EV_FAILED, 11, 200), SL_ROUND_COMMIT);
    assert_string_equal(sl_round_member(&r, 11)->reason, "it broke");
    sl_round_deinit(&r);
}

static void repeated_and_foreign_events_change_nothing(void **state)
{
    struct sl_round r = open_five(0, 5, 0);
    step(&r, SL_ROUND_EV_ACCEPTED, 2, 200);
    assert_int_equal(step(&r, SL_ROUND_EV_ACCEPTED, 2, 200), SL_ROUND_IGNORED);
    assert_int_equal(step(&r, SL_ROUND_EV_FAILED, 2, 200), SL_ROUND_IGNORED);
    assert_int_equal(step(&r, SL_ROUND_EV_TASKED, 2, 200), SL_ROUND_IGNORED);
    assert_int_equal(step(&r, SL_ROUND_EV_ACCEPTED, 4, 200), SL_ROUND_IGNORED);
    assert_int_equal(r.n_accepted, 1);
    assert_int_equal(step(&r, SL_ROUND_EV_LOST, 2, 200), SL_ROUND_NOTHING);
    assert_int_equal(r.n_accepted, 0);
    sl_round_deinit(&r);
}

static void members_must_be_ascending_and_quorum_within_them(void **state)
{
    struct sl_round r = {0};
    struct sl_err err;
    const uint32_t twice[] = {1, 1};
    struct sl_round_cfg cfg = {0, 1, 10, 0}, high = {0, 3, 10, 0};
    assert_int_equal(sl_round_open(&r, &cfg, 0, 0, twice, 2, 0, 10, &err), SL_E_RANGE);
    assert_int_equal(sl_round_open(&r, &high, 0, 0, five, 2, 0, 10, &err), SL_E_RANGE);
    assert_int_equal(sl_round_open(&r, &cfg, 0, 0, five, 0, 0, 10, &err), SL_E_RANGE);
    sl_round_deinit(&r);
}

/* Random events: the counts follow the members, a commit has its quorum, and no attempt outlives its
 * deadline. */
static void a_storm_of_events_keeps_the_invariants(void **state)
{
    for (uint32_t seed = 0; seed < 2000; seed++) {
        struct sl_rng g;
        sl_rng_init(&g, &(struct sl_rng_id){.seed = seed, .purpose = SL_RNG_TEST});
        uint32_t quorum = 1 + (uint32_t)sl_rng_below(&g, 5);
        struct sl_round r = open_five(sl_rng_below(&g, 2) ? 1 + (uint32_t)sl_rng_below(&g, 5) : 0,
                                      quorum, (uint32_t)sl_rng_below(&g, 3));
        uint64_t now = 100;
        for (int i = 0; i < 60 && r.state == SL_ROUND_OPEN; i++) {
            now += sl_rng_below(&g, 200);
            enum sl_round_event_kind kind = (enum sl_round_event_kind)sl_rng_below(&g, 5);
            uint64_t deadline = r.deadline_at_ms;
            enum sl_round_action a = step(&r, kind, (uint32_t)sl_rng_below(&g, 13), now);
            size_t accepted = 0, failed = 0;
            for (size_t k = 0; k < r.n_members; k++) {
                accepted += r.members[k].state == SL_MEMBER_ACCEPTED;
                failed += r.members[k].state == SL_MEMBER_FAILED;
            }
            assert_int_equal(accepted, r.n_accepted);
            assert_int_equal(failed, r.n_failed);
            if (a == SL_ROUND_COMMIT)
                assert_true(accepted >= quorum || (r.cfg.target > 0 && accepted >= r.cfg.target));
            if (kind == SL_ROUND_EV_TIME && now >= deadline)
                assert_true(a == SL_ROUND_COMMIT || a == SL_ROUND_REPEAT || a == SL_ROUND_GIVE_UP);
        }
        sl_round_deinit(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_closes_when_every_member_reported),
        cmocka_unit_test(round_closes_at_the_deadline_with_quorum),
        cmocka_unit_test(round_without_quorum_is_repeated_with_the_same_members),
        cmocka_unit_test(over_selection_closes_at_the_target),
        cmocka_unit_test(failures_of_all_others_close_a_round_with_quorum),
        cmocka_unit_test(repeated_and_foreign_events_change_nothing),
        cmocka_unit_test(members_must_be_ascending_and_quorum_within_them),
        cmocka_unit_test(a_storm_of_events_keeps_the_invariants),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
