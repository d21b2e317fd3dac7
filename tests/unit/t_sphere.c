/* SPDX-License-Identifier: Apache-2.0 */
/* The fixed head on the unit sphere: what spherefed.md calls S1 to S4. */
#include "accel/nn/plan_model.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "accel/kernels/cpu.h"
#include "accel/nn/layer.h"
#include "accel/nn/sphere_head.h"
#include "accel/nn/train.h"
#include "accel/units/setup.h"
#include "common/rng.h"

#define CLASSES 10

struct rig {
    struct sl_plan plan;
    struct sl_dataset set;
    struct sl_model *model;
    struct sl_head_info head;
    float *values;
    size_t n;
};

static void load(struct rig *r, const char *yaml)
{
    struct sl_err err;
    *r = (struct rig){0};
    assert_int_equal(
        sl_plan_parse(yaml, strlen(yaml), "test", NULL, 0, &r->plan, &err), SL_OK);
    struct sl_dataset_source src = {.kind = r->plan.data.dataset,
                                    .path = r->plan.data.path,
                                    .split = SL_SPLIT_TRAIN};
    assert_int_equal(sl_dataset_load(&src, &r->set, &err), SL_OK);
}

static void build(struct rig *r, const char *yaml)
{
    struct sl_err err;
    load(r, yaml);
    if (sl_plan_model(&r->plan, &r->set, CLASSES, &r->model, &err) != SL_OK)
        fail_msg("%s", err.msg);
    assert_true(sl_model_head(r->model, &r->head));
    r->n = sl_model_layout(r->model)->n_values;
    r->values = calloc(r->n, sizeof(float));
    assert_non_null(r->values);
    sl_model_init_uniform(r->model, r->plan.run.seed, r->values);
    assert_int_equal(sl_model_init_head(r->model, r->plan.run.seed, r->values, &err),
                     SL_OK);
}

static void unbuild(struct rig *r)
{
    free(r->values);
    sl_model_free(r->model);
    sl_dataset_deinit(&r->set);
    sl_plan_deinit(&r->plan);
}

#define DATA                                                                             \
    "data: {dataset: synthetic, path: \"height=28,width=28,classes=10,train=200\"}\n"
#define PLAN(model) DATA "model: {name: " model ", head: sphere}\n"

/* --- S1: the rows
 * ------------------------------------------------------------------------------ */

static void every_named_model_takes_a_head_whose_rows_are_orthonormal(void **state)
{
    (void)state;
    static const struct {
        const char *yaml;
        size_t width;
    } all[] = {
        {PLAN("tiny"), 10},    {PLAN("mlp"), 200},     {PLAN("lenet"), 84},
        {PLAN("cnn"), 512},    {PLAN("pfl-cnn"), 128}, {PLAN("resnet8"), 64},
        {DATA "model: {name: lenet, head: sphere, width: 256}\n", 256},
        {DATA "model: {name: resnet8, head: sphere, width: 128}\n", 128},
        {DATA "model: {name: tiny, head: sphere, width: 32}\n", 32},
        {DATA "model: {layers: [flatten, {dense: 16}], head: sphere}\n", 16},
        {DATA "model: {name: mlp, head: sphere}\naccelerator: {matmul: rtn}\n", 200},
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        struct rig r;
        struct sl_err err;
        build(&r, all[i].yaml);
        assert_true(r.head.fixed);
        assert_int_equal(r.head.width, all[i].width);
        const struct sl_layout *l = sl_model_layout(r.model);
        const struct sl_tensor *t = &l->tensors[l->n_tensors - 1];
        assert_string_equal(t->name, "head.weight");
        assert_int_equal(t->role, SL_TENSOR_FIXED);
        assert_int_equal(t->offset, sl_model_n_travelling(r.model));
        assert_int_equal(t->offset, r.head.weight);
        assert_true(sl_model_n_params(r.model) > 0);
        const float *w = r.values + r.head.weight;
        for (size_t a = 0; a < CLASSES; a++)
            for (size_t b = 0; b < CLASSES; b++) {
                double sum = 0;
                for (size_t d = 0; d < r.head.width; d++)
                    sum += (double)w[a * r.head.width + d] *
                           (double)w[b * r.head.width + d];
                assert_true(fabs(sum - (a == b)) < 1e-6);
            }
        assert_int_equal(sl_model_check_head(r.model, r.values, &err), SL_OK);
        r.values[r.head.weight] += 0.1f;
        assert_int_equal(sl_model_check_head(r.model, r.values, &err), SL_E_INPUT);
        unbuild(&r);
    }
}

