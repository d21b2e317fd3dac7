/* SPDX-License-Identifier: Apache-2.0 */
/* From a plan's constants to what a product costs: numbers are worked out by hand from
 * the formulas of fast.md, term-revealing.md and rtn.md, sections 4. */
#include "accel/units/setup.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "accel/nn/net.h"
#include "accel/nn/plan_model.h"
#include "common/mem.h"
#include "common/plan.h"

/* One product of 10 samples, 300 inputs, 20 outputs. */
#define SAMPLES 10
#define INPUTS 300
#define OUTPUTS 20
#define MACS (SAMPLES * INPUTS * OUTPUTS)
#define PLAN(layer, accelerator)                                                         \
    "data: {dataset: synthetic, path: \"channels=1,height=1,width=300,classes=20,"       \
    "train=20\"}\n"                                                                      \
    "model: {layers: [flatten, " layer "]}\n"                                            \
    "accelerator: {" accelerator "}\n"

struct rig {
    struct sl_plan plan;
    struct sl_dataset set;
    struct sl_model *model;
    struct sl_unit_setup unit;
    struct sl_net net;
    struct sl_arena arena;
    float *values, *x;
};

static void rig_open(struct rig *r, const char *yaml)
{
    struct sl_err err;
    struct sl_taker cost = {0};
    *r = (struct rig){0};
    if (sl_plan_parse(yaml, strlen(yaml), "p", NULL, 0, &r->plan, &err) != SL_OK)
        fail_msg("%s", err.msg);
    struct sl_dataset_source src = {.kind = r->plan.data.dataset,
                                    .path = r->plan.data.path,
                                    .split = SL_SPLIT_TRAIN};
    assert_int_equal(sl_dataset_load(&src, &r->set, &err), SL_OK);
    /* the layers as they are written, without those that rtn makes ternary */
    struct sl_plan plain = r->plan;
    plain.accelerator.matmul = SL_MATMUL_FP32;
    if (sl_plan_model(&plain, &r->set, OUTPUTS, &r->model, &err) != SL_OK)
        fail_msg("%s", err.msg);
    assert_int_equal(sl_unit_setup(&r->plan.accelerator, &r->unit, &err), SL_OK);
    r->net.unit.options = sl_unit_setup_options(&r->unit);
    sl_net_plan(&r->net, r->model, SAMPLES, r->unit.unit, 0, &cost);
    assert_true(sl_arena_init(&r->arena, cost.bytes));
    sl_net_plan(&r->net, r->model, SAMPLES, r->unit.unit, 0,
                &(struct sl_taker){.arena = &r->arena});
    r->values = calloc(sl_model_layout(r->model)->n_values, sizeof(float));
    r->x = calloc(SAMPLES * INPUTS, sizeof(float));
    assert_true(r->values != NULL && r->x != NULL);
}

static void rig_close(struct rig *r)
{
    free(r->values);
    free(r->x);
    sl_arena_deinit(&r->arena);
    sl_model_free(r->model);
    sl_dataset_deinit(&r->set);
    sl_plan_deinit(&r->plan);
}

/* Of the forward product of values that go 1, 1 + step, 1 + 2 step, ... */
static struct sl_task_cost cost_of_steps(const char *yaml, float step)
{
    struct rig r;
    struct sl_task_cost cost;
    rig_open(&r, yaml);
    for (size_t i = 0; i < sl_model_layout(r.model)->n_values; i++)
        r.values[i] = 1.0f + step * (float)i;
    for (size_t i = 0; i < SAMPLES * INPUTS; i++)
        r.x[i] = 1.0f + step * (float)i;
    struct sl_pass_ctx c = sl_net_pass(&r.net, r.values);
    c.n = SAMPLES;
    sl_net_forward(&c, r.x);
    sl_unit_cost(&r.unit, &r.net.unit.ledger, &cost);
    rig_close(&r);
    assert_int_equal(cost.macs, MACS);
    return cost;
}

static struct sl_task_cost cost_of(const char *yaml)
{
    return cost_of_steps(yaml, 0.0f);
}

