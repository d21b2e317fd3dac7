/* SPDX-License-Identifier: Apache-2.0 */
/* Rounds, polls and the operator's ways in, through the public interface. Updates are in
 * t_upload.c; what late jobs, a full disk and kills do is in t_coordinator_faults.c. */
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

/* --- quorum and deadline
 * --------------------------------------------------------------------- */

static void the_deadline_closes_a_round_that_has_its_quorum(void **state)
{
    struct rig *r = *state;
    uint64_t run = rig_start(r, &(struct rig_plan){.clients = 4, .quorum = 0.4});
    float was = rig_value(r);
    rig_sleep(r, 1500);
    rig_task(r, 2);
    rig_give(r, 0, run, 0, 1);
    rig_give(r, 1, run, 0, 2);
    rig_sleep(r, 59999);
    rig_expect_run(r, "1 0 0 open");
    rig_sleep(r, 60000);
    rig_expect_run(r, "1 1 0 open");
    assert_true(rig_value(r) == was + 1.5f);
    const json_t *line = rig_line(r, "round", 0);
    assert_int_equal(rig_integer(line, "dropped"), 2);
    assert_true(json_number_value(json_object_get(line, "latency_s")) == 60);
    const json_t *no = json_object_get(line, "not_included");
    assert_string_equal(rig_text(json_array_get(no, 0), "reason"),
                        "no update by the end of the round");
    assert_string_equal(rig_text(json_array_get(no, 1), "reason"),
                        "did not ask for its task");
    rig_expect_put(r, rig_give(r, 2, run, 0, 1), SL_PUT_STALE,
                   "run 1 round 0 is not open");
    rig_expect_put(r, rig_give(r, 2, run, 1, 1), SL_PUT_ACCEPTED, "");
}

static void the_deadline_comes_without_polls_being_held(void **state)
{
    struct rig *r = *state;
    r->env.poll_hold_ms = 0;
    uint64_t run = rig_start(r, &(struct rig_plan){.quorum = 0.5});
    rig_give(r, 0, run, 0, 1);
    rig_sleep(r, 60000);
    rig_expect_run(r, "1 1 0 open");
    rig_give(r, 1, run, 1, 1);
    rig_sleep(r, 120000);
    rig_expect_run(r, "1 2 0 over");
}

static void a_repeated_attempt_keeps_the_updates_that_are_in(void **state)
{
    struct rig *r = *state;
    uint64_t run =
        rig_start(r, &(struct rig_plan){.clients = 3, .retries = 1, .rounds = 1});
    float was = rig_value(r);
    rig_give(r, 0, run, 0, 1);
    assert_int_equal(rig_task(r, 1).attempt, 0);
    rig_sleep(r, 60000);
    rig_expect_run(r, "1 0 1 open");
    rig_expect_member(r, 0, "accepted", "");
    rig_expect_member(r, 1, "waiting", "");
    assert_int_equal(rig_task(r, 0).kind, SL_TASK_NONE);
    assert_int_equal(rig_task(r, 1).attempt, 1);
    assert_int_equal(rig_task(r, 2).attempt, 1);
    rig_expect_put(r, rig_give(r, 1, run, 0, 2), SL_PUT_ACCEPTED, "");
    rig_sleep(r, 119999);
    rig_expect_run(r, "1 0 1 open");
    rig_expect_put(r, rig_give(r, 2, run, 0, 6), SL_PUT_ACCEPTED, "");
    assert_true(rig_value(r) == was + 3);
    assert_int_equal(rig_integer(rig_line(r, "round", 0), "attempt"), 1);
}

