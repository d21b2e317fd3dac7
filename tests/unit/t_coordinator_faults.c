/* SPDX-License-Identifier: Apache-2.0 */
/* Jobs that end late, a store that refuses, kills and power cuts. */
#include "server/coordinator.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

static void expect_end(const struct rig *r, uint64_t run, enum sl_run_state want)
{
    enum sl_run_state end = SL_RUN_QUEUED;
    assert_true(sl_coordinator_finished(r->c, run, &end));
    assert_int_equal(end, want);
}

/* --- jobs that end late
 * ------------------------------------------------------------------------ */

/* Client 1's update of round 0 is bad, and still being checked when the deadline closes
 * the round. */
static void end_a_check_in_the_next_round(struct rig *r, bool ran_before)
{
    const struct rig_plan plan = {.shape = RIG_WIDE, .quorum = 0.5, .retries = 2};
    uint64_t run = rig_start(r, &plan);
    float was = rig_value(r);
    rig_give(r, 0, run, 0, 1);
    r->holds = true;
    sl_request_id late = rig_give(r, 1, run, 0, 9);
    assert_false(rig_answered(r, late));
    if (ran_before)
        rig_run(r, 0);
    rig_time(r, 60000);
    rig_expect_put(r, late, SL_PUT_STALE, "the round is closed");
    assert_int_equal(r->n_jobs, 2);
    rig_finish(r, 1); /* the end of the round passes the check */
    rig_expect_run(r, "1 1 0 open");
    assert_true(rig_value(r) == was + 1);

    struct rig_update u = rig_update(r, run, 1, 3);
    rig_put_chunk(r, 1, &u, 0);
    rig_finish(r, 0);
    rig_expect_member(r, 1, "waiting", "");
    rig_put_chunk(r, 1, &u, 1); /* what came before the late end is kept */
    sl_request_id id = rig_put_chunk(r, 1, &u, 2);
    rig_update_deinit(&u);
    rig_finish_all(r);
    rig_expect_put(r, id, SL_PUT_ACCEPTED, "");
    rig_give(r, 0, run, 1, 1);
    rig_finish_all(r);
    assert_int_equal(rig_integer(rig_line(r, "round", 1), "completed"), 2);
    assert_true(rig_value(r) == was + 1 + 2);
}

static void a_check_that_ended_before_the_next_round_changes_nothing_in_it(void **state)
{
    end_a_check_in_the_next_round(*state, true);
}

static void a_check_that_runs_in_the_next_round_changes_nothing_in_it(void **state)
{
    end_a_check_in_the_next_round(*state, false);
}

static void a_check_that_ends_beside_the_next_rounds_own_is_told_from_it(void **state)
{
    struct rig *r = *state;
    const struct rig_plan plan = {.shape = RIG_WIDE, .quorum = 0.5};
    uint64_t run = rig_start(r, &plan);
    rig_give(r, 0, run, 0, 1);
    r->holds = true;
    rig_give(r, 1, run, 0, 9); /* beyond the bound */
    rig_run(r, 0);
    rig_time(r, 60000);
    rig_finish(r, 1);
    sl_request_id id = rig_give(r, 1, run, 1, 3);
    assert_int_equal(r->n_jobs, 2);
    rig_done(r, 0); /* the old one */
    assert_false(rig_answered(r, id));
    rig_finish(r, 0);
    rig_expect_put(r, id, SL_PUT_ACCEPTED, "");
}

