/* SPDX-License-Identifier: Apache-2.0 */
/* Probes in the coordinator: reports are held, the policy decides once all are in or their time is over,
 * everybody is told, and all of that survives the coordinator. */
#include "server/coordinator.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "server/selection/fedmarl/policy.h"
#include "server/selection/fedmarl/record.h"
#include "tests/unit/core_rig.h"

#define PROBES ", probe_epochs: 1"
#define LOWEST PROBES ", policy: lowest-loss, accept: 2"

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

static struct sl_msg probe(uint64_t run, uint32_t round, float loss)
{
    struct sl_msg m = {.kind = SL_MSG_PROBE};
    m.probe.run_id = run;
    m.probe.round = round;
    m.probe.loss = loss;
    m.probe.samples = 20;
    return m;
}

static sl_request_id report(struct rig *r, uint32_t client, uint64_t run, uint32_t round,
                            float loss)
{
    struct sl_msg m = probe(run, round, loss);
    return rig_send(r, client, &m);
}

static void expect_go(const struct rig *r, sl_request_id id, enum sl_go go)
{
    assert_int_equal(rig_answer(r, id, SL_MSG_DECISION)->decision.go, go);
}

/* All four have the task, and time goes on before each report. */
static uint64_t start_four(struct rig *r, const char *selection)
{
    uint64_t run = rig_start(r, &(struct rig_plan){.clients = 4, .selection = selection});
    for (uint32_t k = 0; k < 4; k++)
        assert_int_equal(rig_task(r, k).kind, SL_TASK_TRAIN);
    return run;
}

static void report_four(struct rig *r, uint64_t run, uint32_t round, sl_request_id ret[4])
{
    static const float losses[] = {0.5f, 2, 1, 4};
    for (uint32_t k = 0; k < 4; k++) {
        rig_sleep(r, r->now + 1000);
        ret[k] = report(r, k, run, round, losses[k]);
    }
}

/* --- the decision ----------------------------------------------------------------------------- */

static void reports_are_held_till_all_are_in_and_then_decided(void **state)
{
    struct rig *r = *state;
    sl_request_id id[4];
    uint64_t run = start_four(r, LOWEST);
    for (uint32_t k = 0; k < 3; k++)
        id[k] = report(r, k, run, 0, (float)(3 - k));
    rig_expect_member(r, 0, "probed", NULL);
    assert_false(rig_answered(r, id[0]));
    id[3] = report(r, 3, run, 0, 9);
    expect_go(r, id[0], SL_GO_STOP);
    expect_go(r, id[1], SL_GO_ON);
    expect_go(r, id[2], SL_GO_ON);
    expect_go(r, id[3], SL_GO_STOP);
    rig_expect_member(r, 1, "tasked", NULL);
    rig_expect_member(r, 0, "stopped", NULL);
    rig_expect_put(r, rig_give(r, 1, run, 0, 1), SL_PUT_ACCEPTED, NULL);
    rig_expect_put(r, rig_give(r, 2, run, 0, 1), SL_PUT_ACCEPTED, NULL);
    const json_t *line = rig_line(r, "round", 0);
    assert_int_equal(rig_integer(line, "probed"), 4);
    assert_int_equal(rig_integer(line, "stopped"), 2);
    assert_int_equal(rig_integer(line, "accepted"), 2);
    assert_int_equal(rig_integer(line, "completed"), 2);
    assert_int_equal(rig_integer(line, "dropped"), 0);
}

static void who_is_stopped_is_no_failure_and_its_update_is_refused(void **state)
{
    struct rig *r = *state;
    sl_request_id id[4];
    uint64_t run = start_four(r, LOWEST);
    rig_expect_put(r, rig_give(r, 0, run, 0, 1), SL_PUT_REJECTED, "not told to go on");
    report_four(r, run, 0, id);
    rig_expect_put(r, rig_give(r, 3, run, 0, 1), SL_PUT_REJECTED, "not told to go on");
    rig_expect_member(r, 3, "stopped", NULL);
    assert_int_equal(rig_task(r, 3).kind, SL_TASK_NONE); /* nothing more this round */
    rig_give(r, 0, run, 0, 1);
    rig_give(r, 2, run, 0, 1);
    rig_expect_run(r, "1 1 0 open");
    assert_int_equal(json_array_size(json_object_get(rig_line(r, "round", 0), "not_included")), 0);
}

