/* SPDX-License-Identifier: Apache-2.0 */
/* Calibrations on demand at the coordinator's core: wishes that outlive a kill, clients that come late or
 * leave (S10), and statistics that are refused while the others make the head (A7). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "accel/nn/calibrate.h"
#include "common/hash.h"
#include "common/rng.h"
#include "tests/unit/core_rig.h"

#define CLIENTS 4
#define SAMPLES 20 /* of each */
#define WIDTH 37   /* 36 values and the 1 of the bias */
#define CLASSES 3
#define VALUES 111
#define NUMBER(n) ((n) | SL_ROUND_CALIBRATION)

static const struct rig_plan one_round = {.rounds = 1, .clients = CLIENTS};
static const struct rig_plan two_rounds = {.rounds = 2, .clients = CLIENTS};

/* --- clients ------------------------------------------------------------------------------------- */

static struct sl_calib statistics(uint32_t client)
{
    const struct sl_calib_shape shape = {.width = WIDTH, .classes = CLASSES, .bias = true};
    struct sl_calib c;
    struct sl_err err;
    struct sl_rng r;
    double z[SAMPLES * WIDTH];
    int32_t labels[SAMPLES];
    sl_rng_init(&r, &(struct sl_rng_id){.seed = 7, .purpose = SL_RNG_TEST, .client = client});
    for (size_t i = 0; i < SAMPLES; i++) {
        labels[i] = (int32_t)(i % CLASSES);
        for (size_t j = 0; j < WIDTH; j++)
            z[i * WIDTH + j] = j + 1 < WIDTH ? sl_rng_normal(&r) : 1;
    }
    assert_int_equal(sl_calib_init(&c, &shape, &err), SL_OK);
    assert_int_equal(sl_calib_add(&c, z, labels, SAMPLES, &err), SL_OK);
    return c;
}

/* Their bytes as an update. */
static struct rig_update as_update(const struct sl_calib *c, uint64_t run, uint32_t number)
{
    struct rig_update u = {.run = run, .round = NUMBER(number)};
    u.blob.size = sl_calib_bytes(&c->shape);
    u.values = malloc(u.blob.size);
    assert_non_null(u.values);
    sl_calib_write(c, (uint8_t *)u.values);
    u.meta = (struct sl_update_meta){.weight = c->n, .samples = c->n};
    rig_rename(&u);
    return u;
}

static sl_request_id answer(struct rig *r, uint32_t client, uint64_t run, uint32_t number)
{
    struct sl_calib c = statistics(client);
    struct rig_update u = as_update(&c, run, number);
    sl_request_id id = rig_put(r, client, &u);
    rig_update_deinit(&u);
    sl_calib_deinit(&c);
    return id;
}

static void expect_answer(struct rig *r, uint32_t client, uint64_t run, uint32_t number)
{
    struct sl_task_order t = rig_task(r, client);
    assert_int_equal(t.kind, SL_TASK_CALIBRATE);
    assert_int_equal(t.round, NUMBER(number));
    rig_expect_put(r, answer(r, client, run, number), SL_PUT_ACCEPTED, NULL);
}

static void expect_nothing(struct rig *r, uint32_t client)
{
    assert_int_equal(rig_task(r, client).kind, SL_TASK_NONE);
}

static void train_round(struct rig *r, uint64_t run, uint32_t round)
{
    for (uint32_t k = 0; k < CLIENTS; k++)
        rig_expect_put(r, rig_give(r, k, run, round, 0.125f), SL_PUT_ACCEPTED, NULL);
    assert_int_equal(rig_lines(r, "round"), round + 1);
}

/* A run of one round that is over. */
static uint64_t finished(struct rig *r)
{
    rig_init(r);
    uint64_t run = rig_start(r, &one_round);
    train_round(r, run, 0);
    rig_expect_run(r, "1 1 0 over");
    return run;
}

static void calibrate(struct rig *r)
{
    struct sl_err err;
    if (sl_coordinator_calibrate(r->c, r->now, &err) != SL_OK)
        fail_msg("%s", err.msg);
}

static void revoke(struct rig *r, uint32_t client)
{
    struct sl_err err;
    assert_int_equal(sl_coordinator_revoke(r->c, r->now, client, &err), SL_OK);
}

/* --- what came out ----------------------------------------------------------------------------------- */

static void expect_line(const struct rig *r, int n, json_int_t clients, json_int_t kept)
{
    const json_t *line = rig_line(r, "calibration", n);
    assert_non_null(line);
    assert_int_equal(rig_integer(line, "number"), n);
    assert_int_equal(rig_integer(line, "clients"), clients);
    assert_int_equal(rig_integer(line, "kept"), kept);
    assert_int_equal(rig_integer(line, "samples"), clients * SAMPLES);
    assert_int_equal(rig_integer(line, "bytes_up") == 0, clients == kept);
}