/* Run 1 gives up with this job of a client's update under way; run 2 is queued. */
static void give_up_with_a_job_under_way(struct rig *r, size_t n_before)
{
    uint64_t run = rig_start(r, &(struct rig_plan){.shape = RIG_WIDE});
    uint64_t next = rig_submit(r, &(struct rig_plan){.rounds = 1});
    r->holds = true;
    sl_request_id id = rig_give(r, 1, run, 0, 1);
    for (size_t i = 0; i < n_before; i++)
        rig_finish(r, 0);
    assert_int_equal(r->n_jobs, 1);
    rig_sleep(r, 60000);
    assert_true(rig_answered(r, id));
    expect_end(r, run, SL_RUN_FAILED);
    rig_sleep(r, 65000);
    rig_expect_run(r, "1 0 0 over"); /* the next one waits for the job */
    assert_false(sl_coordinator_idle(r->c));
    rig_run(r, 0);
    rig_sleep(r, 70000);
    rig_expect_run(r, "1 0 0 over");
    rig_done(r, 0);
    assert_true(sl_coordinator_idle(r->c));
    rig_sleep(r, 70001); /* no second is lost */
    rig_expect_run(r, "2 0 0 open");
    rig_give(r, 0, next, 0, 1);
    rig_give(r, 1, next, 0, 1);
    rig_finish_all(r);
    expect_end(r, next, SL_RUN_DONE);
}

static void the_next_run_waits_for_a_check_of_the_last(void **state)
{
    give_up_with_a_job_under_way(*state, 0);
}

static void the_next_run_waits_for_an_addition_of_the_last(void **state)
{
    give_up_with_a_job_under_way(*state, 1);
}

static void a_round_that_closes_waits_for_its_additions(void **state)
{
    struct rig *r = *state;
    uint64_t run = rig_start(r, &(struct rig_plan){.shape = RIG_WIDE, .rounds = 1});
    float was = rig_value(r);
    r->holds = true;
    sl_request_id a = rig_give(r, 0, run, 0, 1), b = rig_give(r, 1, run, 0, 4);
    assert_int_equal(r->n_jobs, 2);
    rig_finish(r, 1); /* client 1 is in before client 0 */
    rig_expect_put(r, b, SL_PUT_ACCEPTED, "");
    assert_false(rig_answered(r, a));
    rig_finish(r, 0);
    rig_expect_put(r, a, SL_PUT_ACCEPTED, "");
    rig_expect_run(r, "1 0 0 closing");
    rig_finish(r, 0);
    rig_expect_run(r, "1 0 0 closing");
    rig_finish(r, 0);
    rig_expect_run(r, "1 0 0 finalising");
    rig_finish(r, 0);
    assert_true(rig_value(r) == was + 2.5f);
    expect_end(r, run, SL_RUN_DONE);
}

static void an_update_of_a_client_revoked_during_its_check_is_out(void **state)
{
    struct rig *r = *state;
    struct sl_err err;
    uint64_t run =
        rig_start(r, &(struct rig_plan){.shape = RIG_WIDE, .quorum = 0.3, .clients = 3});
    float was = rig_value(r);
    rig_give(r, 0, run, 0, 1);
    r->holds = true;
    sl_request_id id = rig_give(r, 1, run, 0, 7);
    assert_int_equal(sl_coordinator_revoke(r->c, r->now, 1, &err), SL_OK);
    rig_expect_member(r, 1, "failed", "revoked");
    rig_finish_all(r);
    rig_expect_put(r, id, SL_PUT_REJECTED, "revoked");
    rig_expect_member(r, 1, "failed", "revoked");
    rig_give(r, 2, run, 0, 2);
    rig_finish_all(r);
    assert_true(rig_value(r) == was + 1.5f);
}

/* Nobody else is waited for, so the round is repeated at once: with whoever gets the index. */
static void an_update_of_a_revoked_client_is_out_of_a_repeated_attempt_too(void **state)
{
    struct rig *r = *state;
    struct sl_err err;
    uint64_t run = rig_start(r, &(struct rig_plan){.shape = RIG_WIDE, .retries = 2});
    float was = rig_value(r);
    rig_give(r, 0, run, 0, 1);
    r->holds = true;
    sl_request_id id = rig_give(r, 1, run, 0, 7);
    assert_int_equal(sl_coordinator_revoke(r->c, r->now, 1, &err), SL_OK);
    rig_expect_put(r, id, SL_PUT_REJECTED, "revoked");
    rig_expect_run(r, "1 0 1 open");
    rig_finish_all(r);
    rig_expect_member(r, 1, "waiting", "");
    assert_int_equal(rig_lines(r, "round"), 0);
    struct sl_client_row row = rig_client(1);
    row.key[31] = 2;
    assert_int_equal(sl_coordinator_approve(r->c, r->now, &row, &err), SL_OK);
    rig_give(r, 1, run, 0, 2);
    rig_finish_all(r);
    assert_true(rig_value(r) == was + 1.5f);
}