static void quorum_is_of_those_who_go_on(void **state)
{
    struct rig *r = *state;
    sl_request_id id[4];
    uint64_t run = rig_start(
        r, &(struct rig_plan){.clients = 4, .quorum = 0.5, .selection = LOWEST});
    report_four(r, run, 0, id);
    rig_give(r, 0, run, 0, 1); /* one of two is enough at the deadline */
    rig_sleep(r, 60000);
    rig_expect_run(r, "1 1 0 open");
}

static void who_is_silent_is_left_out_when_the_time_for_probes_is_over(void **state)
{
    struct rig *r = *state;
    uint64_t run = start_four(r, LOWEST);
    for (uint32_t k = 0; k < 3; k++)
        report(r, k, run, 0, (float)k);
    rig_sleep(r, 29999); /* nothing is known of these clients: half of the deadline */
    rig_expect_member(r, 0, "probed", NULL);
    rig_sleep(r, 30000);
    rig_expect_member(r, 0, "tasked", NULL);
    rig_expect_member(r, 2, "stopped", NULL);
    rig_expect_member(r, 3, "failed", "did not report its probe in time");
    expect_go(r, report(r, 3, run, 0, 0), SL_GO_STOP);
    rig_give(r, 0, run, 0, 1);
    rig_give(r, 1, run, 0, 1);
    const json_t *rows = json_object_get(rig_line(r, "round", 0), "probes");
    assert_string_equal(rig_text(json_array_get(rows, 3), "verdict"), "silent");
    assert_true(json_number_value(json_object_get(json_array_get(rows, 3), "probe_s")) == 30);
}

static void time_for_probes_follows_what_clients_are_known_to_need(void **state)
{
    struct rig *r = *state;
    sl_request_id id[4];
    uint64_t run = start_four(r, LOWEST ", probe_slack: 3");
    report_four(r, run, 0, id); /* after 1, 2, 3 and 4 s */
    rig_give(r, 0, run, 0, 1);
    rig_give(r, 2, run, 0, 1);
    uint64_t opened = r->now;
    report(r, 0, run, 1, 1);
    rig_sleep(r, opened + 11999);
    rig_expect_member(r, 0, "probed", NULL);
    rig_sleep(r, opened + 12000); /* 3 times the 90 % quantile, which is the slowest of four */
    rig_expect_member(r, 0, "tasked", NULL);
}

static void a_round_without_any_probe_ends_at_its_deadline(void **state)
{
    struct rig *r = *state;
    start_four(r, LOWEST);
    rig_sleep(r, 59999);
    rig_expect_run(r, "1 0 0 open");
    rig_sleep(r, 60000);
    rig_expect_run(r, "1 0 0 over");
}

static void a_report_is_answered_by_wait_when_it_is_held_long_enough(void **state)
{
    struct rig *r = *state;
    uint64_t run = start_four(r, LOWEST);
    sl_request_id first = report(r, 0, run, 0, 1), second;
    rig_sleep(r, SL_POLL_HOLD_MS + 2000);
    expect_go(r, first, SL_GO_WAIT);
    first = report(r, 0, run, 0, 1);
    second = report(r, 0, run, 0, 1); /* the later one is the one that waits */
    expect_go(r, first, SL_GO_WAIT);
    assert_false(rig_answered(r, second));
    sl_coordinator_drain(r->c, r->now);
    expect_go(r, second, SL_GO_WAIT);
    assert_true(rig_answer(r, second, SL_MSG_DECISION)->decision.again_ms > 0);
}

/* --- clients that report nonsense ---------------------------------------------------------------- */