/* The model with the n-th calibration's head. */
static void head_of(struct rig *r, int n, float ret[VALUES])
{
    const struct sl_layout *layout;
    struct sl_err err;
    assert_non_null(sl_coordinator_model(r->c, &layout));
    assert_int_equal(layout->n_values, VALUES);
    if (r->store->ops->checkpoint_read(r->store, rig_text(rig_line(r, "calibration", n), "checkpoint"),
                                       layout, ret, &err) != SL_OK)
        fail_msg("%s", err.msg);
}

/* As those of a coordinator that is asked once, and that these clients answer. */
static void expect_head(struct rig *r, int n, const uint32_t *clients, size_t n_clients)
{
    struct rig fresh;
    float got[VALUES], want[VALUES];
    uint64_t run = finished(&fresh);
    for (uint32_t k = 0; k < CLIENTS; k++) {
        bool there = false;
        for (size_t i = 0; i < n_clients; i++)
            there = there || clients[i] == k;
        if (!there)
            revoke(&fresh, k);
    }
    calibrate(&fresh);
    for (size_t i = n_clients; i-- > 0;) /* last to first: the order of arrival is nothing */
        expect_answer(&fresh, clients[i], run, 0);
    expect_line(&fresh, 0, (json_int_t)n_clients, 0);
    head_of(&fresh, 0, want);
    head_of(r, n, got);
    assert_memory_equal(got, want, sizeof(got));
    rig_deinit(&fresh);
}

static const uint32_t all[] = {0, 1, 2, 3}, without_1[] = {0, 2, 3};

/* --- late and leaving clients ------------------------------------------------------------------------ */

static void only_who_has_not_answered_is_asked_again(void **state)
{
    (void)state;
    struct rig r;
    uint64_t run = finished(&r);
    calibrate(&r);
    for (uint32_t k = 0; k < 3; k++)
        expect_answer(&r, k, run, 0);
    rig_sleep(&r, r.now + 61000);
    expect_line(&r, 0, 3, 0);
    calibrate(&r);
    for (uint32_t k = 0; k < 3; k++)
        expect_nothing(&r, k);
    expect_answer(&r, 3, run, 1);
    expect_line(&r, 1, 4, 3);
    expect_head(&r, 1, all, 4);
    calibrate(&r); /* nobody is left to be asked */
    expect_line(&r, 2, 4, 4);
    expect_head(&r, 2, all, 4);
    rig_deinit(&r);
}

static void calibrate_all(struct rig *r, uint64_t run)
{
    calibrate(r);
    for (uint32_t k = 0; k < CLIENTS; k++)
        expect_answer(r, k, run, 0);
    expect_line(r, 0, CLIENTS, 0);
}

static void without_a_client_that_left_it_is_as_if_it_had_never_been_there(void **state)
{
    (void)state;
    struct rig r;
    uint64_t run = finished(&r);
    calibrate_all(&r, run);
    revoke(&r, 1);
    calibrate(&r);
    expect_line(&r, 1, 3, 3);
    expect_head(&r, 1, without_1, 3);
    rig_deinit(&r);
}

static void the_successor_of_a_client_is_asked_itself(void **state)
{
    (void)state;
    struct rig r;
    struct sl_err err;
    uint64_t run = finished(&r);
    calibrate_all(&r, run);
    revoke(&r, 1);
    struct sl_client_row next = rig_client(1);
    next.key[30] = 9;
    assert_int_equal(sl_coordinator_approve(r.c, r.now, &next, &err), SL_OK);
    calibrate(&r);
    expect_nothing(&r, 0);
    expect_answer(&r, 1, run, 1);
    expect_line(&r, 1, 4, 3);
    rig_deinit(&r);
}

static void training_makes_them_worthless(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r);
    uint64_t run = rig_start(&r, &two_rounds);
    sl_coordinator_pause(r.c, true); /* no round after the open one */
    train_round(&r, run, 0);
    calibrate_all(&r, run);
    sl_coordinator_pause(r.c, false);
    rig_time(&r, r.now);
    train_round(&r, run, 1);
    calibrate(&r);
    for (uint32_t k = 0; k < CLIENTS; k++)
        expect_answer(&r, k, run, 1);
    expect_line(&r, 1, 4, 0);
    rig_deinit(&r);
}