/* Every request has its answer, once; the newest to end the transfer is told the verdict.
 */
static void chunks_during_a_check_are_answered_and_spoil_nothing(void **state)
{
    struct rig *r = *state;
    uint64_t run = rig_start(r, &(struct rig_plan){.shape = RIG_WIDE, .quorum = 0.5});
    struct rig_update u = rig_update(r, run, 0, 1);
    r->holds = true;
    sl_request_id first = rig_put(r, 1, &u);
    struct sl_msg odd = rig_chunk(&u, 0);
    odd.put_chunk.offset = 1;
    odd.attachment_bytes = 5;
    sl_request_id misshapen = rig_send(r, 1, &odd);
    sl_request_id middle = rig_put_chunk(r, 1, &u, 1);
    rig_expect_put(r, misshapen, SL_PUT_MORE, "");
    rig_expect_put(r, middle, SL_PUT_MORE, "");
    assert_false(rig_answered(r, first));
    sl_request_id last = rig_put_chunk(r, 1, &u, 2);
    rig_expect_put(r, first, SL_PUT_MORE, "");
    assert_false(rig_answered(r, last));
    rig_finish_all(r);
    rig_expect_put(r, last, SL_PUT_ACCEPTED, "");
    rig_expect_member(r, 1, "accepted", "");
    rig_update_deinit(&u);
}

static void a_forgotten_request_is_not_answered_by_its_check(void **state)
{
    struct rig *r = *state;
    uint64_t run = rig_start(r, &(struct rig_plan){.shape = RIG_WIDE, .quorum = 0.5});
    r->holds = true;
    rig_forget(r, rig_give(r, 0, run, 0, 1));
    rig_finish_all(r);
    rig_expect_member(r, 0, "accepted", "");
    sl_request_id id = rig_give(r, 1, run, 0, 1);
    rig_forget(r, id);
    struct rig_update u = rig_update(r, run, 0, 1);
    sl_request_id again = rig_put_chunk(r, 1, &u, 2); /* on another connection */
    rig_finish_all(r);
    rig_expect_put(r, again, SL_PUT_ACCEPTED, "");
    rig_update_deinit(&u);
}

/* The acknowledgement is lost; the client sends its update again, whenever. */
static void an_included_update_is_acknowledged_however_late(void **state)
{
    struct rig *r = *state;
    uint64_t run = rig_start(r, &(struct rig_plan){.clients = 3, .quorum = 0.6});
    float was = rig_value(r);
    rig_give(r, 0, run, 0, 1);
    rig_give(r, 1, run, 0, 3);
    r->holds = true;
    rig_time(r, 60000);
    rig_expect_run(r, "1 0 0 finalising");
    rig_expect_put(r, rig_give(r, 1, run, 0, 3), SL_PUT_ACCEPTED, "");
    rig_expect_put(r, rig_give(r, 2, run, 0, 3), SL_PUT_STALE,
                   "run 1 round 0 is not open");
    rig_finish_all(r);
    rig_expect_run(r, "1 1 0 open");
    rig_expect_put(r, rig_give(r, 1, run, 0, 3), SL_PUT_ACCEPTED, "");
    rig_expect_put(r, rig_give(r, 2, run, 0, 3), SL_PUT_STALE, "");
    rig_kill(r, false);
    rig_boot(r);
    rig_expect_put(r, rig_give(r, 0, run, 0, 3), SL_PUT_ACCEPTED, "");
    rig_expect_put(r, rig_give(r, 2, run, 0, 3), SL_PUT_STALE, "");
    assert_true(rig_value(r) == was + 2);
    rig_expect_member(r, 1, "waiting", "");
}