static void nonsense_changes_nothing_but_the_senders_own_record(void **state)
{
    struct rig *r = *state;
    uint64_t run = start_four(r, LOWEST);
    expect_go(r, report(r, 3, run, 1, 0), SL_GO_STOP); /* another round, another run */
    expect_go(r, report(r, 3, run + 7, 0, 0), SL_GO_STOP);
    rig_expect_member(r, 3, "tasked", NULL);
    sl_request_id id = report(r, 2, run, 0, 1);
    report(r, 2, run, 0, 1e6f); /* twice: the first counts */
    expect_go(r, id, SL_GO_WAIT);
    report(r, 0, run, 0, 0.5f);
    report(r, 1, run, 0, 2);
    expect_go(r, report(r, 3, run, 0, NAN), SL_GO_STOP);
    rig_expect_member(r, 3, "failed", "not a finite number");
    expect_go(r, report(r, 3, run, 0, 0), SL_GO_STOP); /* no second chance */
    rig_expect_member(r, 1, "stopped", NULL);
    rig_give(r, 0, run, 0, 1);
    rig_give(r, 2, run, 0, 3);
    rig_expect_run(r, "1 1 0 open");
    const json_t *rows = json_object_get(rig_line(r, "round", 0), "probes");
    assert_true(json_number_value(json_object_get(json_array_get(rows, 2), "loss")) == 1);
    assert_true(json_is_null(json_object_get(json_array_get(rows, 3), "loss")));
}

static void samples_that_a_client_cannot_have_are_refused(void **state)
{
    struct rig *r = *state;
    uint64_t run = start_four(r, LOWEST);
    struct sl_msg m = probe(run, 0, 1);
    m.probe.samples = 21;
    expect_go(r, rig_send(r, 1, &m), SL_GO_STOP);
    rig_expect_member(r, 1, "failed", "can't have");
}

/* --- everybody goes on ------------------------------------------------------------------------- */

static void with_all_and_random_everybody_goes_on_at_once(void **state)
{
    struct rig *r = *state;
    uint64_t run = start_four(r, PROBES);
    expect_go(r, report(r, 0, run, 0, 5), SL_GO_ON);
    for (uint32_t k = 0; k < 4; k++) /* who reports and who does not */
        rig_give(r, k, run, 0, 1);
    const json_t *line = rig_line(r, "round", 0);
    assert_int_equal(rig_integer(line, "completed"), 4);
    assert_int_equal(rig_integer(line, "probed"), 1);
    assert_int_equal(rig_integer(line, "stopped"), 0);
    assert_null(rig_line(r, "decision", 0));
}

/* --- restarts ------------------------------------------------------------------------------------ */

static void before_the_decision_reports_are_taken_anew_after_a_restart(void **state)
{
    struct rig *r = *state;
    sl_request_id id[4];
    uint64_t run = start_four(r, LOWEST);
    report(r, 0, run, 0, 9);
    rig_kill(r, false);
    rig_boot(r);
    rig_expect_member(r, 0, "waiting", NULL);
    report_four(r, run, 0, id);
    expect_go(r, id[0], SL_GO_ON);
    expect_go(r, id[1], SL_GO_STOP);
    rig_give(r, 0, run, 0, 1);
    rig_give(r, 2, run, 0, 1);
    rig_expect_run(r, "1 1 0 open");
}

static void after_the_decision(struct rig *r, bool power_cut)
{
    sl_request_id id[4];
    uint64_t run = start_four(r, LOWEST);
    report_four(r, run, 0, id);
    rig_kill(r, power_cut);
    rig_boot(r);
    rig_expect_member(r, 1, "stopped", NULL);
    expect_go(r, report(r, 1, run, 0, 0), SL_GO_STOP); /* whatever it says now */
    expect_go(r, report(r, 0, run, 0, 99), SL_GO_ON);
    assert_int_equal(rig_task(r, 2).kind, SL_TASK_TRAIN); /* killed too: trains again */
    assert_int_equal(rig_task(r, 3).kind, SL_TASK_NONE);
    rig_expect_put(r, rig_give(r, 0, run, 0, 1), SL_PUT_ACCEPTED, NULL);
    rig_kill(r, false);
    rig_boot(r);
    rig_expect_member(r, 0, "accepted", NULL);
    rig_expect_put(r, rig_give(r, 2, run, 0, 1), SL_PUT_ACCEPTED, NULL);
    rig_expect_run(r, "1 1 0 open");
    assert_int_equal(rig_lines(r, "decision"), 1);
}