static void held_polls_are_told_of_a_repeated_attempt(void **state)
{
    struct rig *r = *state;
    uint64_t run = rig_start(r, &(struct rig_plan){.retries = 1});
    struct sl_msg failed = {.kind = SL_MSG_TASK_FAILED};
    failed.task_failed.run_id = run;
    snprintf(failed.task_failed.reason, sizeof(failed.task_failed.reason),
             "out of memory");
    assert_true(rig_answer(r, rig_send(r, 0, &failed), SL_MSG_ACK)->ack.ok);
    rig_expect_member(r, 0, "failed", "out of memory");
    sl_request_id poll = rig_poll(r, 0);
    assert_false(rig_answered(r, poll));
    assert_true(rig_answer(r, rig_send(r, 1, &failed), SL_MSG_ACK)->ack.ok);
    rig_expect_run(r, "1 0 1 open"); /* all failed: at once */
    const struct sl_msg *m = rig_answer(r, poll, SL_MSG_POLL_REPLY);
    assert_int_equal(m->poll_reply.task.kind, SL_TASK_TRAIN);
    assert_int_equal(m->poll_reply.task.attempt, 1);
    assert_int_equal(m->poll_reply.task.deadline_ms, 60000);
    assert_false(
        rig_answer(r, rig_send(r, 1, &failed), SL_MSG_ACK)->ack.ok); /* attempt 0 */
}

static void a_run_without_quorum_and_retries_fails_and_the_queue_goes_on(void **state)
{
    struct rig *r = *state;
    uint64_t run = rig_start(r, &(struct rig_plan){.retries = 1});
    uint64_t next = rig_submit(r, &(struct rig_plan){.rounds = 1});
    rig_give(r, 0, run, 0, 1);
    rig_sleep(r, 119999);
    rig_expect_run(r, "1 0 1 open");
    rig_sleep(r, 122000);
    enum sl_run_state end;
    assert_true(sl_coordinator_finished(r->c, run, &end));
    assert_int_equal(end, SL_RUN_FAILED);
    const json_t *line = rig_line(r, "run_end", 0);
    assert_true(json_is_true(json_object_get(line, "failed")));
    assert_non_null(strstr(rig_text(line, "reason"), "1 of 2 updates after 2 attempts"));
    rig_expect_run(r, "2 0 0 open");
    rig_give(r, 0, next, 0, 1);
    rig_give(r, 1, next, 0, 1);
    assert_true(sl_coordinator_finished(r->c, next, &end));
    assert_int_equal(end, SL_RUN_DONE);
}

static void a_long_reason_in_any_script_is_in_the_report(void **state)
{
    struct rig *r = *state;
    uint64_t run = rig_start(r, &(struct rig_plan){.rounds = 1, .quorum = 0.5});
    struct sl_msg failed = {.kind = SL_MSG_TASK_FAILED};
    failed.task_failed.run_id = run;
    for (int i = 0; i < 40; i++)
        strcat(failed.task_failed.reason, "\xc3\xa9");
    rig_send(r, 1, &failed);
    rig_expect_member(r, 1, "failed", "\xc3\xa9");
    rig_give(r, 0, run, 0, 1);
    const json_t *no = json_object_get(rig_line(r, "round", 0), "not_included");
    assert_int_equal(json_array_size(no), 1);
    assert_int_equal(strlen(rig_text(json_array_get(no, 0), "reason")), 62);
}

/* Each is finite, their sum would not be. */
static void losses_that_do_not_add_up_are_rejected(void **state)
{
    struct rig *r = *state;
    uint64_t run = rig_start(r, &(struct rig_plan){.rounds = 1});
    for (uint32_t k = 0; k < 2; k++) {
        struct rig_update u = rig_update(r, run, 0, 1);
        u.meta.loss_sum = 1.7e308;
        rig_expect_put(r, rig_put(r, k, &u), SL_PUT_REJECTED, "loss_sum 1.7e+308");
        rig_update_deinit(&u);
    }
    rig_sleep(r, 10000);
    assert_false(rig_fault(r));
    rig_expect_run(r, "1 0 0 over");
}

static void over_selection_closes_at_the_wanted_number(void **state)
{
    struct rig *r = *state;
    uint64_t run = rig_start(
        r,
        &(struct rig_plan){.clients = 4, .per_round = 2, .over_select = 2, .rounds = 1});
    float was = rig_value(r);
    rig_give(r, 3, run, 0, 1);
    rig_give(r, 1, run, 0, 2);
    assert_true(rig_value(r) == was + 1.5f);
    rig_expect_put(r, rig_give(r, 0, run, 0, 9), SL_PUT_STALE, "");
    const json_t *line = rig_line(r, "round", 0);
    assert_int_equal(rig_integer(line, "selected"), 4);
    const json_t *in = json_object_get(line, "included");
    assert_int_equal(json_integer_value(json_array_get(in, 0)), 3); /* as they came */
    assert_int_equal(json_integer_value(json_array_get(in, 1)), 1);
}

