/* SPDX-License-Identifier: Apache-2.0 */
/* Asynchronous aggregation in the coordinator's core: who is given which version, what becomes of updates
 * that come early, late, twice, stale or not at all, and what the store may refuse. */
#include "server/coordinator.h"

#include <inttypes.h>
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

#define BUFFER_OF_2 "strategy: {name: fedbuff, buffer: 2}\naggregation: {weighting: uniform}\n"

/* The client that a version's task was given to, of those not excluded; fails when there is none. */
static uint32_t given(struct rig *r, uint32_t clients, uint32_t round, uint32_t not_among)
{
    for (uint32_t k = 0; k < clients; k++) {
        struct sl_task_order o = {0};
        if ((not_among & 1u << k) == 0)
            o = rig_task(r, k);
        if (o.kind == SL_TASK_TRAIN) {
            assert_int_equal(o.round, round);
            return k;
        }
    }
    fail_msg("nobody is given a task of version %" PRIu32, round);
    return 0;
}

static sl_request_id push(struct rig *r, uint32_t client, uint64_t run, uint32_t round, float value)
{
    struct rig_update u = rig_update(r, run, round, value);
    u.meta.weight = 1;
    sl_request_id id = rig_put(r, client, &u);
    rig_update_deinit(&u);
    return id;
}

static json_int_t nth(const json_t *line, const char *key, size_t i)
{
    return json_integer_value(json_array_get(json_object_get(line, key), i));
}

/* Three clients, all under way, two make a buffer: the third one's update is a version old. */
static void an_update_counts_by_its_age(void **state)
{
    struct rig *r = *state;
    const struct rig_plan plan = {.clients = 3, .rounds = 2, .more = BUFFER_OF_2};
    uint64_t run = rig_start(r, &plan);
    float was = rig_value(r);
    for (uint32_t k = 0; k < 3; k++)
        assert_int_equal(rig_task(r, k).round, 0);
    rig_expect_put(r, push(r, 0, run, 0, 1), SL_PUT_ACCEPTED, "");
    assert_int_equal(rig_task(r, 0).kind, SL_TASK_NONE); /* it waits in the buffer */
    rig_expect_put(r, push(r, 1, run, 0, 3), SL_PUT_ACCEPTED, "");
    assert_true(fabsf(rig_value(r) - (was + 2)) < 1e-6f);
    rig_expect_run(r, "1 1 0 open");
    rig_expect_put(r, push(r, 2, run, 0, 1), SL_PUT_ACCEPTED, "");
    assert_int_equal(rig_task(r, 0).round, 1);
    rig_expect_put(r, push(r, 0, run, 1, 1), SL_PUT_ACCEPTED, "");
    const json_t *line = rig_line(r, "round", 1);
    assert_true(nth(line, "included", 0) == 2 && nth(line, "starts", 0) == 0);
    assert_true(nth(line, "included", 1) == 0 && nth(line, "starts", 1) == 1);
    assert_true(fabs(rig_value(r) - (was + 2 + (sqrt(0.5) + 1) / 2)) < 1e-5);
    assert_string_equal(rig_text(rig_line(r, "run_end", 0), "reason"), "all rounds done");
}

static void a_client_has_one_task_and_a_place_is_given_anew(void **state)
{
    struct rig *r = *state;
    const struct rig_plan plan = {.clients = 6, .per_round = 2, .rounds = 2, .more = BUFFER_OF_2};
    uint64_t run = rig_start(r, &plan);
    uint32_t a = given(r, 6, 0, 0), b = given(r, 6, 0, 1u << a), n = 0;
    for (uint32_t k = 0; k < 6; k++)
        n += rig_task(r, k).kind == SL_TASK_TRAIN;
    assert_int_equal(n, 2); /* places */
    rig_expect_put(r, push(r, a, run, 0, 1), SL_PUT_ACCEPTED, "");
    uint32_t c = given(r, 6, 0, 1u << a | 1u << b);
    rig_expect_put(r, push(r, c, run, 0, 1), SL_PUT_ACCEPTED, "");
    rig_expect_put(r, push(r, a, run, 0, 1), SL_PUT_ACCEPTED, ""); /* again: it is in */
    rig_expect_put(r, push(r, a, run, 1, 1), SL_PUT_STALE, "round 1 is not open");
    rig_expect_run(r, "1 1 0 open");
    rig_expect_member(r, b, "tasked", "");
}