/* --- a store that refuses
 * ---------------------------------------------------------------------- */

static void a_chunk_that_can_not_be_spooled_is_asked_for_a_second_later(void **state)
{
    struct rig *r = *state;
    for (int wide = 0; wide < 2; wide++) {
        struct rig_plan p = {.rounds = 1, .shape = wide ? RIG_WIDE : RIG_SMALL};
        uint64_t run = wide ? rig_submit(r, &p) : rig_start(r, &p);
        uint64_t began = r->now;
        float was = rig_value(r);
        struct rig_update u = rig_update(r, run, 0, 1);
        size_t last = rig_chunks(&u) - 1;
        for (size_t i = 0; i < last; i++)
            rig_put_chunk(r, 0, &u, i);
        r->ops->refuse[RIG_SPOOL_WRITE] = 1;
        sl_request_id id = rig_put_chunk(r, 0, &u, last);
        rig_sleep(r, began + 999);
        assert_false(rig_answered(r, id));
        assert_true(rig_fault(r));
        rig_sleep(r, began + 1000);
        rig_expect_put(r, id, SL_PUT_MORE, "");
        assert_int_equal(rig_answer(r, id, SL_MSG_PUT_REPLY)->put_reply.next_offset,
                         last * SL_CHUNK_BYTES);
        assert_false(rig_fault(r));
        rig_expect_put(r, rig_put_chunk(r, 0, &u, last), SL_PUT_ACCEPTED, "");
        rig_expect_put(r, rig_put(r, 1, &u), SL_PUT_ACCEPTED, "");
        assert_true(rig_value(r) == was + 1);
        rig_update_deinit(&u);
        rig_time(r, r->now + 1);
    }
}

static void a_forgotten_chunk_is_not_asked_for(void **state)
{
    struct rig *r = *state;
    uint64_t run = rig_start(r, &(struct rig_plan){0});
    r->ops->refuse[RIG_SPOOL_WRITE] = RIG_ALWAYS;
    sl_request_id a = rig_give(r, 0, run, 0, 1), b = rig_give(r, 1, run, 0, 1);
    rig_forget(r, a);
    rig_sleep(r, 3000);
    rig_expect_put(r, b, SL_PUT_MORE, "");
}

static void an_update_that_can_not_be_journalled_is_not_acknowledged(void **state)
{
    struct rig *r = *state;
    for (int wide = 0; wide < 2; wide++) {
        struct rig_plan p = {.rounds = 1, .shape = wide ? RIG_WIDE : RIG_SMALL};
        uint64_t run = wide ? rig_submit(r, &p) : rig_start(r, &p);
        float was = rig_value(r);
        r->ops->refuse[RIG_ACCEPT] = 1;
        sl_request_id id = rig_give(r, 0, run, 0, 1);
        assert_false(rig_answered(r, id));
        rig_expect_member(r, 0, "waiting", "");
        rig_sleep(r, r->now + 1000);
        rig_expect_put(r, id, SL_PUT_MORE, "");
        assert_int_equal(rig_answer(r, id, SL_MSG_PUT_REPLY)->put_reply.next_offset, 0);
        rig_expect_put(r, rig_give(r, 0, run, 0, 1), SL_PUT_ACCEPTED, "");
        rig_expect_put(r, rig_give(r, 1, run, 0, 2), SL_PUT_ACCEPTED, "");
        assert_true(rig_value(r) == was + 1.5f); /* counted once */
        rig_time(r, r->now + 1);
    }
}