/* --- polls
 * ---------------------------------------------------------------------------------------
 */

static void a_poll_is_held_until_a_round_opens(void **state)
{
    struct rig *r = *state;
    rig_boot(r);
    rig_enrol(r, 0, 1);
    rig_submit(r, &(struct rig_plan){.rounds = 1});
    rig_expect_run(r, "1 0 0 waiting for clients");
    sl_request_id a = rig_poll(r, 0);
    assert_false(rig_answered(r, a));
    sl_request_id b = rig_poll(r, 0); /* a newer one takes its place */
    assert_int_equal(rig_answer(r, a, SL_MSG_POLL_REPLY)->poll_reply.task.kind,
                     SL_TASK_NONE);
    assert_false(rig_answered(r, b));
    rig_enrol(r, 1, 1);
    const struct sl_msg *m = rig_answer(r, b, SL_MSG_POLL_REPLY);
    assert_int_equal(m->poll_reply.task.kind, SL_TASK_TRAIN);
    assert_int_equal(m->attachment_bytes, m->poll_reply.task.model.size);
    assert_memory_equal(m->attachment,
                        sl_coordinator_model(r->c, &(const struct sl_layout *){0}),
                        m->attachment_bytes);
}

static void a_held_poll_is_answered_after_its_time_and_not_when_forgotten(void **state)
{
    struct rig *r = *state;
    rig_boot(r);
    rig_enrol(r, 0, 2);
    sl_request_id a = rig_poll(r, 0), b = rig_poll(r, 1);
    rig_forget(r, b);
    rig_sleep(r, SL_POLL_HOLD_MS - 1);
    assert_false(rig_answered(r, a));
    rig_sleep(r, SL_POLL_HOLD_MS + 1000);
    assert_int_equal(rig_answer(r, a, SL_MSG_POLL_REPLY)->poll_reply.task.kind,
                     SL_TASK_NONE);
}

static void a_task_is_given_again_until_its_update_is_in(void **state)
{
    struct rig *r = *state;
    uint64_t run = rig_start(r, &(struct rig_plan){0});
    rig_sleep(r, 10000);
    assert_int_equal(rig_task(r, 0).deadline_ms, 50000);
    assert_int_equal(rig_task(r, 0).kind, SL_TASK_TRAIN);
    rig_give(r, 0, run, 0, 1);
    assert_int_equal(rig_task(r, 0).kind, SL_TASK_NONE);
}

static void a_long_model_and_the_plan_come_in_chunks(void **state)
{
    struct rig *r = *state;
    rig_start(r, &(struct rig_plan){.shape = RIG_WIDE});
    struct sl_task_order task = rig_task(r, 0);
    const uint8_t *values =
        (const uint8_t *)sl_coordinator_model(r->c, &(const struct sl_layout *){0});
    struct sl_msg get = {.kind = SL_MSG_GET_CHUNK};
    get.get_chunk.id = task.model.id;
    get.get_chunk.offset = 2 * SL_CHUNK_BYTES;
    get.get_chunk.length = SL_CHUNK_BYTES;
    const struct sl_msg *m = rig_answer(r, rig_send(r, 0, &get), SL_MSG_CHUNK);
    assert_true(m->chunk.found);
    assert_int_equal(m->chunk.total, 529932);
    assert_int_equal(m->attachment_bytes, 529932 - 2 * SL_CHUNK_BYTES);
    assert_memory_equal(m->attachment, values + 2 * SL_CHUNK_BYTES, m->attachment_bytes);
    get.get_chunk.offset = 529932;
    assert_false(rig_answer(r, rig_send(r, 0, &get), SL_MSG_CHUNK)->chunk.found);
    get.get_chunk.id.bytes[0] ^= 1;
    get.get_chunk.offset = 0;
    assert_false(rig_answer(r, rig_send(r, 0, &get), SL_MSG_CHUNK)->chunk.found);
    get.get_chunk.id = task.plan.id;
    m = rig_answer(r, rig_send(r, 0, &get), SL_MSG_CHUNK);
    struct sl_blob_id id;
    sl_xxh3_128(m->attachment, m->attachment_bytes, &id);
    assert_true(sl_blob_id_equal(&id, &task.plan.id));
}