static void a_held_poll_is_answered_when_its_client_is_drawn(void **state)
{
    struct rig *r = *state;
    const struct rig_plan plan = {.clients = 3, .per_round = 1, .rounds = 3, .more = BUFFER_OF_2};
    uint64_t run = rig_start(r, &plan);
    uint32_t a = given(r, 3, 0, 0);
    sl_request_id poll[3];
    for (uint32_t k = 0; k < 3; k++)
        poll[k] = k == a ? 0 : rig_poll(r, k);
    push(r, a, run, 0, 1);
    uint32_t n = 0;
    for (uint32_t k = 0; k < 3; k++)
        n += k != a && rig_answered(r, poll[k]);
    assert_int_equal(n, 1);
}

/* While version 0 is being committed an update of it comes, which goes into the next buffer. */
static void an_update_that_comes_during_a_commit_goes_into_the_next_buffer(void **state)
{
    struct rig *r = *state;
    const struct rig_plan plan = {.clients = 3, .rounds = 2, .more = BUFFER_OF_2};
    uint64_t run = rig_start(r, &plan);
    for (uint32_t k = 0; k < 3; k++)
        rig_task(r, k);
    push(r, 0, run, 0, 1);
    r->holds = true;
    push(r, 1, run, 0, 1);
    rig_expect_run(r, "1 0 0 finalising");
    sl_request_id early = push(r, 2, run, 0, 1), again = push(r, 2, run, 0, 1);
    rig_expect_put(r, early, SL_PUT_MORE, ""); /* the later request gets the answer */
    assert_false(rig_answered(r, again));
    rig_finish_all(r);
    rig_expect_put(r, again, SL_PUT_ACCEPTED, "");
    rig_expect_member(r, 2, "accepted", "");
    push(r, 0, run, 1, 1);
    rig_finish_all(r);
    assert_int_equal(nth(rig_line(r, "round", 1), "starts", 0), 0);
}

/* Of several chunks: the check ends in the next version. */
static void a_check_that_ends_in_the_next_version_counts_there(void **state)
{
    struct rig *r = *state;
    const struct rig_plan plan = {.clients = 3, .rounds = 2, .shape = RIG_TWO, .more = BUFFER_OF_2};
    uint64_t run = rig_start(r, &plan);
    for (uint32_t k = 0; k < 3; k++)
        rig_task(r, k);
    push(r, 0, run, 0, 1);
    r->holds = true;
    sl_request_id late = push(r, 2, run, 0, 1);
    sl_request_id id = push(r, 1, run, 0, 1);
    rig_finish(r, 1); /* client 1's check: the buffer is full */
    while (r->n_jobs > 1)
        rig_finish(r, 1);
    rig_expect_put(r, id, SL_PUT_ACCEPTED, "");
    rig_expect_run(r, "1 1 0 open");
    assert_false(rig_answered(r, late));
    rig_finish_all(r);
    rig_expect_put(r, late, SL_PUT_ACCEPTED, "");
    rig_expect_member(r, 2, "accepted", "");
}

static void a_task_that_is_overdue_is_given_up_and_another_client_drawn(void **state)
{
    struct rig *r = *state;
    const struct rig_plan plan = {.clients = 4, .per_round = 2, .rounds = 2, .retries = 3,
                                  .more = BUFFER_OF_2};
    uint64_t run = rig_start(r, &plan);
    uint32_t a = given(r, 4, 0, 0), b = given(r, 4, 0, 1u << a);
    rig_sleep(r, 30000);
    push(r, a, run, 0, 1);
    uint32_t c = given(r, 4, 0, 1u << a | 1u << b);
    rig_sleep(r, 59999);
    rig_expect_member(r, b, "tasked", "");
    rig_time(r, 60000); /* b's deadline, and the buffer's: its second attempt */
    rig_expect_run(r, "1 0 1 open");
    uint32_t d = given(r, 4, 0, 1u << a | 1u << b | 1u << c);
    push(r, d, run, 0, 1);
    rig_expect_run(r, "1 1 0 open");
    rig_expect_put(r, push(r, b, run, 0, 1), SL_PUT_STALE, "round 0 is not open");
    rig_expect_put(r, push(r, c, run, 0, 1), SL_PUT_ACCEPTED, ""); /* its own deadline is later */
}