static void an_update_that_can_not_be_read_back_is_asked_for_again(void **state)
{
    struct rig *r = *state;
    uint64_t run = rig_start(r, &(struct rig_plan){.shape = RIG_WIDE, .rounds = 1});
    float was = rig_value(r);
    r->ops->pass[RIG_SPOOL_READ] = 1;
    r->ops->refuse[RIG_SPOOL_READ] = 1;
    sl_request_id id = rig_give(r, 0, run, 0, 1);
    rig_sleep(r, 999);
    assert_false(rig_answered(r, id));
    rig_sleep(r, 1000);
    rig_expect_put(r, id, SL_PUT_MORE, "");
    rig_expect_member(r, 0, "waiting", "");
    rig_give(r, 0, run, 0, 1);
    rig_give(r, 1, run, 0, 2);
    assert_true(rig_value(r) == was + 1.5f);
}

/* Some tiles are in the sum when an addition fails: it is made anew, from all updates. */
static void an_addition_that_fails_half_way_is_made_anew(void **state)
{
    struct rig *r = *state;
    uint64_t run = rig_start(r, &(struct rig_plan){.shape = RIG_WIDE, .rounds = 1});
    float was = rig_value(r);
    rig_give(r, 0, run, 0, 1);
    r->ops->pass[RIG_SPOOL_READ] = 3 + 2; /* the check, and two tiles of three */
    r->ops->refuse[RIG_SPOOL_READ] = 1;
    rig_expect_put(r, rig_give(r, 1, run, 0, 2), SL_PUT_ACCEPTED, "");
    rig_expect_run(r, "1 0 0 closing");
    rig_sleep(r, 999);
    rig_expect_run(r, "1 0 0 closing");
    rig_sleep(r, 1000);
    expect_end(r, run, SL_RUN_DONE);
    assert_true(rig_value(r) == was + 1.5f);
}

static void try_to_close(struct rig *r, enum rig_call call)
{
    uint64_t run = rig_start(r, &(struct rig_plan){.shape = RIG_WIDE});
    float was = rig_value(r), was_last = rig_last_value(r);
    r->ops->refuse[call] = 3;
    rig_give(r, 0, run, 0, 1);
    rig_expect_put(r, rig_give(r, 1, run, 0, 2), SL_PUT_ACCEPTED, "");
    for (uint64_t s = 0; s < 3; s++) {
        rig_sleep(r, s * 1000 + 999);
        assert_true(rig_fault(r));
        assert_int_equal(r->ops->tried[call], s + 1);
        assert_int_equal(rig_lines(r, "round"), 0);
        assert_true(rig_value(r) == was);
    }
    rig_sleep(r, 3000);
    assert_false(rig_fault(r));
    rig_expect_run(r, "1 1 0 open");
    assert_int_equal(rig_lines(r, "round"), 1);
    assert_true(rig_value(r) == was + 1.5f);           /* one step, */
    assert_true(rig_last_value(r) == was_last + 1.5f); /* also of the last tile */
}

static void a_round_that_can_not_be_committed_is_tried_again_each_second(void **state)
{
    try_to_close(*state, RIG_COMMIT);
}

static void a_checkpoint_that_can_not_be_written_is_tried_again_each_second(void **state)
{
    try_to_close(*state, RIG_CHECKPOINT_WRITE);
}

static void try_to_open(struct rig *r, enum rig_call call)
{
    r->ops->refuse[call] = RIG_ALWAYS;
    uint64_t run = rig_start(r, &(struct rig_plan){.rounds = 1});
    sl_request_id poll = rig_poll(r, 0);
    rig_sleep(r, 1999);
    assert_false(rig_answered(r, poll));
    assert_in_range(r->ops->tried[call], 2, 4);
    r->ops->refuse[call] = 0;
    rig_sleep(r, 2000);
    rig_expect_run(r, "1 0 0 open");
    assert_int_equal(rig_answer(r, poll, SL_MSG_POLL_REPLY)->poll_reply.task.kind,
                     SL_TASK_TRAIN);
    assert_int_equal(rig_lines(r, "run_start"), 1);
    rig_give(r, 0, run, 0, 1);
    rig_give(r, 1, run, 0, 1);
    expect_end(r, run, SL_RUN_DONE);
}