static void a_pending_update_is_settled_when_its_round_is(void **state)
{
    struct rig *r = *state;
    uint64_t run = rig_start(r, &(struct rig_plan){.quorum = 0.5, .rounds = 3});
    rig_give(r, 0, run, 0, 1);
    sl_request_id in = rig_poll_pending(r, 0, run, 0),
                  out = rig_poll_pending(r, 1, run, 0);
    assert_false(rig_answered(r, in));
    const struct sl_msg *m =
        rig_answer(r, out, SL_MSG_POLL_REPLY); /* it has a task to do */
    assert_int_equal(m->poll_reply.task.kind, SL_TASK_TRAIN);
    assert_false(m->poll_reply.has_settled);
    rig_time(r, 60000);
    m = rig_answer(r, in, SL_MSG_POLL_REPLY);
    assert_true(m->poll_reply.has_settled && m->poll_reply.settled_committed);
    assert_int_equal(m->poll_reply.settled_run, run);
    assert_int_equal(m->poll_reply.settled_round, 0);
    assert_int_equal(m->poll_reply.task.round, 1); /* and the next task with it */
    m = rig_answer(r, rig_poll_pending(r, 1, run, 0), SL_MSG_POLL_REPLY);
    assert_true(m->poll_reply.has_settled && !m->poll_reply.settled_committed);
    m = rig_answer(r, rig_poll_pending(r, 1, run + 7, 0), SL_MSG_POLL_REPLY);
    assert_true(m->poll_reply.has_settled && !m->poll_reply.settled_committed);
}

static void an_update_of_a_failed_run_is_settled_as_not_committed(void **state)
{
    struct rig *r = *state;
    uint64_t run = rig_start(r, &(struct rig_plan){0});
    rig_give(r, 0, run, 0, 1);
    sl_request_id id = rig_poll_pending(r, 0, run, 0);
    rig_time(r, 60000);
    rig_expect_run(r, "1 0 0 over");
    const struct sl_msg *m = rig_answer(r, id, SL_MSG_POLL_REPLY);
    assert_true(m->poll_reply.has_settled && !m->poll_reply.settled_committed);
}

static void under_strict_reproducibility_another_kernel_is_out(void **state)
{
    struct rig *r = *state;
    uint64_t run = rig_start(
        r,
        &(struct rig_plan){.clients = 3, .quorum = 0.5, .run = ", reproducible: strict"});
    struct sl_msg reg = {.kind = SL_MSG_REGISTER};
    reg.reg.index = -1;
    snprintf(reg.reg.blas, sizeof(reg.reg.blas), "another");
    rig_send(r, 1, &reg);
    rig_expect_member(r, 1, "failed", "fp32 kernel another, not reference");
    assert_int_equal(rig_task(r, 1).kind, SL_TASK_NONE);
    rig_give(r, 0, run, 0, 1);
    rig_give(r, 2, run, 0, 1);
    rig_expect_run(r, "1 1 0 open");
}

/* --- evaluation by clients
 * ------------------------------------------------------------------- */

static const struct rig_plan both = {.rounds = 2,
                                     .more = "evaluation: {where: both, holdout: 0.2}\n"};

static sl_request_id give_measured(struct rig *r, uint32_t client, uint64_t run,
                                   uint32_t round)
{
    struct rig_update u = rig_update(r, run, round, 0);
    u.meta.weight = u.meta.samples = 16; /* 4 of 20 are held out */
    u.meta.steps = 2;
    u.meta.has_eval = true;
    u.meta.eval =
        (struct sl_eval_counts){.samples = 4, .correct = client + 1, .loss_sum = 2};
    sl_request_id id = rig_put(r, client, &u);
    rig_update_deinit(&u);
    return id;
}