static void fast_costs_what_its_array_and_constants_say(void **state)
{
    (void)state;
    /* 300 values are 19 groups of 16. 4 x 4 bits: 4 passes. A group has 4 + 16 2 3 bits;
     * 32 of an output. */
    const uint64_t bits =
        19 * 100 * (SAMPLES + OUTPUTS) + SAMPLES * OUTPUTS * 32;
    struct sl_task_cost c =
        cost_of(PLAN("{dense: 20}", "matmul: fast, precision: high"));
    assert_int_equal(c.work, 4 * MACS);
    assert_int_equal(c.cycles, 1 * 1 * (SAMPLES * 4 + 256 + 64 - 1));
    assert_int_equal(c.bits, bits);
    assert_true(c.energy == 4.0 * MACS / 16 + 0.01 * (double)bits);
    /* ceil(19 / 8) = 3 stretches of the reduction, ceil(20 / 16) = 2 of the columns */
    c = cost_of(PLAN("{dense: 20}", "matmul: fast, precision: high, rows: 8, cols: 16, "
                                    "mhz: 100, e_pass: 2, e_bit: 0.5"));
    assert_int_equal(c.work, 4 * MACS);
    assert_int_equal(c.cycles, 3 * 2 * (SAMPLES * 4 + 8 + 16 - 1));
    assert_int_equal(c.bits, bits);
    assert_true(c.energy == 2.0 * (4.0 * MACS / 16) + 0.5 * (double)bits);
}

static void term_revealing_costs_what_its_array_and_constants_say(void **state)
{
    (void)state;
    /* 300 values are 38 groups of 8, the last of 4. A weight of 1, the largest, has the
     * code 2^7: one digit, so of 8 a budget of 6 stays; a digit takes 3 + 2 bits. */
    const uint64_t pairs = SAMPLES * OUTPUTS * 38 * 6 * 2;
    const uint64_t bits = 5 * OUTPUTS * (37 * 6 + 4);
    struct sl_task_cost c = cost_of(PLAN("{dense: 20}", "matmul: tr, k: 6, s: 2"));
    assert_int_equal(c.work, pairs);
    assert_int_equal(c.cycles, 38 * 6 * 2 + 64 + 128);
    assert_int_equal(c.bits, bits);
    assert_true(c.energy == (double)pairs + 0.01 * (double)bits);
    /* waves of 4 x 8 outputs: ceil(10 / 4) ceil(20 / 8) = 9 */
    c = cost_of(PLAN("{dense: 20}", "matmul: tr, k: 6, s: 2, rows: 4, cols: 8, mhz: 1, "
                                    "e_pair: 3, e_bit: 0.25"));
    assert_int_equal(c.work, pairs);
    assert_int_equal(c.cycles, 9 * 38 * 6 * 2 + 4 + 8);
    assert_int_equal(c.bits, bits);
    assert_true(c.energy == 3.0 * (double)pairs + 0.25 * (double)bits);
}

static void cycles_of_term_revealing_do_not_depend_on_the_data(void **state)
{
    (void)state;
    const char *plan = PLAN("{dense: 20}", "matmul: tr, k: 6, s: 2");
    struct sl_task_cost few = cost_of_steps(plan, 0.0f);
    struct sl_task_cost many = cost_of_steps(plan, 0.01f);
    assert_int_equal(few.cycles, many.cycles);
    assert_int_equal(few.work, many.work);
    assert_int_not_equal(few.bits, many.bits); /* digits kept do */
}

static void ternary_products_cost_what_their_words_and_constants_say(void **state)
{
    (void)state;
    /* 5 words of 64 an output; two bits a value of both operands */
    const uint64_t bits = 2 * INPUTS * (SAMPLES + OUTPUTS);
    struct sl_task_cost c = cost_of(PLAN("{ternary_dense: 20}", "matmul: rtn"));
    assert_int_equal(c.work, SAMPLES * OUTPUTS * 5);
    assert_int_equal(c.cycles, 16); /* of 1000 words, 64 a cycle */
    assert_int_equal(c.bits, bits);
    assert_true(c.energy == MACS * (1 / 46.46));
    /* 3 words of 100; 600 words, 7 a cycle */
    c = cost_of(PLAN("{ternary_dense: 20}", "matmul: rtn, word_bits: 100, lanes: 7, "
                                            "mhz: 1, e_ternary: 0.5, e_fp32: 8"));
    assert_int_equal(c.work, SAMPLES * OUTPUTS * 3);
    assert_int_equal(c.cycles, 86);
    assert_int_equal(c.bits, bits);
    assert_true(c.energy == 0.5 * MACS);
    /* an ordinary layer multiplies in single precision */
    c = cost_of(PLAN("{dense: 20}", "matmul: rtn, e_ternary: 0.5, e_fp32: 8"));
    assert_int_equal(c.work, 0);
    assert_true(c.energy == 8.0 * MACS);
}