static void a_run_whose_start_can_not_be_reported_is_tried_again(void **state)
{
    try_to_open(*state, RIG_PUT_REPORT);
}

static void a_round_that_can_not_be_journalled_is_tried_again(void **state)
{
    try_to_open(*state, RIG_ROUND_OPEN);
}

static void try_to_end(struct rig *r, enum rig_call call)
{
    uint64_t run = rig_start(r, &(struct rig_plan){.rounds = 1});
    uint64_t next = rig_submit(r, &(struct rig_plan){.rounds = 1});
    rig_give(r, 0, run, 0, 1);
    r->ops->refuse[call] = 2;
    rig_expect_put(r, rig_give(r, 1, run, 0, 1), SL_PUT_ACCEPTED, "");
    enum sl_run_state end;
    rig_sleep(r, 999);
    assert_false(sl_coordinator_finished(r->c, run, &end));
    rig_expect_run(r,
                   "1 1 0 over"); /* not followed before it is over for the store too */
    rig_sleep(r, 3000);
    expect_end(r, run, SL_RUN_DONE);
    assert_int_equal(rig_lines(r, "run_end"), 1);
    rig_expect_run(r, "2 0 0 open");
    rig_give(r, 0, next, 0, 1);
    rig_give(r, 1, next, 0, 1);
    expect_end(r, next, SL_RUN_DONE);
}

static void a_runs_end_that_can_not_be_reported_is_tried_again(void **state)
{
    try_to_end(*state, RIG_PUT_REPORT);
}

static void a_runs_end_that_can_not_be_stored_is_tried_again(void **state)
{
    try_to_end(*state, RIG_SET_RUN_STATE);
}

/* The files of the second of three runs are gone when its turn comes. */
static void a_run_that_can_not_start_fails_and_the_queue_goes_on(void **state)
{
    struct rig *r = *state;
    char path[] = "/tmp/t_coordinator.XXXXXX", keys[100];
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "0 0 1\n", 6), 6);
    close(fd);
    snprintf(keys, sizeof(keys), ", policy: file, path: %s", path);
    uint64_t run = rig_start(r, &(struct rig_plan){.rounds = 1});
    uint64_t lost = rig_submit(r, &(struct rig_plan){.rounds = 1, .selection = keys});
    uint64_t next = rig_submit(r, &(struct rig_plan){.rounds = 1});
    assert_int_equal(unlink(path), 0);
    rig_give(r, 0, run, 0, 1);
    rig_give(r, 1, run, 0, 1);
    rig_sleep(r, 1000);
    expect_end(r, run, SL_RUN_DONE);
    expect_end(r, lost, SL_RUN_FAILED);
    rig_expect_run(r, "3 0 0 open");
    json_t *status = sl_coordinator_status(r->c, r->now);
    const json_t *entry = json_array_get(json_object_get(status, "runs"), 1);
    assert_non_null(strstr(rig_text(entry, "reason"), path));
    json_decref(status);
    rig_kill(r, true);
    rig_boot(r);
    expect_end(r, lost, SL_RUN_FAILED);
    rig_give(r, 0, next, 0, 1);
    rig_give(r, 1, next, 0, 1);
    expect_end(r, next, SL_RUN_DONE);
}

/* --- restarts
 * -------------------------------------------------------------------------------------
 */