static void an_evaluation_counts_only_when_it_was_asked_for(void **state)
{
    struct rig *r = *state;
    uint64_t run = rig_start(r, &both);
    assert_false(rig_task(r, 0).evaluate); /* there is no round before the first */
    give_measured(r, 0, run, 0);
    give_measured(r, 1, run, 0);
    assert_null(json_object_get(rig_line(r, "round", 0), "client_eval"));
    assert_true(rig_task(r, 0).evaluate);
    give_measured(r, 0, run, 1);
    give_measured(r, 1, run, 1);
    const json_t *e = json_object_get(rig_line(r, "round", 1), "client_eval");
    assert_int_equal(rig_integer(e, "model_of_round"), 0);
    assert_int_equal(rig_integer(e, "samples"), 8);
    assert_true(json_number_value(json_object_get(e, "accuracy")) == 3.0 / 8);
}

static void the_final_model_is_measured_by_those_who_answer(void **state)
{
    struct rig *r = *state;
    uint64_t run = rig_start(r, &both);
    for (uint32_t round = 0; round < 2; round++)
        for (uint32_t k = 0; k < 2; k++)
            give_measured(r, k, run, round);
    rig_expect_run(r, "1 2 0 evaluating");
    struct sl_task_order task = rig_task(r, 0);
    assert_int_equal(task.kind, SL_TASK_EVALUATE);
    struct sl_msg m = {.kind = SL_MSG_EVAL_REPORT};
    m.eval_report.run_id = run;
    m.eval_report.eval =
        (struct sl_eval_counts){.samples = 4, .correct = 3, .loss_sum = 1};
    assert_true(rig_answer(r, rig_send(r, 0, &m), SL_MSG_ACK)->ack.ok);
    m.eval_report.eval.correct = 0;
    assert_true(
        rig_answer(r, rig_send(r, 0, &m), SL_MSG_ACK)->ack.ok); /* once is enough */
    assert_int_equal(rig_task(r, 0).kind, SL_TASK_NONE);
    assert_int_equal(rig_task(r, 1).kind, SL_TASK_EVALUATE);
    rig_sleep(r, 59000);
    rig_expect_run(r, "1 2 0 evaluating");
    rig_sleep(r, 60000);
    const json_t *e = json_object_get(rig_line(r, "run_end", 0), "client_eval");
    assert_int_equal(rig_integer(e, "samples"), 4);
    assert_true(json_number_value(json_object_get(e, "accuracy")) == 0.75);
    assert_false(rig_answer(r, rig_send(r, 1, &m), SL_MSG_ACK)->ack.ok); /* too late */
}

static void an_impossible_measurement_is_none(void **state)
{
    static const struct sl_eval_counts bad[] = {{.samples = 5, .correct = 1, .loss_sum = 1},
                                                {.samples = 4, .correct = 5, .loss_sum = 1},
                                                {.samples = 4, .correct = 1, .loss_sum = -1},
                                                {.samples = 4, .loss_sum = 1e308}};
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        struct rig *r = *state;
        uint64_t run = rig_start(r, &both);
        for (uint32_t k = 0; k < 2; k++)
            give_measured(r, k, run, 0);
        struct rig_update u = rig_update(r, run, 1, 0);
        u.meta.weight = u.meta.samples = 16;
        u.meta.steps = 2;
        u.meta.has_eval = true;
        u.meta.eval = bad[i];
        rig_expect_put(r, rig_put(r, 0, &u), SL_PUT_REJECTED, "evaluation");
        rig_update_deinit(&u);
        teardown(state);
        setup(state);
    }
    struct rig *r = *state;
    uint64_t run = rig_start(r, &both);
    for (uint32_t round = 0; round < 2; round++)
        for (uint32_t k = 0; k < 2; k++)
            give_measured(r, k, run, round);
    struct sl_msg m = {.kind = SL_MSG_EVAL_REPORT};
    m.eval_report.run_id = run;
    for (uint32_t k = 0; k < 2; k++) {
        m.eval_report.eval = bad[3 * k];
        assert_non_null(
            strstr(rig_answer(r, rig_send(r, k, &m), SL_MSG_ACK)->ack.reason, "evaluation"));
    }
    rig_expect_run(r, "1 2 0 over");
    assert_true(json_is_null(json_object_get(rig_line(r, "run_end", 0), "client_eval")));
}