static void a_failed_task_is_over_until_the_next_version(void **state)
{
    struct rig *r = *state;
    const struct rig_plan plan = {.clients = 3, .per_round = 1, .rounds = 2, .more = BUFFER_OF_2};
    uint64_t run = rig_start(r, &plan);
    uint32_t a = given(r, 3, 0, 0);
    struct sl_msg m = {.kind = SL_MSG_TASK_FAILED};
    m.task_failed.run_id = run;
    snprintf(m.task_failed.reason, sizeof(m.task_failed.reason), "no memory");
    rig_send(r, a, &m);
    rig_expect_member(r, a, "failed", "no memory");
    uint32_t b = given(r, 3, 0, 1u << a);
    rig_expect_put(r, push(r, b, run, 0, NAN), SL_PUT_REJECTED, "NaN");
    uint32_t c = given(r, 3, 0, 1u << a | 1u << b);
    push(r, c, run, 0, 1);
    rig_time(r, 60000); /* nobody is left; no retries */
    assert_string_equal(rig_text(rig_line(r, "run_end", 0), "reason"),
                        "round 0: 1 of 2 updates after 1 attempts, quorum is 2");
}

/* A client that lost its training begins anew, from the version at hand; one that kept its update pushes it. */
static void a_client_that_lost_its_training_gets_the_version_at_hand(void **state)
{
    struct rig *r = *state;
    const struct rig_plan plan = {.clients = 4, .rounds = 3, .more = BUFFER_OF_2};
    uint64_t run = rig_start(r, &plan);
    struct sl_task_order first = {0};
    for (uint32_t k = 0; k < 4; k++)
        first = rig_task(r, k);
    assert_int_equal(rig_task(r, 2).round, 0); /* its model is still there */
    push(r, 0, run, 0, 1);
    push(r, 1, run, 0, 1);
    const struct sl_msg *kept =
        rig_answer(r, rig_poll_pending(r, 3, run, 0), SL_MSG_POLL_REPLY);
    assert_int_equal(kept->poll_reply.task.round, 0);
    assert_memory_equal(&kept->poll_reply.task.model, &first.model, sizeof(first.model));
    assert_int_equal(kept->attachment_bytes, 0);
    struct sl_task_order anew = rig_task(r, 2);
    assert_int_equal(anew.round, 1);
    assert_memory_not_equal(&anew.model, &first.model, sizeof(first.model));
    rig_expect_put(r, push(r, 2, run, 0, 1), SL_PUT_STALE, "round 0 is not open");
    rig_expect_put(r, push(r, 3, run, 0, 1), SL_PUT_ACCEPTED, "");
    rig_expect_put(r, push(r, 2, run, 1, 1), SL_PUT_ACCEPTED, "");
    rig_expect_run(r, "1 2 0 open");
}

static void polls_learn_what_became_of_an_update_of_any_version(void **state)
{
    struct rig *r = *state;
    const struct rig_plan plan = {.clients = 4, .rounds = 3, .more = BUFFER_OF_2};
    uint64_t run = rig_start(r, &plan);
    for (uint32_t k = 0; k < 4; k++)
        rig_task(r, k);
    push(r, 0, run, 0, 1);
    sl_request_id waits = rig_poll_pending(r, 0, run, 0);
    assert_false(rig_answered(r, waits));
    push(r, 1, run, 0, 1);
    const struct sl_msg *m = rig_answer(r, waits, SL_MSG_POLL_REPLY);
    assert_true(m->poll_reply.has_settled && m->poll_reply.settled_committed);
    assert_int_equal(m->poll_reply.task.round, 1); /* and what is next */
    push(r, 2, run, 0, 1); /* a version old */
    push(r, 3, run, 0, 1);
    m = rig_answer(r, rig_poll_pending(r, 2, run, 0), SL_MSG_POLL_REPLY);
    assert_true(m->poll_reply.has_settled && m->poll_reply.settled_committed);
    m = rig_answer(r, rig_poll_pending(r, 2, run, 1), SL_MSG_POLL_REPLY);
    assert_true(m->poll_reply.has_settled && !m->poll_reply.settled_committed); /* of no task */
}

