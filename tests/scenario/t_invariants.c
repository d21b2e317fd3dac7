/* SPDX-License-Identifier: Apache-2.0 */
/* The checker of invariants sees what it is there for: a world that behaves, and hooks
 * between it and the checker that lie. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/scenario/fixture.h"

enum lie { NO_LIE, ANOTHER_ACK, ANOTHER_COUNT, ROUND_TWICE, SHORT_DEADLINE, NO_END };

struct liar {
    struct sl_world_hooks truth;
    enum lie lie;
    bool told;
};

static void on_report(void *ctx, uint64_t run, json_t *line)
{
    struct liar *l = ctx;
    const char *event = json_string_value(json_object_get(line, "event"));
    if (l->lie == NO_END && strcmp(event, "run_end") == 0)
        return;
    if (strcmp(event, "round") != 0) {
        l->truth.report(l->truth.ctx, run, line);
        return;
    }
    json_t *copy = json_deep_copy(line);
    if (l->lie == ANOTHER_COUNT)
        json_object_set_new(
            copy, "completed",
            json_integer(1 + json_integer_value(json_object_get(copy, "completed"))));
    l->truth.report(l->truth.ctx, run, copy);
    if (l->lie == ROUND_TWICE && !l->told)
        l->truth.report(l->truth.ctx, run, copy);
    l->told = true;
    json_decref(copy);
}

static void on_accepted(void *ctx, uint64_t run, uint32_t round, uint32_t client)
{
    struct liar *l = ctx;
    l->truth.accepted(l->truth.ctx, run, round, client);
    if (l->lie == ANOTHER_ACK)
        for (uint32_t other = 0; other < 8; other++)
            l->truth.accepted(l->truth.ctx, run, round, other);
}

static void on_coordinator(void *ctx, bool alive, bool power_loss)
{
    struct liar *l = ctx;
    l->truth.coordinator(l->truth.ctx, alive, power_loss);
}

static void on_stepped(void *ctx, const struct sl_world *w)
{
    struct liar *l = ctx;
    l->truth.stepped(l->truth.ctx, w);
}

/* The checker's message after a run with this lie; "" = it is content. */
static void check_with(enum lie lie, char ret[SL_ERR_MAX])
{
    struct sl_plan p = small_plan(), told = p;
    struct sl_err err;
    struct sl_invariants *v;
    struct sl_world *w;
    if (lie == SHORT_DEADLINE) { /* of a plan that is slower than the checker believes */
        told.selection.deadline_s = 1;
        told.run.max_retries = 0;
        p.sim.world.samples_per_s = 0.3;
    }
    assert_int_equal(sl_invariants_new(&told, 1, &v, &err), SL_OK);
    struct liar l = {.truth = sl_invariants_hooks(v), .lie = lie};
    struct sl_world_options options = {.plans = &p,
                                       .n_plans = 1,
                                       .jobs = 1,
                                       .hooks = {.ctx = &l,
                                                 .report = on_report,
                                                 .accepted = on_accepted,
                                                 .coordinator = on_coordinator,
                                                 .stepped = on_stepped}};
    assert_int_equal(sl_world_new(&options, &w, &err), SL_OK);
    sl_invariants_watch(v, w);
    (void)sl_world_run(w, 1000000, &err);
    ret[0] = '\0';
    if (sl_invariants_end(v, &err) != SL_OK)
        strcpy(ret, err.msg);
    sl_world_free(w);
    sl_invariants_free(v);
    sl_plan_deinit(&p);
}

static void assert_seen(enum lie lie, const char *words)
{
    char msg[SL_ERR_MAX];
    check_with(lie, msg);
    if (strstr(msg, words) == NULL)
        fail_msg("\"%s\" wanted, got \"%s\"", words, msg);
}

static void a_true_run_holds(void **state)
{
    char msg[SL_ERR_MAX];
    check_with(NO_LIE, msg);
    assert_string_equal(msg, "");
}

static void an_acknowledged_update_outside_the_sum_is_seen(void **state)
{
    assert_seen(ANOTHER_ACK, "is not in its sum");
}

static void a_count_that_differs_from_the_journal_is_seen(void **state)
{
    assert_seen(ANOTHER_COUNT, "the journal has 4");
}

static void a_round_that_is_reported_twice_is_seen(void **state)
{
    assert_seen(ROUND_TWICE, "round 0 reported, round 1 awaited");
}

static void a_wait_beyond_the_deadline_is_seen(void **state)
{
    assert_seen(SHORT_DEADLINE, "round 0 waits for");
}

static void a_run_without_its_end_is_seen(void **state)
{
    assert_seen(NO_END, "0 of 1 runs reported their end");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_true_run_holds),
        cmocka_unit_test(an_acknowledged_update_outside_the_sum_is_seen),
        cmocka_unit_test(a_count_that_differs_from_the_journal_is_seen),
        cmocka_unit_test(a_round_that_is_reported_twice_is_seen),
        cmocka_unit_test(a_wait_beyond_the_deadline_is_seen),
        cmocka_unit_test(a_run_without_its_end_is_seen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