static void a_restarted_coordinator_keeps_the_decision(void **state)
{
    after_the_decision(*state, false);
}

static void a_decision_survives_a_power_cut(void **state)
{
    after_the_decision(*state, true);
}

static void nobody_is_told_of_a_decision_that_the_store_refused(void **state)
{
    struct rig *r = *state;
    sl_request_id id[4];
    uint64_t run = start_four(r, LOWEST);
    r->ops->refuse[RIG_PUT_REPORT] = 1;
    report_four(r, run, 0, id);
    assert_true(rig_fault(r));
    assert_false(rig_answered(r, id[0]) && rig_answered(r, id[3]));
    rig_expect_member(r, 3, "probed", NULL);
    rig_sleep(r, r->now + 1000);
    assert_false(rig_fault(r));
    expect_go(r, id[3], SL_GO_STOP);
    rig_expect_member(r, 0, "tasked", NULL);
}

/* Six rounds of a policy that looks at everything; every second round the coordinator is killed. */
static char *decisions_of(struct rig *r, const char *selection, bool kills)
{
    uint64_t run = rig_start(
        r, &(struct rig_plan){.clients = 4, .rounds = 6, .selection = selection});
    for (uint32_t round = 0; round < 6; round++) {
        for (uint32_t k = 0; k < 4; k++)
            rig_task(r, k);
        uint64_t opened = r->now;
        for (uint32_t k = 0; k < 4; k++) {
            r->now = opened + 1000 * (1 + (k * 7 + round * 3) % 5);
            report(r, k, run, round, 1 + (float)((k * 5 + round) % 7));
        }
        for (uint32_t k = 0; k < 4; k++)
            rig_give(r, k, run, round, 1); /* of the stopped refused */
        if (kills && round % 2 == 0) {
            rig_kill(r, round % 4 == 0);
            rig_boot(r);
        }
    }
    json_t *all = json_array(), *line;
    size_t i;
    json_array_foreach(r->lines, i, line)
    {
        if (strcmp(rig_text(line, "event"), "decision") == 0)
            json_array_append(all, json_object_get(line, "probes"));
    }
    assert_int_equal(json_array_size(all), 6);
    char *text = json_dumps(all, JSON_COMPACT);
    json_decref(all);
    return text;
}

static void histories_are_the_same_after_restarts(void **state)
{
    static const char *const policies[] = {PROBES ", policy: oort, accept: 2",
                                           PROBES ", policy: drop-slowest, accept: 2"};
    for (size_t i = 0; i < 2; i++) {
        struct rig calm, shaken;
        rig_init(&calm);
        rig_init(&shaken);
        char *a = decisions_of(&calm, policies[i], false);
        char *b = decisions_of(&shaken, policies[i], true);
        assert_string_equal(a, b);
        free(a);
        free(b);
        rig_deinit(&calm);
        rig_deinit(&shaken);
    }
    (void)state;
}

/* --- learned ------------------------------------------------------------------------------------- */

#define POLICY_FILE "/tmp/t_probe_XXXXXX"

/* A policy of drawn values. */
static void write_policy(char path[sizeof(POLICY_FILE)], uint64_t seed)
{
    struct sl_fedmarl_policy p = {.spec = {.n_probe = 2, .n_upload = 2}};
    const struct sl_qnet_shape shape = {.n_inputs = sl_fedmarl_n_inputs(&p.spec),
                                        .hidden = 8,
                                        .layers = 1,
                                        .n_actions = 2};
    struct sl_err err;
    memcpy(path, POLICY_FILE, sizeof(POLICY_FILE));
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    if (sl_qnet_new(&shape, seed, &p.net, &err) != SL_OK ||
        sl_fedmarl_policy_save(&p, NULL, 0, path, &err) != SL_OK)
        fail_msg("%s", err.msg);
    sl_fedmarl_policy_deinit(&p);
}

