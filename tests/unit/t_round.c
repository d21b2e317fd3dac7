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

static void a_round_opens_again_with_its_own_configuration(void **state)
{
    struct sl_round r = open_five(2, 1, 1);
    struct sl_err err;
    assert_int_equal(sl_round_open(&r, &r.cfg, 5, 0, five, 5, 100, 1000, &err), SL_E_BUG);
    step(&r, SL_ROUND_EV_ACCEPTED, 2, 200);
    assert_int_equal(step(&r, SL_ROUND_EV_ACCEPTED, 3, 200), SL_ROUND_COMMIT);
    assert_int_equal(sl_round_open(&r, &r.cfg, 5, 1, five, 4, 300, 250, &err), SL_OK);
    assert_int_equal(r.cfg.target, 2);
    assert_int_equal(r.cfg.deadline_ms, 1000);
    assert_int_equal(r.n_accepted, 0);
    assert_int_equal(sl_round_remaining_ms(&r, 300), 250);
    assert_int_equal(sl_round_remaining_ms(&r, 551), 0);
    assert_null(sl_round_member(&r, 11));
    assert_int_equal(step(&r, SL_ROUND_EV_TIME, 0, 550), SL_ROUND_GIVE_UP); /* attempt 1 of 1 */
    sl_round_deinit(&r);
}

static void failures_of_all_without_quorum_repeat_at_once(void **state)
{
    struct sl_round r = open_five(0, 2, 1);
    step(&r, SL_ROUND_EV_ACCEPTED, 2, 200);
    for (int i = 1; i < 4; i++)
        assert_int_equal(step(&r, SL_ROUND_EV_FAILED, five[i], 300), SL_ROUND_NOTHING);
    assert_int_equal(step(&r, SL_ROUND_EV_FAILED, 11, 400), SL_ROUND_REPEAT);
    assert_int_equal(r.deadline_at_ms, 1400);
    assert_int_equal(r.n_failed, 0);
    assert_string_equal(sl_round_member(&r, 11)->reason, "");
    assert_int_equal(step(&r, SL_ROUND_EV_ACCEPTED, 11, 500), SL_ROUND_NOTHING);
    assert_int_equal(step(&r, SL_ROUND_EV_TIME, 0, 1400), SL_ROUND_COMMIT);
    sl_round_deinit(&r);
}

static void an_endless_reason_is_cut(void **state)
{
    struct sl_round r = open_five(0, 1, 0);
    char text[200];
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    sl_round_step(&r, &(struct sl_round_event){SL_ROUND_EV_FAILED, 200, 2, text});
    sl_round_step(&r, &(struct sl_round_event){SL_ROUND_EV_FAILED, 200, 3, NULL});
    assert_int_equal(strlen(sl_round_member(&r, 2)->reason), 63);
    assert_string_equal(sl_round_member(&r, 3)->reason, "");
    sl_round_deinit(&r);
}

static void a_reason_is_cut_between_characters(void **state)
{
    struct sl_round r = open_five(0, 1, 0);
    char text[81] = "";
    for (int i = 0; i < 40; i++)
        strcat(text, "\xc3\xa9");
    sl_round_step(&r, &(struct sl_round_event){SL_ROUND_EV_FAILED, 200, 2, text});
    sl_round_step(&r, &(struct sl_round_event){SL_ROUND_EV_FAILED, 200, 3, "\xe9t\xe9"});
    assert_int_equal(strlen(sl_round_member(&r, 2)->reason), 62);
    assert_memory_equal(sl_round_member(&r, 2)->reason, text, 62);
    assert_string_equal(sl_round_member(&r, 3)->reason, "?t?");
    sl_round_deinit(&r);
}

/* --- buffers --------------------------------------------------------------------------------- */

static struct sl_round open_buffer(uint32_t target, uint32_t quorum, uint32_t retries)
{
    struct sl_round r = {0};
    struct sl_err err;
    struct sl_round_cfg cfg = {target, quorum, 1000, retries, true};
    assert_int_equal(sl_round_open(&r, &cfg, 4, 0, five, 5, 100, 1000, &err), SL_OK);
    return r;
}