static void the_head_follows_the_seed_and_nothing_else(void **state)
{
    (void)state;
    struct rig a, b, c;
    build(&a, PLAN("lenet") "run: {seed: 5}\n");
    build(&b, PLAN("lenet") "run: {seed: 5}\ntrain: {lr: 0.2}\n");
    build(&c, PLAN("lenet") "run: {seed: 6}\n");
    size_t n = CLASSES * a.head.width * sizeof(float);
    assert_memory_equal(a.values + a.head.weight, b.values + b.head.weight, n);
    assert_memory_not_equal(a.values + a.head.weight, c.values + c.head.weight, n);
    uint8_t with[SL_DIGEST_BYTES], other[SL_DIGEST_BYTES];
    sl_model_digest(sl_model_layout(a.model), a.values, with);
    memcpy(a.values + a.head.weight, c.values + c.head.weight, n);
    sl_model_digest(sl_model_layout(a.model), a.values, other);
    assert_memory_not_equal(with, other, sizeof with);
    unbuild(&a);
    unbuild(&b);
    unbuild(&c);
}

static void what_can_not_carry_a_head_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *yaml, *says;
    } all[] = {
        {DATA "model: {layers: [flatten, {dense: 9}], head: sphere}\n",
         "9 features for 10 classes"},
        {DATA "model: {layers: [{conv2d: {out: 4, kernel: 3}}], head: sphere}\n",
         "flatten it first"},
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        struct rig r;
        struct sl_err err;
        load(&r, all[i].yaml);
        assert_int_equal(sl_plan_model(&r.plan, &r.set, CLASSES, &r.model, &err),
                         SL_E_INPUT);
        assert_non_null(strstr(err.msg, all[i].says));
        unbuild(&r);
    }
}

static void train_some(struct rig *r, float *after)
{
    struct sl_err err;
    struct sl_unit_setup unit;
    struct sl_trainer *t;
    assert_int_equal(sl_unit_setup(&r->plan.accelerator, &unit, &err), SL_OK);
    struct sl_trainer_options o = {.max_batch = 50,
                                   .unit = unit.unit,
                                   .unit_options = sl_unit_setup_options(&unit)};
    assert_int_equal(sl_trainer_new(r->model, &o, &t, &err), SL_OK);
    struct sl_samples s = {.set = &r->set, .n = r->set.n};
    struct sl_train_spec spec = {.lr = 0.05,
                                 .momentum = 0.9,
                                 .weight_decay = 1e-3,
                                 .mu = 0.01,
                                 .batch_size = 50,
                                 .epochs = 6,
                                 .local_steps = -1,
                                 .seed = 3};
    struct sl_train_result result;
    struct sl_eval_result eval;
    if (sl_train(t, r->values, &s, &spec, after, &result, &err) != SL_OK)
        fail_msg("%s", err.msg);
    assert_int_equal(sl_evaluate(t, after, &s, &eval, &err), SL_OK);
    assert_true(eval.loss_sum / (double)eval.n < result.first_loss);
    sl_trainer_free(t);
}

static void training_moves_features_and_leaves_the_head_as_it_is(void **state)
{
    (void)state;
    static const char *const all[] = {
        PLAN("mlp"),
        PLAN("mlp") "accelerator: {matmul: fast}\n",
        PLAN("mlp") "accelerator: {matmul: tr}\n",
        PLAN("mlp") "accelerator: {matmul: rtn}\n",
        DATA "model: {name: mlp, head: sphere, loss: squared}\n",
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        struct rig r;
        build(&r, all[i]);
        float *after = calloc(r.n, sizeof(float));
        assert_non_null(after);
        train_some(&r, after);
        size_t moving = sl_model_n_travelling(r.model);
        assert_memory_not_equal(after, r.values, moving * sizeof(float));
        assert_memory_equal(after + moving, r.values + moving,
                            (r.n - moving) * sizeof(float));
        free(after);
        unbuild(&r);
    }
}