static void they_outlive_a_kill_and_after_a_power_cut_are_asked_for_again(void **state)
{
    (void)state;
    for (int power_cut = 0; power_cut < 2; power_cut++) {
        struct rig r;
        uint64_t run = finished(&r);
        calibrate_all(&r, run);
        rig_kill(&r, power_cut != 0);
        rig_boot(&r);
        calibrate(&r); /* of the run that is done */
        for (uint32_t k = 0; k < CLIENTS && power_cut != 0; k++)
            expect_answer(&r, k, run, 1);
        expect_line(&r, 1, 4, power_cut != 0 ? 0 : 4);
        expect_head(&r, 1, all, 4);
        rig_expect_run(&r, "1 1 0 over");
        rig_deinit(&r);
    }
}

static void a_kill_in_the_second_calibration_leaves_the_kept_ones_kept(void **state)
{
    (void)state;
    struct rig r;
    uint64_t run = finished(&r);
    calibrate(&r);
    for (uint32_t k = 0; k < 2; k++)
        expect_answer(&r, k, run, 0);
    rig_sleep(&r, r.now + 61000);
    calibrate(&r);
    expect_answer(&r, 2, run, 1);
    rig_kill(&r, false);
    rig_boot(&r);
    for (uint32_t k = 0; k < 3; k++)
        expect_nothing(&r, k);
    expect_answer(&r, 3, run, 1);
    expect_line(&r, 1, 4, 2);
    expect_head(&r, 1, all, 4);
    rig_deinit(&r);
}

/* --- wishes ------------------------------------------------------------------------------------------- */

static void a_wish_made_while_a_round_is_open_outlives_a_kill(void **state)
{
    (void)state;
    for (int power_cut = 0; power_cut < 2; power_cut++) {
        struct rig r;
        rig_init(&r);
        uint64_t run = rig_start(&r, &two_rounds);
        train_round(&r, run, 0);
        calibrate(&r);
        rig_kill(&r, power_cut != 0);
        rig_boot(&r);
        train_round(&r, run, 1);
        for (uint32_t k = 0; k < CLIENTS; k++)
            expect_answer(&r, k, run, 0);
        expect_line(&r, 0, 4, 0);
        rig_expect_run(&r, "1 2 0 over");
        rig_kill(&r, false); /* and is not made again */
        rig_boot(&r);
        assert_int_equal(rig_lines(&r, "calibration"), 1);
        for (uint32_t k = 0; k < CLIENTS; k++)
            expect_nothing(&r, k);
        rig_deinit(&r);
    }
}

static void a_wish_for_a_run_that_is_over_outlives_a_kill(void **state)
{
    (void)state;
    struct rig r;
    uint64_t run = finished(&r);
    r.ops->refuse[RIG_SET_RUN_STATE] = RIG_ALWAYS; /* acknowledged, and no more */
    calibrate(&r);
    rig_kill(&r, true);
    r.ops->refuse[RIG_SET_RUN_STATE] = 0;
    rig_boot(&r);
    for (uint32_t k = 0; k < CLIENTS; k++)
        expect_answer(&r, k, run, 0);
    expect_line(&r, 0, 4, 0);
    rig_expect_run(&r, "1 1 0 over");
    assert_int_equal(rig_lines(&r, "run_end"), 1);
    rig_deinit(&r);
}

static void a_wish_during_a_calibration_is_one_for_another(void **state)
{
    (void)state;
    struct rig r;
    uint64_t run = finished(&r);
    revoke(&r, 3);
    calibrate(&r);
    for (uint32_t k = 0; k < 2; k++)
        expect_answer(&r, k, run, 0);
    struct sl_err err;
    struct sl_client_row late = rig_client(3);
    late.key[30] = 9;
    assert_int_equal(sl_coordinator_approve(r.c, r.now, &late, &err), SL_OK);
    calibrate(&r);
    expect_answer(&r, 2, run, 0);
    expect_line(&r, 0, 3, 0);
    expect_answer(&r, 3, run, 1);
    expect_line(&r, 1, 4, 3);
    rig_expect_run(&r, "1 1 0 over");
    rig_deinit(&r);
}

static void a_wish_that_can_not_be_journalled_is_not_acknowledged(void **state)
{
    (void)state;
    struct rig r;
    struct sl_err err;
    finished(&r);
    r.ops->refuse[RIG_WANT_CALIBRATIONS] = 1;
    assert_int_equal(sl_coordinator_calibrate(r.c, r.now, &err), SL_E_NOSPACE);
    expect_nothing(&r, 0);
    rig_expect_run(&r, "1 1 0 over");
    rig_deinit(&r);
}

static void explain_names_a_calibration_by_its_number(void **state)
{
    (void)state;
    struct rig r;
    struct sl_err err;
    uint64_t run = finished(&r);
    calibrate(&r);
    expect_answer(&r, 0, run, 0);
    json_t *open = sl_coordinator_explain(r.c, -1, &err);
    assert_int_equal(rig_integer(open, "calibration"), 0);
    assert_null(json_object_get(open, "round"));
    json_decref(open);
    rig_sleep(&r, r.now + 61000);
    json_t *line = sl_coordinator_explain(r.c, -1, &err); /* who is missing, and why */
    assert_string_equal(rig_text(line, "event"), "calibration");
    assert_int_equal(json_array_size(json_object_get(line, "not_included")), 3);
    json_decref(line);
    line = sl_coordinator_explain(r.c, 0, &err);
    assert_string_equal(rig_text(line, "event"), "round");
    json_decref(line);
    rig_deinit(&r);
}