static void a_kill_keeps_tasks_and_accepted_updates_of_every_version(void **state)
{
    struct rig *r = *state;
    const struct rig_plan plan = {.clients = 4, .rounds = 2, .more = BUFFER_OF_2};
    uint64_t run = rig_start(r, &plan);
    for (uint32_t k = 0; k < 4; k++)
        rig_task(r, k);
    push(r, 0, run, 0, 1);
    push(r, 1, run, 0, 1);
    rig_expect_put(r, push(r, 2, run, 0, 1), SL_PUT_ACCEPTED, "");
    rig_kill(r, false);
    rig_boot(r);
    rig_expect_run(r, "1 1 0 open");
    rig_expect_member(r, 2, "accepted", "");
    assert_int_equal(rig_answer(r, rig_poll_pending(r, 3, run, 0), SL_MSG_POLL_REPLY)->poll_reply.task.round,
                     0);
    rig_expect_put(r, push(r, 3, run, 0, 1), SL_PUT_ACCEPTED, "");
    const json_t *line = rig_line(r, "round", 1);
    assert_true(nth(line, "included", 0) == 2 && nth(line, "starts", 0) == 0);
    assert_true(nth(line, "included", 1) == 3 && nth(line, "starts", 1) == 0);
}

/* The journal lost the task and the update; the client kept it. */
static void after_a_power_cut_what_clients_kept_is_asked_for_again(void **state)
{
    struct rig *r = *state;
    const struct rig_plan plan = {.clients = 6, .per_round = 2, .rounds = 2, .more = BUFFER_OF_2};
    uint64_t run = rig_start(r, &plan);
    uint32_t a = given(r, 6, 0, 0);
    push(r, a, run, 0, 1);
    rig_kill(r, true);
    rig_boot(r);
    const struct sl_msg *m = rig_answer(r, rig_poll_pending(r, a, run, 0), SL_MSG_POLL_REPLY);
    assert_false(m->poll_reply.has_settled);
    assert_int_equal(m->poll_reply.task.kind, SL_TASK_TRAIN);
    rig_expect_put(r, push(r, a, run, 0, 1), SL_PUT_ACCEPTED, "");
    rig_expect_member(r, a, "accepted", "");
}

static void what_the_store_refuses_is_tried_again(void **state)
{
    struct rig *r = *state;
    const struct rig_plan plan = {.clients = 3, .per_round = 2, .rounds = 3, .more = BUFFER_OF_2};
    rig_boot(r);
    rig_enrol(r, 0, 3);
    r->ops->refuse[RIG_VERSION_OPEN] = 1;
    r->ops->refuse[RIG_TASK_GIVE] = 1;
    uint64_t run = rig_submit(r, &plan);
    assert_true(rig_fault(r));
    rig_expect_run(r, "1 0 0 waiting for clients");
    rig_sleep(r, 1000);
    rig_expect_run(r, "1 0 0 open");
    assert_true(rig_fault(r)); /* a task, now */
    rig_sleep(r, 2000);
    assert_false(rig_fault(r));
    uint32_t a = given(r, 3, 0, 0), b = given(r, 3, 0, 1u << a);
    push(r, a, run, 0, 1);
    r->ops->refuse[RIG_COMMIT] = 1;
    push(r, b, run, 0, 1);
    assert_true(rig_fault(r));
    rig_sleep(r, 4000);
    rig_expect_run(r, "1 1 0 open");
    uint32_t c = 3 - a - b; /* is under way since a was in */
    r->ops->refuse[RIG_TASK_TAKE] = r->ops->refuse[RIG_TASK_GIVE] = 1;
    assert_int_equal(rig_task(r, c).kind, SL_TASK_NONE); /* began from version 0, and lost it */
    rig_sleep(r, 6000);
    assert_false(rig_fault(r));
    assert_int_equal(rig_task(r, c).round, 1);
    rig_expect_put(r, push(r, c, run, 1, 1), SL_PUT_ACCEPTED, "");
}