/* --- S2, S3, S4: one head, in isolation
 * -------------------------------------------------------- */

#define WIDTH 24
#define ROWS 40

struct head_rig {
    struct sl_kernels kernels;
    struct sl_unit_ctx unit;
    struct sl_sphere_head head;
    float w0[CLASSES * WIDTH], h[ROWS * WIDTH], z[ROWS * WIDTH], o[ROWS * CLASSES];
    float d[ROWS * CLASSES], dh[ROWS * WIDTH];
    int32_t labels[ROWS];
};

static void head_open(struct head_rig *r)
{
    struct rig model;
    struct sl_rng rng;
    build(&model, DATA "model: {layers: [flatten, {dense: 24}], head: sphere}\n");
    memset(r, 0, sizeof *r);
    memcpy(r->w0, model.values + model.head.weight, sizeof r->w0);
    unbuild(&model);
    sl_kernels_init(&r->kernels, sl_cpu_usable());
    r->unit = (struct sl_unit_ctx){.unit = &sl_matmul_fp32, .kernels = &r->kernels};
    r->head = (struct sl_sphere_head){
        .width = WIDTH, .classes = CLASSES, .w0 = r->w0, .eps = 1e-12f};
    sl_rng_init(&rng, &(struct sl_rng_id){.seed = 4, .purpose = SL_RNG_TEST});
    for (size_t i = 0; i < ROWS * WIDTH; i++)
        r->h[i] = (float)sl_rng_normal(&rng);
    for (size_t i = 0; i < ROWS; i++)
        r->labels[i] = (int32_t)(i % CLASSES);
}

static void head_loss(struct head_rig *r, struct sl_loss_sums *ret)
{
    *ret = (struct sl_loss_sums){0};
    sl_sphere_head_forward(&r->head, &r->unit, ROWS, r->h, r->z, r->o);
    sl_loss(SL_LOSS_SQUARED, &r->kernels, r->o, r->labels, ROWS, CLASSES, 1.0f, r->d,
            ret);
    sl_sphere_head_backward(&r->head, &r->unit, ROWS, r->h, r->z, r->d, r->dh);
}

static double norm(const float *x, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)x[i] * (double)x[i];
    return sqrt(sum);
}

static void features_have_length_one_and_outputs_stay_within_one(void **state)
{
    (void)state;
    struct head_rig r;
    struct sl_loss_sums sums;
    head_open(&r);
    for (size_t i = 0; i < WIDTH; i++) {
        r.h[i] *= 1e-9f;         /* tiny */
        r.h[WIDTH + i] *= 1e18f; /* squares beyond float */
        r.h[2 * WIDTH + i] = 0;
    }
    head_loss(&r, &sums);
    for (size_t s = 0; s < ROWS; s++) {
        double want = s == 2 ? 0 : 1;
        assert_true(fabs(norm(r.z + s * WIDTH, WIDTH) - want) < 1e-6);
        for (size_t c = 0; c < CLASSES; c++)
            assert_true(fabsf(r.o[s * CLASSES + c]) <= 1.0f + 1e-6f);
    }
    assert_true(norm(r.dh + 2 * WIDTH, WIDTH) == 0);
    for (size_t i = 0; i < ROWS * WIDTH; i++)
        assert_true(isfinite(r.dh[i]));
}