static void a_buffer_closes_at_its_target_whoever_is_idle(void **state)
{
    struct sl_round r = open_buffer(2, 2, 0);
    assert_int_equal(step(&r, SL_ROUND_EV_ACCEPTED, 2, 200), SL_ROUND_IGNORED); /* has no task */
    assert_int_equal(step(&r, SL_ROUND_EV_FAILED, 2, 200), SL_ROUND_IGNORED);
    for (int i = 0; i < 4; i++)
        assert_int_equal(step(&r, SL_ROUND_EV_DRAWN, five[i], 200), SL_ROUND_NOTHING);
    assert_int_equal(step(&r, SL_ROUND_EV_DRAWN, 2, 200), SL_ROUND_IGNORED);
    assert_int_equal(step(&r, SL_ROUND_EV_FAILED, 7, 200), SL_ROUND_NOTHING);
    assert_int_equal(step(&r, SL_ROUND_EV_ACCEPTED, 5, 200), SL_ROUND_NOTHING);
    assert_int_equal(step(&r, SL_ROUND_EV_ACCEPTED, 3, 200), SL_ROUND_COMMIT);
    assert_int_equal(sl_round_member(&r, 2)->state, SL_MEMBER_WAITING);
    assert_int_equal(sl_round_member(&r, 11)->state, SL_MEMBER_IDLE);
    sl_round_deinit(&r);
}

static void another_attempt_of_a_buffer_keeps_its_tasks(void **state)
{
    struct sl_round r = open_buffer(3, 2, 1);
    for (int i = 0; i < 4; i++)
        step(&r, SL_ROUND_EV_DRAWN, five[i], 200);
    step(&r, SL_ROUND_EV_TASKED, 2, 200);
    step(&r, SL_ROUND_EV_FAILED, 3, 200);
    step(&r, SL_ROUND_EV_ACCEPTED, 5, 200);
    assert_int_equal(step(&r, SL_ROUND_EV_TIME, 0, 1100), SL_ROUND_REPEAT);
    assert_int_equal(sl_round_member(&r, 2)->state, SL_MEMBER_TASKED);
    assert_int_equal(sl_round_member(&r, 3)->state, SL_MEMBER_IDLE);
    assert_int_equal(sl_round_member(&r, 5)->state, SL_MEMBER_ACCEPTED);
    assert_int_equal(sl_round_member(&r, 7)->state, SL_MEMBER_WAITING);
    assert_int_equal(step(&r, SL_ROUND_EV_ACCEPTED, 2, 1200), SL_ROUND_NOTHING);
    assert_int_equal(step(&r, SL_ROUND_EV_TIME, 0, 2100), SL_ROUND_COMMIT); /* with its quorum */
    sl_round_deinit(&r);
}

static void a_buffer_has_a_target_between_quorum_and_members(void **state)
{
    struct sl_round r = {0};
    struct sl_err err;
    const struct sl_round_cfg low = {1, 2, 1000, 0, true}, high = {6, 2, 1000, 0, true};
    assert_int_equal(sl_round_open(&r, &low, 4, 0, five, 5, 100, 1000, &err), SL_E_RANGE);
    assert_int_equal(sl_round_open(&r, &high, 4, 0, five, 5, 100, 1000, &err), SL_E_RANGE);
    assert_string_equal(err.msg, "buffer of 6 for 5 members (2 to all allowed)");
}

/* --- probes ----------------------------------------------------------------------------------- */

/* Quorum 5 of the five until a decision says otherwise; probes are due 400 ms after the opening. */
static struct sl_round open_probing(uint32_t retries)
{
    struct sl_round r = {0};
    struct sl_err err;
    struct sl_round_cfg cfg = {
        .quorum = 5, .deadline_ms = 1000, .max_retries = retries, .probe_ms = 400};
    assert_int_equal(sl_round_open(&r, &cfg, 4, 0, five, 5, 100, 1000, &err), SL_OK);
    return r;
}

static void probed(struct sl_round *r, uint32_t client)
{
    assert_int_equal(step(r, SL_ROUND_EV_PROBED, client, 150), SL_ROUND_NOTHING);
}

static void a_decision_is_due_when_all_have_probed_or_failed(void **state)
{
    struct sl_round r = open_probing(0);
    for (int i = 0; i < 4; i++)
        probed(&r, five[i]);
    assert_false(sl_round_wants_decision(&r, 499));
    assert_int_equal(step(&r, SL_ROUND_EV_FAILED, 11, 150), SL_ROUND_NOTHING);
    assert_true(sl_round_wants_decision(&r, 150));
    sl_round_deinit(&r);
}