static void a_revoked_client_takes_its_task_along(void **state)
{
    struct rig *r = *state;
    struct sl_err err;
    const struct rig_plan plan = {.clients = 4, .rounds = 2, .more = BUFFER_OF_2};
    uint64_t run = rig_start(r, &plan);
    for (uint32_t k = 0; k < 4; k++)
        rig_task(r, k);
    push(r, 0, run, 0, 1);
    assert_int_equal(sl_coordinator_revoke(r->c, r->now, 3, &err), SL_OK);
    rig_expect_member(r, 3, "failed", "revoked");
    r->holds = true;
    push(r, 1, run, 0, 1); /* the commit is under way */
    sl_request_id parked = push(r, 2, run, 0, 1);
    assert_int_equal(sl_coordinator_revoke(r->c, r->now, 2, &err), SL_OK);
    rig_expect_put(r, parked, SL_PUT_REJECTED, "revoked");
    rig_finish_all(r);
    rig_expect_run(r, "1 1 0 open");
    rig_expect_member(r, 2, NULL, NULL);
    rig_expect_member(r, 3, NULL, NULL);
}

static void a_calibration_waits_for_the_end(void **state)
{
    struct rig *r = *state;
    struct sl_err err;
    const struct rig_plan plan = {.clients = 2, .rounds = 2, .more = BUFFER_OF_2};
    uint64_t run = rig_start(r, &plan);
    for (uint32_t v = 0; v < 2; v++)
        for (uint32_t k = 0; k < 2; k++) {
            rig_task(r, k);
            push(r, k, run, v, 1);
            if (v == 0 && k == 1) {
                assert_int_equal(sl_coordinator_calibrate(r->c, r->now, &err), SL_E_REFUSED);
                assert_non_null(strstr(err.msg, "once it has ended"));
            }
        }
    assert_non_null(rig_line(r, "run_end", 0));
    assert_int_equal(sl_coordinator_calibrate(r->c, r->now, &err), SL_OK);
    assert_int_equal(rig_task(r, 0).kind, SL_TASK_CALIBRATE);
}

static void a_draining_coordinator_gives_no_new_task(void **state)
{
    struct rig *r = *state;
    const struct rig_plan plan = {.clients = 4, .per_round = 2, .rounds = 2, .more = BUFFER_OF_2};
    uint64_t run = rig_start(r, &plan);
    uint32_t a = given(r, 4, 0, 0);
    sl_coordinator_drain(r->c, r->now);
    rig_expect_put(r, push(r, a, run, 0, 1), SL_PUT_ACCEPTED, "");
    uint32_t n = 0;
    for (uint32_t k = 0; k < 4; k++)
        n += rig_task(r, k).kind == SL_TASK_TRAIN;
    assert_int_equal(n, 1);
}

int main(void)
{
#define RIG(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        RIG(an_update_counts_by_its_age),
        RIG(a_client_has_one_task_and_a_place_is_given_anew),
        RIG(a_held_poll_is_answered_when_its_client_is_drawn),
        RIG(an_update_that_comes_during_a_commit_goes_into_the_next_buffer),
        RIG(a_check_that_ends_in_the_next_version_counts_there),
        RIG(a_task_that_is_overdue_is_given_up_and_another_client_drawn),
        RIG(a_failed_task_is_over_until_the_next_version),
        RIG(a_client_that_lost_its_training_gets_the_version_at_hand),
        RIG(polls_learn_what_became_of_an_update_of_any_version),
        RIG(a_kill_keeps_tasks_and_accepted_updates_of_every_version),
        RIG(after_a_power_cut_what_clients_kept_is_asked_for_again),
        RIG(what_the_store_refuses_is_tried_again),
        RIG(a_revoked_client_takes_its_task_along),
        RIG(a_calibration_waits_for_the_end),
        RIG(a_draining_coordinator_gives_no_new_task),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