static void the_gradient_stands_at_right_angles_and_falls_with_length(void **state)
{
    (void)state;
    struct head_rig r, longer;
    struct sl_loss_sums sums;
    head_open(&r);
    head_open(&longer);
    for (size_t i = 0; i < ROWS * WIDTH; i++)
        longer.h[i] *= 8;
    head_loss(&r, &sums);
    head_loss(&longer, &sums);
    for (size_t s = 0; s < ROWS; s++) {
        double along = 0;
        for (size_t i = 0; i < WIDTH; i++)
            along += (double)r.h[s * WIDTH + i] * (double)r.dh[s * WIDTH + i];
        assert_true(fabs(along) <= 1e-5 * norm(r.h + s * WIDTH, WIDTH) *
                                       norm(r.dh + s * WIDTH, WIDTH));
    }
    for (size_t i = 0; i < ROWS * WIDTH; i++)
        assert_true(fabsf(r.dh[i] - 8 * longer.dh[i]) <= 1e-5f);
}

/* The loss of row s in double, as the paper writes it. */
static double loss_of(const struct head_rig *r, const double *h, size_t label)
{
    double length = 0, loss = 0;
    for (size_t i = 0; i < WIDTH; i++)
        length += h[i] * h[i];
    length = sqrt(length);
    for (size_t c = 0; c < CLASSES; c++) {
        double o = 0;
        for (size_t i = 0; i < WIDTH; i++)
            o += (double)r->w0[c * WIDTH + i] * h[i] / length;
        loss += (o - (c == label)) * (o - (c == label));
    }
    return loss;
}

static void the_gradient_equals_finite_differences(void **state)
{
    (void)state;
    struct head_rig r;
    struct sl_loss_sums sums;
    head_open(&r);
    head_loss(&r, &sums);
    for (size_t s = 0; s < ROWS; s++) {
        double h[WIDTH];
        for (size_t i = 0; i < WIDTH; i++)
            h[i] = (double)r.h[s * WIDTH + i];
        for (size_t i = 0; i < WIDTH; i++) {
            double at = h[i], step = 1e-5;
            h[i] = at + step;
            double up = loss_of(&r, h, (size_t)r.labels[s]);
            h[i] = at - step;
            double down = loss_of(&r, h, (size_t)r.labels[s]);
            h[i] = at;
            double want = (up - down) / (2 * step);
            assert_true(fabs(want - (double)r.dh[s * WIDTH + i]) < 1e-6);
        }
    }
}

static void losses_keep_their_bounds_and_a_perfect_feature_has_none(void **state)
{
    (void)state;
    struct head_rig r;
    struct sl_loss_sums sums, before = {0};
    head_open(&r);
    for (size_t i = 0; i < WIDTH; i++)
        r.h[i] = 3 * r.w0[i]; /* row 0 has label 0 */
    for (size_t i = 0; i < WIDTH; i++)
        r.h[WIDTH + i] = -r.w0[WIDTH + i]; /* the worst there is */
    sl_sphere_head_forward(&r.head, &r.unit, ROWS, r.h, r.z, r.o);
    for (size_t s = 0; s < ROWS; s++) {
        sums = before;
        sl_loss(SL_LOSS_SQUARED, &r.kernels, r.o + s * CLASSES, r.labels + s, 1, CLASSES,
                1.0f, r.d, &sums);
        double y = (double)r.o[s * CLASSES + (size_t)r.labels[s]];
        assert_true(sums.loss >= (1 - y) * (1 - y) - 1e-6);
        assert_true(sums.loss <= 2 - 2 * y + 1e-6);
        if (s == 0)
            assert_true(sums.loss < 1e-10);
        if (s == 1)
            assert_true(fabs(sums.loss - 4) < 1e-5);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_named_model_takes_a_head_whose_rows_are_orthonormal),
        cmocka_unit_test(the_head_follows_the_seed_and_nothing_else),
        cmocka_unit_test(what_can_not_carry_a_head_is_refused),
        cmocka_unit_test(training_moves_features_and_leaves_the_head_as_it_is),
        cmocka_unit_test(features_have_length_one_and_outputs_stay_within_one),
        cmocka_unit_test(the_gradient_stands_at_right_angles_and_falls_with_length),
        cmocka_unit_test(the_gradient_equals_finite_differences),
        cmocka_unit_test(losses_keep_their_bounds_and_a_perfect_feature_has_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