static void a_client_that_can_not_measure_is_not_waited_for(void **state)
{
    struct rig *r = *state;
    uint64_t run = rig_start(r, &both);
    for (uint32_t round = 0; round < 2; round++)
        for (uint32_t k = 0; k < 2; k++)
            give_measured(r, k, run, round);
    for (uint32_t k = 0; k < 2; k++) {
        struct sl_msg failed = {.kind = SL_MSG_TASK_FAILED};
        failed.task_failed.run_id = run;
        failed.task_failed.round = rig_task(r, k).round;
        assert_true(rig_answer(r, rig_send(r, k, &failed), SL_MSG_ACK)->ack.ok);
    }
    rig_expect_run(r, "1 2 0 over");
    assert_true(json_is_null(json_object_get(rig_line(r, "run_end", 0), "client_eval")));
}

static void a_client_revoked_during_the_final_evaluation_is_not_waited_for(void **state)
{
    struct rig *r = *state;
    struct sl_err err;
    uint64_t run = rig_start(r, &both);
    for (uint32_t round = 0; round < 2; round++)
        for (uint32_t k = 0; k < 2; k++)
            give_measured(r, k, run, round);
    struct sl_msg m = {.kind = SL_MSG_EVAL_REPORT};
    m.eval_report.run_id = run;
    m.eval_report.eval = (struct sl_eval_counts){.samples = 4, .correct = 3, .loss_sum = 1};
    rig_send(r, 0, &m);
    assert_int_equal(sl_coordinator_revoke(r->c, r->now, 0, &err), SL_OK);
    rig_expect_run(r, "1 2 0 evaluating");
    assert_int_equal(sl_coordinator_revoke(r->c, r->now, 1, &err), SL_OK);
    rig_expect_run(r, "1 2 0 over");
    const json_t *e = json_object_get(rig_line(r, "run_end", 0), "client_eval");
    assert_int_equal(rig_integer(e, "samples"), 4); /* said while it was enrolled */
}

/* --- the operator
 * -------------------------------------------------------------------------------- */

static void a_pause_holds_between_rounds_until_it_is_lifted(void **state)
{
    struct rig *r = *state;
    uint64_t run = rig_start(r, &(struct rig_plan){0});
    sl_coordinator_pause(r->c, true);
    rig_give(r, 0, run, 0, 1);
    rig_expect_put(r, rig_give(r, 1, run, 0, 1), SL_PUT_ACCEPTED, "");
    rig_expect_run(r, "1 1 0 paused");
    sl_request_id poll = rig_poll(r, 0);
    rig_sleep(r, 5000);
    rig_expect_run(r, "1 1 0 paused");
    assert_false(rig_answered(r, poll));
    sl_coordinator_pause(r->c, false);
    rig_sleep(r, 7000);
    rig_expect_run(r, "1 1 0 open");
    assert_int_equal(rig_answer(r, poll, SL_MSG_POLL_REPLY)->poll_reply.task.round, 1);
}

static void a_drain_lets_the_round_end_and_opens_no_other(void **state)
{
    struct rig *r = *state;
    uint64_t run = rig_start(r, &(struct rig_plan){0});
    rig_give(r, 0, run, 0, 1);
    sl_request_id held = rig_poll(r, 0);
    sl_coordinator_drain(r->c, r->now);
    const struct sl_msg *m = rig_answer(r, held, SL_MSG_POLL_REPLY);
    assert_true(m->poll_reply.draining);
    assert_int_equal(m->poll_reply.task.kind, SL_TASK_NONE);
    m = rig_answer(r, rig_poll(r, 1), SL_MSG_POLL_REPLY); /* the open round goes on */
    assert_true(m->poll_reply.draining);
    assert_int_equal(m->poll_reply.task.kind, SL_TASK_TRAIN);
    r->holds = true;
    rig_give(r, 1, run, 0, 1);
    assert_false(sl_coordinator_idle(r->c));
    rig_finish_all(r);
    assert_true(sl_coordinator_idle(r->c));
    assert_int_equal(rig_lines(r, "round"), 1);
    rig_sleep(r, 5000);
    rig_expect_run(r, "1 1 0 waiting for clients");
    rig_kill(r, false);
    rig_boot(r);
    rig_expect_run(r, "1 1 0 open");
}