static void without_constants_a_unit_has_those_of_its_paper(void **state)
{
    (void)state;
    static const struct sl_accelerator plain = SL_ACCELERATOR_DEFAULTS;
    struct sl_accelerator a = plain;
    struct sl_unit_setup s;
    struct sl_err err;
    a.matmul = SL_MATMUL_FAST;
    assert_int_equal(sl_unit_setup(&a, &s, &err), SL_OK);
    const struct sl_fast_options fast = sl_fast_defaults();
    assert_true(s.fast.rows == fast.rows && s.fast.cols == fast.cols &&
                s.fast.hz == fast.hz && s.fast.e_pass == fast.e_pass &&
                s.fast.e_bit == fast.e_bit);
    a.matmul = SL_MATMUL_TR;
    assert_int_equal(sl_unit_setup(&a, &s, &err), SL_OK);
    const struct sl_tr_options tr = sl_tr_defaults();
    assert_true(s.tr.rows == tr.rows && s.tr.cols == tr.cols && s.tr.hz == tr.hz &&
                s.tr.e_pair == tr.e_pair && s.tr.e_bit == tr.e_bit);
    a.matmul = SL_MATMUL_RTN;
    assert_int_equal(sl_unit_setup(&a, &s, &err), SL_OK);
    const struct sl_rtn_options rtn = sl_rtn_defaults();
    assert_true(s.rtn.word_bits == rtn.word_bits && s.rtn.lanes == rtn.lanes &&
                s.rtn.hz == rtn.hz && s.rtn.e_ternary == rtn.e_ternary &&
                s.rtn.e_fp32 == rtn.e_fp32);
    a.mhz = 1.5;
    assert_int_equal(sl_unit_setup(&a, &s, &err), SL_OK);
    assert_true(s.rtn.hz == 1.5e6);
}

static void constants_that_do_not_fit_a_unit_are_named(void **state)
{
    (void)state;
    static const struct sl_accelerator plain = SL_ACCELERATOR_DEFAULTS;
    struct sl_accelerator a = plain;
    struct sl_unit_setup s;
    struct sl_err err;
    a.matmul = SL_MATMUL_TR;
    a.k = 5000;
    assert_int_equal(sl_unit_setup(&a, &s, &err), SL_E_RANGE);
    assert_string_equal(err.msg, "accelerator: term revealing: k 5000 (1 to 4096)");
    a = plain;
    a.matmul = SL_MATMUL_TR;
    a.rows = 70000;
    assert_int_equal(sl_unit_setup(&a, &s, &err), SL_E_RANGE);
    assert_string_equal(err.msg, "accelerator: term revealing: rows 70000 (1 to 65536)");
    a = plain;
    a.matmul = SL_MATMUL_RTN;
    a.lanes = 0;
    assert_int_equal(sl_unit_setup(&a, &s, &err), SL_E_RANGE);
    assert_string_equal(err.msg, "accelerator: ternary: word_bits 64, lanes 0 (1 to "
                                 "4096, 1 to 65536)");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fast_costs_what_its_array_and_constants_say),
        cmocka_unit_test(term_revealing_costs_what_its_array_and_constants_say),
        cmocka_unit_test(cycles_of_term_revealing_do_not_depend_on_the_data),
        cmocka_unit_test(ternary_products_cost_what_their_words_and_constants_say),
        cmocka_unit_test(without_constants_a_unit_has_those_of_its_paper),
        cmocka_unit_test(constants_that_do_not_fit_a_unit_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