/* Every (s, a, r) of a round, as the policy saw it. */
static void a_learned_policy_decides_and_leaves_its_records(void **state)
{
    struct rig *r = *state;
    char path[sizeof(POLICY_FILE)], keys[128];
    sl_request_id id[4];
    write_policy(path, 3);
    snprintf(keys, sizeof(keys), PROBES ", policy: fedmarl, min_accepted: 2, policy_file: %s", path);
    uint64_t run = start_four(r, keys);
    report_four(r, run, 0, id);
    for (uint32_t k = 0; k < 4; k++)
        rig_give(r, k, run, 0, 1);
    const json_t *line = rig_line(r, "round", 0), *rows = json_object_get(line, "probes");
    assert_int_equal(r->n_record_bytes, 4 * SL_FEDMARL_RECORD_BYTES);
    assert_true(rig_integer(line, "accepted") >= 2);
    for (size_t i = 0; i < 4; i++) {
        struct sl_fedmarl_record rec;
        struct sl_err err;
        if (sl_fedmarl_record_get(r->records + i * SL_FEDMARL_RECORD_BYTES, &rec, &err) != SL_OK)
            fail_msg("%s", err.msg);
        const json_t *row = json_array_get(rows, i), *q = json_object_get(row, "q");
        bool go = strcmp(rig_text(row, "verdict"), "go") == 0;
        assert_true(rec.client == i && rec.row == i && rec.rows == 4 && rec.round == 0);
        assert_int_equal(rec.action, go ? SL_FEDMARL_GO : SL_FEDMARL_STOP);
        assert_true((double)rec.q[1] == json_number_value(json_array_get(q, 1)));
        assert_true(rec.reward == json_number_value(json_object_get(line, "reward")));
        assert_false(rec.last);
        assert_int_equal(rec.n_inputs, 9);
        /* a loss, and a time that is some power of two of the median */
        assert_true(rec.inputs[0] > 0 && rec.inputs[1] > -SL_FEDMARL_CLAMP &&
                    rec.inputs[1] < SL_FEDMARL_CLAMP);
    }
    unlink(path);
}

static void append(const char *path, uint64_t run, uint32_t round, uint16_t rows)
{
    uint8_t bytes[4 * SL_FEDMARL_RECORD_BYTES];
    struct sl_err err;
    for (uint16_t i = 0; i < rows; i++)
        sl_fedmarl_record_put(&(struct sl_fedmarl_record){.run = run,
                                                          .round = round,
                                                          .client = i,
                                                          .row = i,
                                                          .rows = rows,
                                                          .n_inputs = 9},
                              bytes + i * SL_FEDMARL_RECORD_BYTES);
    if (sl_fedmarl_log_append(path, run, round, bytes, rows * SL_FEDMARL_RECORD_BYTES, &err) != SL_OK)
        fail_msg("%s", err.msg);
}

static void expect_records(const char *path, size_t n)
{
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, n * SL_FEDMARL_RECORD_BYTES);
}

static void a_round_that_is_logged_again_takes_its_own_place(void **state)
{
    char path[] = POLICY_FILE;
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    append(path, 1, 0, 4);
    append(path, 1, 1, 3);
    expect_records(path, 7);
    append(path, 1, 1, 2); /* its commit was cut short */
    expect_records(path, 6);
    assert_int_equal(write(fd, "torn", 4), 4); /* at the front: a damaged record is left alone */
    assert_int_equal(ftruncate(fd, 6 * SL_FEDMARL_RECORD_BYTES + 7), 0);
    append(path, 1, 2, 1);
    expect_records(path, 7);
    append(path, 2, 0, 1); /* another run */
    expect_records(path, 8);
    close(fd);
    unlink(path);
    (void)state;
}