static void what_is_wrong_with_a_plan_is_said_before_it_is_queued(void **state)
{
    struct rig *r = *state;
    static const struct {
        struct rig_plan plan;
        const char *why;
    } bad[] = {
        {{.more = "aggregation: {max_weight: 19}\n"}, "aggregation.max_weight is 19"},
        {{.selection = ", policy: file, path: /nowhere/cohorts.txt"},
         "/nowhere/cohorts.txt"},
    };
    rig_boot(r);
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        struct sl_plan plan = rig_make_plan(&bad[i].plan);
        struct sl_err err;
        uint64_t run = 77;
        assert_int_not_equal(sl_coordinator_submit(r->c, 0, &plan, &run, &err), SL_OK);
        assert_int_equal(run, 77);
        if (strstr(err.msg, bad[i].why) == NULL)
            fail_msg("%s", err.msg);
        sl_plan_deinit(&plan);
    }
    rig_expect_run(r, "none");
}

static void a_run_starts_with_as_many_clients_as_it_says(void **state)
{
    struct rig *r = *state;
    rig_boot(r);
    rig_enrol(r, 0, 1);
    rig_submit(r, &(struct rig_plan){.clients = 4, .run = ", min_clients: 2"});
    rig_sleep(r, 3000);
    rig_expect_run(r, "1 0 0 waiting for clients");
    assert_int_equal(rig_lines(r, "run_start"), 0);
    rig_enrol(r, 3, 1);
    rig_expect_run(r, "1 0 0 open");
    rig_expect_member(r, 0, "waiting", "");
    rig_expect_member(r, 3, "waiting", "");
    rig_expect_member(r, 1, NULL, NULL);
}

static void committed_rounds_can_be_explained(void **state)
{
    struct rig *r = *state;
    struct sl_err err;
    rig_boot(r);
    assert_null(sl_coordinator_explain(r->c, -1, &err));
    rig_enrol(r, 0, 2);
    uint64_t run = rig_submit(r, &(struct rig_plan){0});
    rig_give(r, 0, run, 0, 1);
    rig_give(r, 1, run, 0, 1);
    json_t *line = sl_coordinator_explain(r->c, 0, &err);
    assert_true(json_equal(line, (json_t *)(uintptr_t)rig_line(r, "round", 0)));
    json_decref(line);
    assert_null(sl_coordinator_explain(r->c, 2, &err));
    assert_int_equal(err.code, SL_E_NOTFOUND);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_deadline_closes_a_round_that_has_its_quorum),
        TEST(the_deadline_comes_without_polls_being_held),
        TEST(a_repeated_attempt_keeps_the_updates_that_are_in),
        TEST(held_polls_are_told_of_a_repeated_attempt),
        TEST(a_run_without_quorum_and_retries_fails_and_the_queue_goes_on),
        TEST(over_selection_closes_at_the_wanted_number),
        TEST(a_poll_is_held_until_a_round_opens),
        TEST(a_held_poll_is_answered_after_its_time_and_not_when_forgotten),
        TEST(a_task_is_given_again_until_its_update_is_in),
        TEST(a_long_model_and_the_plan_come_in_chunks),
        TEST(a_pending_update_is_settled_when_its_round_is),
        TEST(an_update_of_a_failed_run_is_settled_as_not_committed),
        TEST(under_strict_reproducibility_another_kernel_is_out),
        TEST(an_evaluation_counts_only_when_it_was_asked_for),
        TEST(the_final_model_is_measured_by_those_who_answer),
        TEST(a_client_revoked_during_the_final_evaluation_is_not_waited_for),
        TEST(an_impossible_measurement_is_none),
        TEST(a_long_reason_in_any_script_is_in_the_report),
        TEST(losses_that_do_not_add_up_are_rejected),
        TEST(a_client_that_can_not_measure_is_not_waited_for),
        TEST(a_pause_holds_between_rounds_until_it_is_lifted),
        TEST(a_drain_lets_the_round_end_and_opens_no_other),
        TEST(what_is_wrong_with_a_plan_is_said_before_it_is_queued),
        TEST(a_run_starts_with_as_many_clients_as_it_says),
        TEST(committed_rounds_can_be_explained),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