static void kill_between_the_end_and_its_state(struct rig *r, bool fails)
{
    uint64_t run = rig_start(r, &(struct rig_plan){.rounds = 1});
    r->ops->refuse[RIG_SET_RUN_STATE] = RIG_ALWAYS;
    if (!fails) {
        rig_give(r, 0, run, 0, 1);
        rig_give(r, 1, run, 0, 1);
    }
    rig_time(r, 60000);
    assert_int_equal(rig_lines(r, "run_end"), 1);
    rig_kill(r, false);
    r->ops->refuse[RIG_SET_RUN_STATE] = 0;
    rig_boot(r);
    expect_end(r, run, fails ? SL_RUN_FAILED : SL_RUN_DONE);
    assert_int_equal(rig_lines(r, "run_end"), 1);
    json_t *status = sl_coordinator_status(r->c, r->now);
    const json_t *entry = json_array_get(json_object_get(status, "runs"), 0);
    assert_non_null(
        strstr(rig_text(entry, "reason"),
               fails ? "0 of 2 updates after 1 attempts" : "all rounds done"));
    json_decref(status);
    rig_sleep(r, 200000);
    assert_int_equal(rig_lines(r, "run_end"), 1);
}

static void a_failed_run_stays_failed_after_a_kill_before_its_state(void **state)
{
    kill_between_the_end_and_its_state(*state, true);
}

static void a_done_run_stays_done_after_a_kill_before_its_state(void **state)
{
    kill_between_the_end_and_its_state(*state, false);
}

static void an_open_round_goes_on_with_what_was_left_of_its_deadline(void **state)
{
    struct rig *r = *state;
    uint64_t run =
        rig_start(r, &(struct rig_plan){.clients = 3, .quorum = 0.3, .retries = 1});
    rig_sleep(r, 60000); /* nobody: attempt 1 */
    rig_expect_run(r, "1 0 1 open");
    rig_sleep(r, 90000);
    rig_give(r, 0, run, 0, 1);
    rig_kill(r, true);
    r->now = 500000; /* however long it was down */
    rig_boot(r);
    rig_expect_run(r, "1 0 1 open");
    uint64_t left = rig_task(r, 1).deadline_ms;
    assert_in_range(left, 30000, 31000);
    rig_sleep(r, 500000 + left - 1);
    rig_expect_run(r, "1 0 1 open");
    rig_sleep(r, 500000 + left);
    expect_end(r, run,
               SL_RUN_FAILED); /* the update was not synced, and nobody repeated it */
}

static void an_update_that_was_synced_survives_a_power_cut_or_is_asked_for(void **state)
{
    struct rig *r = *state;
    uint64_t run = rig_start(r, &(struct rig_plan){.shape = RIG_WIDE, .rounds = 1});
    float was = rig_value(r);
    rig_give(r, 0, run, 0, 1);
    rig_kill(r, false); /* written: a kill leaves it */
    rig_boot(r);
    rig_expect_member(r, 0, "accepted", "");
    rig_sleep(r, 2000); /* its journal entry is synced, its bytes are not */
    rig_kill(r, true);
    rig_boot(r);
    rig_expect_member(r, 0, "waiting", "");
    rig_expect_put(r, rig_give(r, 0, run, 0, 2), SL_PUT_ACCEPTED, "");
    rig_give(r, 1, run, 0, 5);
    assert_true(rig_value(r) == was + 3.5f);
}

static void the_room_of_the_sum_is_known_after_a_restart(void **state)
{
    struct rig *r = *state;
    uint64_t run = rig_start(
        r, &(struct rig_plan){
               .more = "aggregation: {max_abs: 2000}\n", .clients = 3, .quorum = 0.5});
    struct rig_update u = rig_update(r, run, 0, 1);
    u.meta.weight = 1000000;
    rig_register(r, 0, u.meta.weight);
    rig_expect_put(r, rig_put(r, 0, &u), SL_PUT_ACCEPTED, "");
    rig_kill(r, false);
    rig_boot(r);
    rig_register(r, 1, u.meta.weight);
    rig_expect_put(r, rig_put(r, 1, &u), SL_PUT_REJECTED, "has room for 73741");
    rig_update_deinit(&u);
}

