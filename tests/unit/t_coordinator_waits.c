/* SPDX-License-Identifier: Apache-2.0 */
/* What the coordinator waits for: the time it asks to be woken at, also when no poll is held for a time
 * only, and what the store refused, which is tried again until it is done. */
#include "server/coordinator.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/core_rig.h"

static int setup(void **state)
{
    struct rig *r = malloc(sizeof(*r));
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

/* --- without polls that are held for a time only
 * ------------------------------------------------------ */

/* Round 0 is closed by both updates; its end, a job, opens round 1. */
static uint64_t open_by_a_job(struct rig *r, const struct rig_plan *p)
{
    r->env.poll_hold_ms = 0;
    uint64_t run = rig_start(r, p);
    r->holds = true;
    rig_give(r, 0, run, 0, 1);
    rig_give(r, 1, run, 0, 1);
    rig_sleep(r, 5000);
    rig_finish_all(r);
    rig_expect_run(r, "1 1 0 open");
    return run;
}

static void a_round_opened_by_a_job_ends_at_its_deadline(void **state)
{
    struct rig *r = *state;
    open_by_a_job(r, &(struct rig_plan){.quorum = 0.5});
    rig_sleep(r, 59999);
    rig_expect_run(r, "1 1 0 open");
    rig_sleep(r, 66000);
    rig_expect_run(r, "1 1 0 over");
}

static void a_round_opened_by_a_job_ends_at_its_deadline_with_a_quorum(void **state)
{
    struct rig *r = *state;
    uint64_t run = open_by_a_job(r, &(struct rig_plan){.quorum = 0.5});
    rig_give(r, 0, run, 1, 1);
    rig_finish_all(r);
    rig_sleep(r, 66000);
    rig_finish_all(r);
    rig_expect_run(r, "1 2 0 over");
}

static void a_run_ended_by_a_job_lets_the_next_begin(void **state)
{
    struct rig *r = *state;
    r->env.poll_hold_ms = 0;
    uint64_t run = rig_start(r, &(struct rig_plan){.rounds = 1});
    rig_submit(r, &(struct rig_plan){.rounds = 1});
    r->holds = true;
    rig_give(r, 0, run, 0, 1);
    rig_give(r, 1, run, 0, 1);
    rig_finish_all(r);
    rig_expect_run(r, "1 1 0 over");
    rig_sleep(r, 0);
    rig_expect_run(r, "2 0 0 open");
}

static void a_pause_that_is_lifted_is_seen(void **state)
{
    struct rig *r = *state;
    r->env.poll_hold_ms = 0;
    uint64_t run = rig_start(r, &(struct rig_plan){.rounds = 2});
    sl_coordinator_pause(r->c, true);
    rig_give(r, 0, run, 0, 1);
    rig_give(r, 1, run, 0, 1);
    rig_sleep(r, 5000);
    rig_expect_run(r, "1 1 0 paused");
    sl_coordinator_pause(r->c, false);
    rig_sleep(r, 5000);
    rig_expect_run(r, "1 1 0 open");
}

/* --- refused by the store
 * ---------------------------------------------------------------------------- */

static void a_run_whose_state_is_stored_late_goes_on_after_a_kill(void **state)
{
    struct rig *r = *state;
    r->ops->refuse[RIG_SET_RUN_STATE] = 1;
    uint64_t run = rig_start(r, &(struct rig_plan){.rounds = 3});
    rig_expect_run(r, "1 0 0 waiting for clients");
    rig_sleep(r, 2000);
    rig_give(r, 0, run, 0, 1);
    rig_give(r, 1, run, 0, 1);
    rig_expect_run(r, "1 1 0 open");
    rig_kill(r, false);
    rig_boot(r);
    assert_false(rig_fault(r));
    rig_expect_run(r, "1 1 0 open");
}

static void a_plan_is_queued_though_its_run_can_not_start_yet(void **state)
{
    struct rig *r = *state;
    r->ops->refuse[RIG_SET_RUN_STATE] = RIG_ALWAYS;
    uint64_t run = rig_start(r, &(struct rig_plan){0});
    assert_int_equal(run, 1);
    rig_sleep(r, 5000);
    assert_true(rig_fault(r));
    rig_expect_run(r, "1 0 0 waiting for clients");
    r->ops->refuse[RIG_SET_RUN_STATE] = 0;
    rig_sleep(r, 7000);
    assert_false(rig_fault(r));
    rig_expect_run(r, "1 0 0 open");
}

static void a_pending_poll_is_settled_when_the_store_can_say_again(void **state)
{
    struct rig *r = *state;
    r->env.poll_hold_ms = 0;
    uint64_t run = rig_start(r, &(struct rig_plan){.rounds = 1});
    rig_give(r, 0, run, 0, 1);
    rig_give(r, 1, run, 0, 1);
    r->ops->refuse[RIG_WAS_INCLUDED] = 2;
    sl_request_id id = rig_poll_pending(r, 0, run, 0);
    assert_false(rig_answered(r, id));
    rig_sleep(r, 1000);
    assert_false(rig_answered(r, id));
    rig_sleep(r, 2000);
    const struct sl_msg *m = rig_answer(r, id, SL_MSG_POLL_REPLY);
    assert_true(m->poll_reply.has_settled && m->poll_reply.settled_committed);
}

/* Somebody asks every half second. */
static void what_failed_is_tried_again_however_much_is_asked_meanwhile(void **state)
{
    struct rig *r = *state;
    r->env.poll_hold_ms = 0;
    rig_boot(r);
    rig_enrol(r, 0, 3);
    r->ops->refuse[RIG_ROUND_OPEN] = 1;
    rig_submit(r, &(struct rig_plan){.rounds = 1});
    for (int i = 0; i < 8; i++) {
        assert_true(rig_fault(r) == (i < 2));
        rig_sleep(r, r->now + 500);
        rig_poll(r, 2);
    }
    rig_expect_run(r, "1 0 0 open");
}

static void a_repeat_that_is_journalled_late_is_told_then(void **state)
{
    struct rig *r = *state;
    r->env.poll_hold_ms = 0;
    uint64_t run = rig_start(r, &(struct rig_plan){.rounds = 1, .quorum = 1, .retries = 1});
    rig_sleep(r, 59000);
    struct sl_msg failed = {.kind = SL_MSG_TASK_FAILED};
    failed.task_failed.run_id = run;
    rig_send(r, 0, &failed);
    sl_request_id poll = rig_poll(r, 0);
    r->ops->refuse[RIG_ROUND_OPEN] = 1;
    rig_sleep(r, 60999);
    rig_expect_run(r, "1 0 1 open");
    assert_true(rig_fault(r));
    assert_false(rig_answered(r, poll));
    rig_sleep(r, 61000);
    assert_false(rig_fault(r));
    assert_int_equal(rig_answer(r, poll, SL_MSG_POLL_REPLY)->poll_reply.task.attempt, 1);
    assert_int_equal(rig_task(r, 1).attempt, 1);
}

static void a_repeat_that_is_journalled_late_is_not_repeated_once_more(void **state)
{
    struct rig *r = *state;
    rig_start(r, &(struct rig_plan){.rounds = 1, .quorum = 0.5, .retries = 1});
    r->ops->refuse[RIG_ROUND_OPEN] = 1;
    rig_sleep(r, 70000);
    rig_expect_run(r, "1 0 1 open");
    rig_kill(r, false);
    rig_boot(r);
    rig_expect_run(r, "1 0 1 open");
    rig_sleep(r, 131000);
    rig_expect_run(r, "1 0 1 over");
}

static void a_repeat_that_was_never_journalled_has_its_whole_time_after_a_kill(void **state)
{
    struct rig *r = *state;
    uint64_t run = rig_start(r, &(struct rig_plan){.rounds = 1, .retries = 1});
    rig_give(r, 0, run, 0, 1);
    rig_sleep(r, 59500);
    r->ops->refuse[RIG_ROUND_OPEN] = RIG_ALWAYS;
    rig_sleep(r, 70000);
    rig_expect_run(r, "1 0 1 open");
    sl_request_id put = rig_give(r, 1, run, 0, 1);
    assert_false(rig_answered(r, put)); /* not acknowledged before the attempt is journalled */
    rig_kill(r, false);
    r->ops->refuse[RIG_ROUND_OPEN] = 0;
    rig_boot(r);
    rig_sleep(r, 72000);
    rig_expect_run(r, "1 0 1 open");
    rig_give(r, 1, run, 0, 1);
    rig_expect_run(r, "1 1 1 over");
}

static void an_included_update_is_not_called_stale_when_the_store_can_not_say(void **state)
{
    struct rig *r = *state;
    uint64_t run = rig_start(r, &(struct rig_plan){.rounds = 2});
    rig_give(r, 0, run, 0, 1);
    rig_give(r, 1, run, 0, 1);
    rig_expect_run(r, "1 1 0 open");
    r->ops->refuse[RIG_WAS_INCLUDED] = 1;
    sl_request_id id = rig_give(r, 1, run, 0, 1);
    assert_false(rig_answered(r, id));
    assert_true(rig_fault(r));
    rig_sleep(r, 1000);
    rig_expect_put(r, id, SL_PUT_MORE, "");
    rig_expect_put(r, rig_give(r, 1, run, 0, 1), SL_PUT_ACCEPTED, "");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_round_opened_by_a_job_ends_at_its_deadline),
        TEST(a_round_opened_by_a_job_ends_at_its_deadline_with_a_quorum),
        TEST(a_run_ended_by_a_job_lets_the_next_begin),
        TEST(a_pause_that_is_lifted_is_seen),
        TEST(a_run_whose_state_is_stored_late_goes_on_after_a_kill),
        TEST(a_plan_is_queued_though_its_run_can_not_start_yet),
        TEST(a_pending_poll_is_settled_when_the_store_can_say_again),
        TEST(what_failed_is_tried_again_however_much_is_asked_meanwhile),
        TEST(a_repeat_that_is_journalled_late_is_told_then),
        TEST(a_repeat_that_is_journalled_late_is_not_repeated_once_more),
        TEST(a_repeat_that_was_never_journalled_has_its_whole_time_after_a_kill),
        TEST(an_included_update_is_not_called_stale_when_the_store_can_not_say),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