static void a_decision_is_due_in_time_once_anybody_has_probed(void **state)
{
    struct sl_round r = open_probing(0);
    assert_false(sl_round_wants_decision(&r, 500)); /* about nobody */
    probed(&r, 7);
    assert_false(sl_round_wants_decision(&r, 499));
    assert_true(sl_round_wants_decision(&r, 500));
    sl_round_deinit(&r);
}

static void stopped_members_count_neither_as_failures_nor_for_quorum(void **state)
{
    struct sl_round r = open_probing(0);
    const uint8_t verdicts[] = {SL_VERDICT_GO, SL_VERDICT_STOP, SL_VERDICT_GO, SL_VERDICT_STOP,
                                SL_VERDICT_SILENT};
    for (int i = 0; i < 4; i++)
        probed(&r, five[i]);
    assert_int_equal(sl_round_decide(&r, verdicts, 2, 500), SL_ROUND_NOTHING);
    assert_int_equal(sl_round_member(&r, 2)->state, SL_MEMBER_TASKED);
    assert_int_equal(sl_round_member(&r, 3)->state, SL_MEMBER_STOPPED);
    assert_int_equal(sl_round_member(&r, 11)->state, SL_MEMBER_FAILED);
    assert_string_equal(sl_round_member(&r, 11)->reason, "did not report its probe in time");
    assert_true(r.n_stopped == 2 && r.n_failed == 1 && r.n_probed == 0);
    assert_int_equal(step(&r, SL_ROUND_EV_ACCEPTED, 2, 600), SL_ROUND_NOTHING);
    assert_int_equal(step(&r, SL_ROUND_EV_ACCEPTED, 5, 600), SL_ROUND_COMMIT);
    sl_round_deinit(&r);
}

static void a_decision_is_taken_once_and_updates_of_others_do_not_count(void **state)
{
    struct sl_round r = open_probing(0);
    const uint8_t verdicts[] = {SL_VERDICT_GO, SL_VERDICT_STOP, SL_VERDICT_STOP, SL_VERDICT_STOP,
                                SL_VERDICT_SILENT};
    assert_int_equal(step(&r, SL_ROUND_EV_ACCEPTED, 2, 120), SL_ROUND_IGNORED); /* undecided */
    for (int i = 0; i < 4; i++)
        probed(&r, five[i]);
    assert_int_equal(step(&r, SL_ROUND_EV_PROBED, 2, 150), SL_ROUND_IGNORED); /* again */
    assert_int_equal(sl_round_decide(&r, verdicts, 1, 200), SL_ROUND_NOTHING);
    assert_int_equal(sl_round_decide(&r, verdicts, 1, 200), SL_ROUND_IGNORED);
    assert_false(sl_round_wants_decision(&r, 900));
    assert_int_equal(step(&r, SL_ROUND_EV_PROBED, 11, 300), SL_ROUND_IGNORED); /* too late */
    assert_int_equal(step(&r, SL_ROUND_EV_ACCEPTED, 3, 300), SL_ROUND_IGNORED);
    assert_int_equal(step(&r, SL_ROUND_EV_ACCEPTED, 11, 300), SL_ROUND_IGNORED);
    assert_int_equal(step(&r, SL_ROUND_EV_FAILED, 3, 300), SL_ROUND_IGNORED);
    assert_int_equal(step(&r, SL_ROUND_EV_ACCEPTED, 2, 300), SL_ROUND_COMMIT);
    sl_round_deinit(&r);
}

static void another_attempt_keeps_the_decision(void **state)
{
    struct sl_round r = open_probing(1);
    const uint8_t verdicts[] = {SL_VERDICT_GO, SL_VERDICT_STOP, SL_VERDICT_GO, SL_VERDICT_GO,
                                SL_VERDICT_SILENT};
    for (int i = 0; i < 4; i++)
        probed(&r, five[i]);
    sl_round_decide(&r, verdicts, 3, 200);
    step(&r, SL_ROUND_EV_ACCEPTED, 2, 300);
    step(&r, SL_ROUND_EV_FAILED, 5, 300);
    assert_int_equal(step(&r, SL_ROUND_EV_TIME, 0, 1100), SL_ROUND_REPEAT);
    assert_int_equal(sl_round_member(&r, 2)->state, SL_MEMBER_ACCEPTED);
    assert_int_equal(sl_round_member(&r, 3)->state, SL_MEMBER_STOPPED);
    assert_int_equal(sl_round_member(&r, 5)->state, SL_MEMBER_WAITING);
    assert_int_equal(sl_round_member(&r, 7)->state, SL_MEMBER_WAITING);
    assert_int_equal(sl_round_member(&r, 11)->state, SL_MEMBER_FAILED); /* was silent */
    assert_false(sl_round_wants_decision(&r, 2000));
    step(&r, SL_ROUND_EV_ACCEPTED, 5, 1200);
    assert_int_equal(step(&r, SL_ROUND_EV_ACCEPTED, 7, 1200), SL_ROUND_COMMIT);
    sl_round_deinit(&r);
}