static void the_final_measurement_and_the_queue_survive_a_kill(void **state)
{
    struct rig *r = *state;
    const struct rig_plan p = {.rounds = 1,
                               .more = "evaluation: {where: clients, holdout: 0.2}\n"};
    uint64_t run = rig_start(r, &p),
             next = rig_submit(r, &(struct rig_plan){.rounds = 1});
    struct rig_update u = rig_update(r, run, 0, 1);
    u.meta.weight = u.meta.samples = 16; /* 4 of 20 are held out */
    u.meta.steps = 2;
    rig_put(r, 0, &u);
    rig_put(r, 1, &u);
    rig_update_deinit(&u);
    rig_kill(r, false);
    rig_boot(r);
    for (uint32_t k = 0; k < 2; k++) {
        assert_int_equal(rig_task(r, k).kind, SL_TASK_EVALUATE);
        struct sl_msg m = {.kind = SL_MSG_EVAL_REPORT};
        m.eval_report.run_id = run;
        m.eval_report.eval =
            (struct sl_eval_counts){.samples = 4, .correct = 2, .loss_sum = 1};
        assert_true(rig_answer(r, rig_send(r, k, &m), SL_MSG_ACK)->ack.ok);
    }
    const json_t *e = json_object_get(rig_line(r, "run_end", 0), "client_eval");
    assert_int_equal(rig_integer(e, "samples"), 8);
    rig_sleep(r, 1000);
    rig_expect_run(r, "2 0 0 open");
    rig_kill(r, true);
    rig_boot(r);
    rig_expect_run(r, "2 0 0 open");
    expect_end(r, run, SL_RUN_DONE);
    rig_give(r, 0, next, 0, 1);
    rig_give(r, 1, next, 0, 1);
    expect_end(r, next, SL_RUN_DONE);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_check_that_ended_before_the_next_round_changes_nothing_in_it),
        TEST(a_check_that_runs_in_the_next_round_changes_nothing_in_it),
        TEST(a_check_that_ends_beside_the_next_rounds_own_is_told_from_it),
        TEST(the_next_run_waits_for_a_check_of_the_last),
        TEST(the_next_run_waits_for_an_addition_of_the_last),
        TEST(a_round_that_closes_waits_for_its_additions),
        TEST(an_update_of_a_client_revoked_during_its_check_is_out),
        TEST(an_update_of_a_revoked_client_is_out_of_a_repeated_attempt_too),
        TEST(chunks_during_a_check_are_answered_and_spoil_nothing),
        TEST(a_forgotten_request_is_not_answered_by_its_check),
        TEST(an_included_update_is_acknowledged_however_late),
        TEST(a_chunk_that_can_not_be_spooled_is_asked_for_a_second_later),
        TEST(a_forgotten_chunk_is_not_asked_for),
        TEST(an_update_that_can_not_be_journalled_is_not_acknowledged),
        TEST(an_update_that_can_not_be_read_back_is_asked_for_again),
        TEST(an_addition_that_fails_half_way_is_made_anew),
        TEST(a_round_that_can_not_be_committed_is_tried_again_each_second),
        TEST(a_checkpoint_that_can_not_be_written_is_tried_again_each_second),
        TEST(a_run_whose_start_can_not_be_reported_is_tried_again),
        TEST(a_round_that_can_not_be_journalled_is_tried_again),
        TEST(a_runs_end_that_can_not_be_reported_is_tried_again),
        TEST(a_runs_end_that_can_not_be_stored_is_tried_again),
        TEST(a_run_that_can_not_start_fails_and_the_queue_goes_on),
        TEST(a_failed_run_stays_failed_after_a_kill_before_its_state),
        TEST(a_done_run_stays_done_after_a_kill_before_its_state),
        TEST(an_open_round_goes_on_with_what_was_left_of_its_deadline),
        TEST(an_update_that_was_synced_survives_a_power_cut_or_is_asked_for),
        TEST(the_room_of_the_sum_is_known_after_a_restart),
        TEST(the_final_measurement_and_the_queue_survive_a_kill),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