static void a_policy_that_cannot_be_used_is_refused_at_the_start(void **state)
{
    struct rig *r = *state;
    char path[sizeof(POLICY_FILE)], keys[128];
    struct sl_err err;
    uint64_t run;
    write_policy(path, 3);
    snprintf(keys, sizeof(keys), PROBES ", policy: fedmarl, policy_file: %s", path);
    struct sl_plan plan = rig_make_plan(&(struct rig_plan){.clients = 4, .selection = keys});
    rig_boot(r);
    rig_enrol(r, 0, 4);
    assert_int_equal(truncate(path, 300), 0);
    assert_int_equal(sl_coordinator_submit(r->c, r->now, &plan, &run, &err), SL_E_INPUT);
    assert_non_null(strstr(err.msg, "selection.policy_file: /tmp/t_probe_"));
    assert_null(strchr(err.msg, '\n'));
    unlink(path);
    assert_int_equal(sl_coordinator_submit(r->c, r->now, &plan, &run, &err), SL_E_NOTFOUND);
    assert_non_null(strstr(err.msg, "selection.policy_file: /tmp/t_probe_"));
    sl_plan_deinit(&plan);
}

/* The file is another one when the coordinator comes back: the run can't go on as it began. */
static void a_run_ends_when_its_policy_is_exchanged(void **state)
{
    struct rig *r = *state;
    char path[sizeof(POLICY_FILE)], other[sizeof(POLICY_FILE)], keys[128];
    enum sl_run_state end;
    write_policy(path, 3);
    write_policy(other, 4);
    snprintf(keys, sizeof(keys), PROBES ", policy: fedmarl, policy_file: %s", path);
    uint64_t run = start_four(r, keys);
    rig_kill(r, false);
    rig_boot(r);
    rig_expect_run(r, "1 0 0 open");
    rig_kill(r, false);
    assert_int_equal(rename(other, path), 0);
    rig_boot(r);
    assert_true(sl_coordinator_finished(r->c, run, &end));
    assert_int_equal(end, SL_RUN_FAILED);
    unlink(path);
}

static void what_a_round_decided_is_explained(void **state)
{
    struct rig *r = *state;
    struct sl_err err;
    sl_request_id id[4];
    uint64_t run = start_four(r, LOWEST);
    report_four(r, run, 0, id);
    json_t *open = sl_coordinator_explain(r->c, -1, &err);
    const json_t *m = json_array_get(json_object_get(open, "members"), 1);
    const json_t *probe = json_object_get(m, "probe");
    assert_string_equal(rig_text(m, "state"), "stopped");
    assert_string_equal(rig_text(probe, "verdict"), "stop");
    assert_true(json_number_value(json_object_get(probe, "loss")) == 2);
    assert_true(json_number_value(json_object_get(probe, "probe_s")) == 2);
    json_decref(open);
    rig_give(r, 0, run, 0, 1);
    rig_give(r, 2, run, 0, 1);
    json_t *closed = sl_coordinator_explain(r->c, 0, &err);
    assert_int_equal(json_array_size(json_object_get(closed, "probes")), 4);
    json_decref(closed);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(reports_are_held_till_all_are_in_and_then_decided),
        T(who_is_stopped_is_no_failure_and_its_update_is_refused),
        T(quorum_is_of_those_who_go_on),
        T(who_is_silent_is_left_out_when_the_time_for_probes_is_over),
        T(time_for_probes_follows_what_clients_are_known_to_need),
        T(a_round_without_any_probe_ends_at_its_deadline),
        T(a_report_is_answered_by_wait_when_it_is_held_long_enough),
        T(nonsense_changes_nothing_but_the_senders_own_record),
        T(samples_that_a_client_cannot_have_are_refused),
        T(with_all_and_random_everybody_goes_on_at_once),
        T(before_the_decision_reports_are_taken_anew_after_a_restart),
        T(a_restarted_coordinator_keeps_the_decision),
        T(a_decision_survives_a_power_cut),
        T(nobody_is_told_of_a_decision_that_the_store_refused),
        T(histories_are_the_same_after_restarts),
        T(a_learned_policy_decides_and_leaves_its_records),
        T(a_round_that_is_logged_again_takes_its_own_place),
        T(a_policy_that_cannot_be_used_is_refused_at_the_start),
        T(a_run_ends_when_its_policy_is_exchanged),
        T(what_a_round_decided_is_explained),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