static void without_a_run_there_is_nothing_to_calibrate(void **state)
{
    (void)state;
    struct rig r;
    struct sl_err err;
    rig_init(&r);
    rig_boot(&r);
    assert_int_equal(sl_coordinator_calibrate(r.c, r.now, &err), SL_E_NOTFOUND);
    rig_enrol(&r, 0, CLIENTS);
    rig_submit(&r, &one_round);
    assert_int_equal(sl_coordinator_calibrate(r.c, r.now, &err), SL_E_NOTFOUND);
    rig_deinit(&r);
}

/* --- statistics that can't be (A7) -------------------------------------------------------------------- */

static void spoil_finite(struct sl_calib *c)
{
    c->v[5] = NAN;
}
static void spoil_spread(struct sl_calib *c)
{
    c->v[1] += 1e6;
}
static void spoil_bias(struct sl_calib *c)
{
    c->u[WIDTH - 1] += 1;
}
static void spoil_counts(struct sl_calib *c)
{
    c->counts[0] += 1;
}
static void spoil_n(struct sl_calib *c)
{
    c->n += 1;
    c->counts[0] += 1;
}
static void spoil_shape(struct sl_calib *c)
{
    c->shape.bias = false;
}

static void poisoned_statistics_are_rejected_and_the_others_make_the_head(void **state)
{
    (void)state;
    static const struct {
        void (*spoil)(struct sl_calib *c);
        const char *says;
    } cases[] = {
        {spoil_finite, "not finite"},   {spoil_spread, "not semidefinite"},
        {spoil_bias, "contradict"},           {spoil_counts, "samples together"},
        {spoil_n, "1 to 20 enrolled"},  {spoil_shape, "another shape"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct rig r;
        uint64_t run = finished(&r);
        calibrate(&r);
        struct sl_calib c = statistics(1);
        cases[i].spoil(&c);
        struct rig_update u = as_update(&c, run, 0);
        rig_expect_put(&r, rig_put(&r, 1, &u), SL_PUT_REJECTED, cases[i].says);
        rig_expect_member(&r, 1, "failed", cases[i].says);
        rig_update_deinit(&u);
        sl_calib_deinit(&c);
        for (size_t k = 0; k < 3; k++)
            expect_answer(&r, without_1[k], run, 0);
        expect_line(&r, 0, 3, 0);
        expect_head(&r, 0, without_1, 3);
        rig_deinit(&r);
    }
}

static void statistics_of_another_size_are_rejected(void **state)
{
    (void)state;
    struct rig r;
    uint64_t run = finished(&r);
    calibrate(&r);
    struct sl_calib c = statistics(1);
    struct rig_update u = as_update(&c, run, 0);
    u.blob.size -= 8;
    rig_rename(&u);
    rig_expect_put(&r, rig_put(&r, 1, &u), SL_PUT_REJECTED, "expected");
    rig_update_deinit(&u);
    sl_calib_deinit(&c);
    for (size_t k = 0; k < 3; k++)
        expect_answer(&r, without_1[k], run, 0);
    expect_line(&r, 0, 3, 0);
    rig_deinit(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_who_has_not_answered_is_asked_again),
        cmocka_unit_test(without_a_client_that_left_it_is_as_if_it_had_never_been_there),
        cmocka_unit_test(the_successor_of_a_client_is_asked_itself),
        cmocka_unit_test(training_makes_them_worthless),
        cmocka_unit_test(they_outlive_a_kill_and_after_a_power_cut_are_asked_for_again),
        cmocka_unit_test(a_kill_in_the_second_calibration_leaves_the_kept_ones_kept),
        cmocka_unit_test(a_wish_made_while_a_round_is_open_outlives_a_kill),
        cmocka_unit_test(a_wish_for_a_run_that_is_over_outlives_a_kill),
        cmocka_unit_test(a_wish_during_a_calibration_is_one_for_another),
        cmocka_unit_test(a_wish_that_can_not_be_journalled_is_not_acknowledged),
        cmocka_unit_test(explain_names_a_calibration_by_its_number),
        cmocka_unit_test(without_a_run_there_is_nothing_to_calibrate),
        cmocka_unit_test(poisoned_statistics_are_rejected_and_the_others_make_the_head),
        cmocka_unit_test(statistics_of_another_size_are_rejected),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