static void an_attempt_without_a_decision_is_probed_anew(void **state)
{
    struct sl_round r = open_probing(1);
    for (int i = 0; i < 5; i++)
        assert_int_equal(step(&r, SL_ROUND_EV_FAILED, five[i], 150),
                         i < 4 ? SL_ROUND_NOTHING : SL_ROUND_REPEAT);
    assert_int_equal(r.probe_at_ms, 150 + 400);
    for (int i = 0; i < 5; i++)
        assert_int_equal(sl_round_member(&r, five[i])->state, SL_MEMBER_WAITING);
    sl_round_deinit(&r);
}

static void a_round_that_goes_on_has_what_is_left_of_the_time_for_probes(void **state)
{
    struct sl_round r = {0};
    struct sl_err err;
    struct sl_round_cfg cfg = {.quorum = 5, .deadline_ms = 1000, .probe_ms = 400};
    assert_int_equal(sl_round_open(&r, &cfg, 4, 0, five, 5, 5000, 700, &err), SL_OK);
    assert_int_equal(r.probe_at_ms, 5100);
    sl_round_deinit(&r);
    r = (struct sl_round){0};
    assert_int_equal(sl_round_open(&r, &cfg, 4, 0, five, 5, 5000, 200, &err), SL_OK);
    assert_int_equal(r.probe_at_ms, 5000);
    sl_round_deinit(&r);
    cfg.probe_ms = 1001;
    r = (struct sl_round){0};
    assert_int_equal(sl_round_open(&r, &cfg, 4, 0, five, 5, 100, 1000, &err), SL_E_BUG);
}

/* --- random events --------------------------------------------------------------------------- */

static bool same(const struct sl_round *a, const struct sl_round *b)
{
    for (size_t k = 0; k < a->n_members; k++)
        if (a->members[k].state != b->members[k].state ||
            strcmp(a->members[k].reason, b->members[k].reason) != 0)
            return false;
    return a->state == b->state && a->attempt == b->attempt &&
           a->deadline_at_ms == b->deadline_at_ms && a->n_accepted == b->n_accepted &&
           a->n_failed == b->n_failed;
}

/* The counts follow the members; every action says what became of the round. */
static void check_step(const struct sl_round *was, const struct sl_round *r,
                       const struct sl_round_event *ev, enum sl_round_action a)
{
    size_t accepted = 0, failed = 0;
    for (size_t k = 0; k < r->n_members; k++) {
        bool in = r->members[k].state == SL_MEMBER_ACCEPTED;
        accepted += in;
        failed += r->members[k].state == SL_MEMBER_FAILED;
        if (was->members[k].state == SL_MEMBER_ACCEPTED && ev->kind != SL_ROUND_EV_LOST)
            assert_true(in); /* only LOST takes an update away */
        if (a == SL_ROUND_REPEAT && !r->cfg.buffered)
            assert_true(in || r->members[k].state == SL_MEMBER_WAITING);
        if (a == SL_ROUND_REPEAT && r->cfg.buffered)
            assert_true(r->members[k].state != SL_MEMBER_FAILED);
        if (r->cfg.buffered && ev->kind != SL_ROUND_EV_DRAWN && was->members[k].state == SL_MEMBER_IDLE)
            assert_int_equal(r->members[k].state, SL_MEMBER_IDLE); /* only DRAWN gives a task */
    }
    assert_int_equal(accepted, r->n_accepted);
    assert_int_equal(failed, r->n_failed);
    bool reached = r->cfg.target > 0 && accepted >= r->cfg.target;
    bool over = ev->kind == SL_ROUND_EV_TIME && ev->now_ms >= was->deadline_at_ms;
    bool final = !r->cfg.buffered && accepted + failed == r->n_members;
    if (a == SL_ROUND_IGNORED)
        assert_true(same(was, r));
    if (a == SL_ROUND_IGNORED || a == SL_ROUND_NOTHING) {
        assert_int_equal(r->state, SL_ROUND_OPEN);
        assert_int_equal(r->attempt, was->attempt);
        assert_false(reached || over || final);
    }
    if (a == SL_ROUND_COMMIT) {
        assert_int_equal(r->state, SL_ROUND_CLOSED);
        assert_true(reached || accepted >= r->cfg.quorum);
        assert_true(reached || over || final);
    }
    if (a == SL_ROUND_REPEAT) {
        assert_int_equal(r->state, SL_ROUND_OPEN);
        assert_int_equal(r->attempt, was->attempt + 1);
        assert_int_equal(r->deadline_at_ms, ev->now_ms + r->cfg.deadline_ms);
        assert_true(r->attempt <= r->cfg.max_retries && accepted < r->cfg.quorum);
    }
    if (a == SL_ROUND_GIVE_UP) {
        assert_int_equal(r->state, SL_ROUND_FAILED);
        assert_true(r->attempt == r->cfg.max_retries && accepted < r->cfg.quorum);
    }
}

static void a_storm_of_events(bool buffered)
{
    size_t seen[SL_ROUND_GIVE_UP + 1] = {0};
    for (uint32_t seed = 0; seed < 2000; seed++) {
        struct sl_rng g;
        sl_rng_init(&g, &(struct sl_rng_id){.seed = seed, .purpose = SL_RNG_TEST});
        uint32_t quorum = 1 + (uint32_t)sl_rng_below(&g, 5);
        uint32_t target = sl_rng_below(&g, 2) ? 1 + (uint32_t)sl_rng_below(&g, 5) : 0;
        uint32_t retries = (uint32_t)sl_rng_below(&g, 3);
        if (buffered)
            target = quorum + (uint32_t)sl_rng_below(&g, 6 - quorum);
        struct sl_round r = buffered ? open_buffer(target, quorum, retries)
                                     : open_five(target, quorum, retries);
        struct sl_round twin = buffered ? open_buffer(target, quorum, retries)
                                        : open_five(target, quorum, retries);
        struct sl_member members[5];
        struct sl_round_event ev = {.now_ms = 100, .reason = "it broke"};
        for (int i = 0; i < 60 && r.state == SL_ROUND_OPEN; i++) {
            struct sl_round was = r;
            memcpy(members, r.members, sizeof(members));
            was.members = members;
            ev.now_ms += sl_rng_below(&g, 200);
            ev.kind = (enum sl_round_event_kind)sl_rng_below(&g, 6);
            ev.client = (uint32_t)sl_rng_below(&g, 13);
            enum sl_round_action a = sl_round_step(&r, &ev);
            seen[a]++;
            check_step(&was, &r, &ev, a);
            assert_int_equal(sl_round_step(&twin, &ev), a);
            assert_true(same(&r, &twin)); /* same inputs, same results */
        }
        sl_round_deinit(&r);
        sl_round_deinit(&twin);
    }
    for (size_t a = 0; a <= SL_ROUND_GIVE_UP; a++)
        assert_true(seen[a] > 100); /* the storm reaches every action */
}

static void a_storm_of_events_keeps_the_invariants(void **state)
{
    a_storm_of_events(false);
    a_storm_of_events(true);
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
        cmocka_unit_test(a_round_opens_again_with_its_own_configuration),
        cmocka_unit_test(failures_of_all_without_quorum_repeat_at_once),
        cmocka_unit_test(an_endless_reason_is_cut),
        cmocka_unit_test(a_reason_is_cut_between_characters),
        cmocka_unit_test(a_buffer_closes_at_its_target_whoever_is_idle),
        cmocka_unit_test(another_attempt_of_a_buffer_keeps_its_tasks),
        cmocka_unit_test(a_buffer_has_a_target_between_quorum_and_members),
        cmocka_unit_test(a_decision_is_due_when_all_have_probed_or_failed),
        cmocka_unit_test(a_decision_is_due_in_time_once_anybody_has_probed),
        cmocka_unit_test(stopped_members_count_neither_as_failures_nor_for_quorum),
        cmocka_unit_test(a_decision_is_taken_once_and_updates_of_others_do_not_count),
        cmocka_unit_test(another_attempt_keeps_the_decision),
        cmocka_unit_test(an_attempt_without_a_decision_is_probed_anew),
        cmocka_unit_test(a_round_that_goes_on_has_what_is_left_of_the_time_for_probes),
        cmocka_unit_test(a_storm_of_events_keeps_the_invariants),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
