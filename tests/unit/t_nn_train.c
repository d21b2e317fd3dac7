/* SPDX-License-Identifier: Apache-2.0 */
/* Training and evaluation: orders, parts, resumption, determinism, what is refused. */
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "accel/accel.h"
#include "accel/kernels/cpu.h"
#include "accel/nn/train.h"

#define N 70

static struct sl_dataset set;
static uint32_t chosen[N];

static int make_set(void **state)
{
    struct sl_dataset_source src = {.kind = "synthetic",
                                    .path = "train=200,test=50,seed=4"};
    struct sl_err err;
    for (uint32_t i = 0; i < N; i++)
        chosen[i] = i * 7 % 200;
    return sl_dataset_load(&src, &set, &err) == SL_OK ? 0 : -1;
}

static int drop_set(void **state)
{
    sl_dataset_deinit(&set);
    return 0;
}

static struct sl_model *model_of(const struct sl_layer_spec *l, size_t n)
{
    struct sl_model_spec spec = {(struct sl_layer_spec *)l, n};
    struct sl_shape in = {3, {set.channels, set.height, set.width}};
    struct sl_model *m = NULL;
    struct sl_err err;
    if (sl_model_new(&spec, &in, set.n_classes, SL_LOSS_SOFTMAX_CE, &m, &err) != SL_OK)
        fail_msg("%s", err.msg);
    return m;
}

/* flatten, dense 16, relu, (dropout), (batch norm), dense */
static struct sl_model *small(bool dropout, bool batchnorm)
{
    struct sl_layer_spec l[6];
    size_t n = 0;
    l[n++] = sl_layer_default(SL_LAYER_FLATTEN);
    l[n] = sl_layer_default(SL_LAYER_DENSE);
    l[n++].out = 16;
    if (batchnorm)
        l[n++] = sl_layer_default(SL_LAYER_BATCHNORM);
    l[n++] = sl_layer_default(SL_LAYER_RELU);
    if (dropout) {
        l[n] = sl_layer_default(SL_LAYER_DROPOUT);
        l[n++].rate = 0.5f;
    }
    l[n] = sl_layer_default(SL_LAYER_DENSE);
    l[n++].out = set.n_classes;
    return model_of(l, n);
}

static struct sl_model *named(const char *name)
{
    struct sl_model_spec spec = {0};
    struct sl_err err;
    assert_int_equal(sl_model_spec_named(name, set.n_classes, &spec, &err), SL_OK);
    struct sl_model *m = model_of(spec.layers, spec.n_layers);
    sl_model_spec_deinit(&spec);
    return m;
}

static const struct sl_train_spec plain = {.lr = 0.05,
                                           .batch_size = 16,
                                           .epochs = 3,
                                           .local_steps = -1,
                                           .seed = 9,
                                           .round = 2,
                                           .client = 5};

struct outcome {
    float *values;
    struct sl_train_result result;
    enum sl_code rc;
    struct sl_err err;
};

static struct outcome train(const struct sl_model *m, const struct sl_train_spec *spec,
                            size_t max_batch, uint32_t cpu_off)
{
    size_t n = sl_model_layout(m)->n_values;
    struct outcome o = {.values = calloc(n, sizeof(float))};
    float *start = calloc(n, sizeof(float));
    struct sl_trainer *t = NULL;
    struct sl_trainer_options options = {.max_batch = max_batch, .cpu_off = cpu_off};
    struct sl_samples s = {&set, chosen, N};
    sl_model_init_uniform(m, 1, start);
    if (sl_trainer_new(m, &options, &t, &o.err) != SL_OK)
        fail_msg("%s", o.err.msg);
    o.rc = sl_train(t, start, &s, spec, o.values, &o.result, &o.err);
    sl_trainer_free(t);
    free(start);
    return o;
}

static bool same(const struct sl_model *m, const struct outcome *a,
                 const struct outcome *b)
{
    return memcmp(a->values, b->values, sl_model_layout(m)->n_values * sizeof(float)) ==
               0 &&
           memcmp(&a->result, &b->result, sizeof(a->result)) == 0;
}

static void training_lowers_the_loss(void **state)
{
    static const char *const names[] = {"tiny", "mlp",     "lenet",
                                        "cnn",  "pfl-cnn", "resnet8"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        struct sl_model *m = named(names[i]);
        struct sl_train_spec spec = plain;
        spec.epochs = 10;
        spec.optimizer = SL_OPT_ADAM;
        spec.lr = 0.002;
        spec.beta1 = 0.9;
        spec.beta2 = 0.999;
        spec.eps = 1e-8;
        struct outcome o = train(m, &spec, 16, 0);
        if (o.rc != SL_OK)
            fail_msg("%s: %s", names[i], o.err.msg);
        assert_int_equal(o.result.steps, 10 * 5);
        assert_int_equal(o.result.samples_seen, 10 * N);
        if (!(o.result.loss_sum / (10.0 * N) < 0.95 * o.result.first_loss))
            fail_msg("%s: loss %g after %g", names[i], o.result.loss_sum / (10.0 * N),
                     o.result.first_loss);
        free(o.values);
        sl_model_free(m);
    }
}

static void parts_of_a_batch_add_up(void **state)
{
    struct sl_model *m = small(true, false);
    const uint32_t batches[] = {0, 40};
    for (size_t i = 0; i < 2; i++) {
        struct sl_train_spec spec = plain;
        spec.batch_size = batches[i];
        struct outcome whole = train(m, &spec, N, 0), parts = train(m, &spec, 13, 0);
        assert_int_equal(parts.rc, SL_OK);
        assert_int_equal(parts.result.steps, whole.result.steps);
        for (size_t v = 0; v < sl_model_layout(m)->n_values; v++)
            assert_true(fabsf(whole.values[v] - parts.values[v]) < 2e-6f);
        assert_true(fabs(whole.result.loss_sum - parts.result.loss_sum) < 1e-3);
        free(whole.values);
        free(parts.values);
    }
    sl_model_free(m);
}

static void batch_norm_refuses_a_batch_in_parts(void **state)
{
    struct sl_model *m = small(false, true);
    struct sl_train_spec spec = plain;
    spec.batch_size = 0;
    struct outcome o = train(m, &spec, 13, 0);
    assert_int_equal(o.rc, SL_E_RANGE);
    assert_non_null(strstr(o.err.msg, "batch norm"));
    free(o.values);
    o = train(m, &spec, N, 0);
    assert_int_equal(o.rc, SL_OK);
    const struct sl_tensor *mean =
        sl_layout_find(sl_model_layout(m), "norm1.running_mean");
    assert_non_null(mean);
    assert_true(mean->offset >= sl_model_n_params(m));
    assert_true(o.values[mean->offset] != 0.0f);
    free(o.values);
    sl_model_free(m);
}

static void every_cpu_level_gives_the_same_bits(void **state)
{
    struct sl_model *m[] = {small(true, false), small(false, true), named("lenet")};
    for (size_t i = 0; i < 3; i++) {
        struct outcome best = train(m[i], &plain, 16, 0),
                       c = train(m[i], &plain, 16, ~0u);
        struct outcome avx2 = train(m[i], &plain, 16, SL_CPU_AVX512);
        assert_true(same(m[i], &best, &c));
        assert_true(same(m[i], &best, &avx2));
        free(best.values);
        free(c.values);
        free(avx2.values);
        sl_model_free(m[i]);
    }
}

struct half {
    const struct sl_model *m;
    struct outcome o;
};

static void *train_half(void *arg)
{
    struct half *h = arg;
    h->o = train(h->m, &plain, 16, 0);
    return NULL;
}

static void two_threads_give_the_bits_of_one(void **state)
{
    struct sl_model *m = named("lenet");
    struct half h[2] = {{.m = m}, {.m = m}};
    struct outcome alone = train(m, &plain, 16, 0);
    pthread_t t[2];
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&t[i], NULL, train_half, &h[i]), 0);
    for (int i = 0; i < 2; i++) {
        pthread_join(t[i], NULL);
        assert_int_equal(h[i].o.rc, SL_OK);
        assert_true(same(m, &alone, &h[i].o));
        free(h[i].o.values);
    }
    free(alone.values);
    sl_model_free(m);
}

static void stopping_between_epochs_changes_nothing(void **state)
{
    struct sl_model *m = small(true, false);
    size_t n = sl_model_layout(m)->n_values;
    float *start = calloc(n, sizeof(float));
    struct sl_trainer *t = NULL;
    struct sl_err err;
    struct sl_samples s = {&set, chosen, N};
    struct sl_train_result part;
    struct sl_eval_result eval;
    struct sl_train_spec spec = plain;
    spec.momentum = 0.9;
    spec.mu = 0.1;
    struct outcome whole = train(m, &spec, 16, 0);
    sl_model_init_uniform(m, 1, start);
    assert_int_equal(
        sl_trainer_new(m, &(struct sl_trainer_options){.max_batch = 16}, &t, &err),
        SL_OK);
    assert_int_equal(sl_train_begin(t, start, &s, &spec, &err), SL_OK);
    assert_int_equal(sl_train_run(t, 1, &part, &err), SL_OK);
    assert_int_equal(part.steps, 5);
    assert_false(sl_train_done(t));
    assert_int_equal(sl_evaluate(t, sl_train_values(t), &s, &eval, &err), SL_OK);
    assert_int_equal(sl_train_run(t, UINT32_MAX, &part, &err), SL_OK);
    assert_true(sl_train_done(t));
    assert_memory_equal(sl_train_values(t), whole.values, n * sizeof(float));
    assert_memory_equal(&part, &whole.result, sizeof(part));
    sl_trainer_free(t);
    free(whole.values);
    free(start);
    sl_model_free(m);
}

static void local_steps_walk_through_epochs(void **state)
{
    struct sl_model *m = small(false, false);
    struct sl_train_spec spec = plain;
    spec.local_steps = 12; /* two epochs of 5 and two steps more */
    struct outcome o = train(m, &spec, 16, 0);
    assert_int_equal(o.result.steps, 12);
    assert_int_equal(o.result.samples_seen, 2 * N + 32);
    free(o.values);
    spec.local_steps = 0;
    o = train(m, &spec, 16, 0);
    assert_int_equal(o.rc, SL_OK);
    assert_int_equal(o.result.steps, 0);
    float *start = calloc(sl_model_layout(m)->n_values, sizeof(float));
    sl_model_init_uniform(m, 1, start);
    assert_memory_equal(start, o.values, sl_model_layout(m)->n_values * sizeof(float));
    free(start);
    free(o.values);
    sl_model_free(m);
}

static void dropout_depends_on_seed_round_and_client(void **state)
{
    struct sl_model *m = small(true, false);
    struct sl_train_spec spec = plain;
    spec.batch_size = 0; /* order fixed: only the masks differ */
    struct outcome a = train(m, &spec, N, 0), b = train(m, &spec, N, 0), c;
    assert_true(same(m, &a, &b));
    free(b.values);
    for (int i = 0; i < 3; i++) {
        struct sl_train_spec other = spec;
        other.seed += i == 0;
        other.round += i == 1;
        other.client += i == 2;
        c = train(m, &other, N, 0);
        assert_false(same(m, &a, &c));
        free(c.values);
    }
    free(a.values);
    sl_model_free(m);
}

static void orders_are_permutations_of_their_own(void **state)
{
    uint32_t a[N], b[N], seen;
    uint64_t scratch[2 * N];
    for (int order = SL_ORDER_PHILOX; order <= SL_ORDER_BENCH; order++) {
        sl_sample_order((enum sl_order)order, 1, 2, 3, 0, N, scratch, a);
        sl_sample_order((enum sl_order)order, 1, 2, 3, 1, N, scratch, b);
        assert_true(memcmp(a, b, sizeof(a)) != 0);
        seen = 0;
        for (size_t i = 0; i < N; i++)
            for (uint32_t v = 0; v < N; v++)
                seen += a[i] == v;
        assert_int_equal(seen, N);
        for (size_t i = 0; i < N; i++)
            for (size_t j = 0; j < i; j++)
                assert_true(a[i] != a[j]);
    }
    /* batch_order(3, 7, 11, 2, 10) of bench/fl_common.py */
    static const uint32_t want[10] = {7, 5, 9, 1, 4, 0, 6, 8, 3, 2};
    sl_sample_order(SL_ORDER_BENCH, 3, 7, 11, 2, 10, scratch, a);
    assert_memory_equal(a, want, sizeof(want));
}

static void double_gradients(void *ctx, uint64_t step, const float *values, float *grads,
                             size_t n)
{
    uint64_t *calls = ctx;
    assert_int_equal(step, *calls);
    ++*calls;
    for (size_t i = 0; i < n; i++)
        grads[i] *= 2.0f;
}

static void the_hook_sees_each_step_and_may_change_gradients(void **state)
{
    struct sl_model *m = small(false, false);
    uint64_t calls = 0;
    struct sl_train_spec spec = plain, twice = plain;
    spec.hook = double_gradients;
    spec.hook_ctx = &calls;
    twice.lr *= 2.0;
    struct outcome a = train(m, &spec, 16, 0), b = train(m, &twice, 16, 0);
    assert_int_equal(calls, a.result.steps);
    assert_true(same(m, &a, &b)); /* doubling is exact */
    free(a.values);
    free(b.values);
    sl_model_free(m);
}

static void set_lr(void *ctx, uint64_t step, const float *values, float *grads, size_t n)
{
    struct sl_trainer *const *t = ctx;
    sl_trainer_set_lr(*t, step == 0 ? 0.05 : 0.0);
}

static void a_hook_may_set_the_learning_rate_of_its_step(void **state)
{
    struct sl_model *m = small(false, false);
    struct sl_trainer_options o = {.max_batch = 32};
    struct sl_trainer *t;
    struct sl_err err;
    struct sl_train_spec spec = plain;
    const struct sl_samples s = {&set, chosen, N};
    assert_int_equal(sl_trainer_new(m, &o, &t, &err), SL_OK);
    size_t n = sl_model_layout(m)->n_values;
    float *v = calloc(3 * n, sizeof(*v));
    struct sl_train_result r;
    sl_model_init_uniform(m, 1, v);
    spec.local_steps = 1;
    spec.lr = 0.05;
    assert_int_equal(sl_train(t, v, &s, &spec, v + n, &r, &err), SL_OK);
    spec.local_steps = 4;
    spec.lr = 7.0;
    spec.hook = set_lr;
    spec.hook_ctx = &t;
    assert_int_equal(sl_train(t, v, &s, &spec, v + 2 * n, &r, &err), SL_OK);
    assert_memory_equal(v + n, v + 2 * n, n * sizeof(*v));
    spec.hook = NULL; /* a new training has its own */
    spec.local_steps = 1;
    spec.lr = 0.05;
    assert_int_equal(sl_train(t, v, &s, &spec, v + 2 * n, &r, &err), SL_OK);
    assert_memory_equal(v + n, v + 2 * n, n * sizeof(*v));
    free(v);
    sl_trainer_free(t);
    sl_model_free(m);
}

static void the_proximal_term_holds_values_back(void **state)
{
    struct sl_model *m = small(false, false);
    size_t n = sl_model_n_params(m);
    float *start = calloc(n, sizeof(float));
    sl_model_init_uniform(m, 1, start);
    double moved[2] = {0, 0};
    for (int i = 0; i < 2; i++) {
        struct sl_train_spec spec = plain;
        spec.mu = i * 5.0;
        struct outcome o = train(m, &spec, 16, 0);
        for (size_t v = 0; v < n; v++)
            moved[i] += pow((double)(o.values[v] - start[v]), 2);
        free(o.values);
    }
    assert_true(moved[1] < 0.8 * moved[0]);
    free(start);
    sl_model_free(m);
}

static void divergence_is_an_error_and_leaves_outputs_alone(void **state)
{
    struct sl_layer_spec l[4];
    l[0] = sl_layer_default(SL_LAYER_FLATTEN);
    for (size_t i = 1; i < 4; i++) {
        l[i] = sl_layer_default(SL_LAYER_DENSE);
        l[i].out = set.n_classes;
    }
    struct sl_model *m = model_of(l, 4); /* a product of three: it runs away */
    struct sl_train_spec spec = plain;
    spec.lr = 1e6;
    spec.epochs = 20;
    struct outcome o = train(m, &spec, 16, 0);
    assert_int_equal(o.rc, SL_E_FAILED);
    assert_non_null(strstr(o.err.msg, "diverged"));
    for (size_t i = 0; i < sl_model_layout(m)->n_values; i++)
        assert_true(o.values[i] == 0.0f);
    assert_int_equal(o.result.steps, 0);
    free(o.values);
    sl_model_free(m);
}

static void numbers_out_of_range_are_refused(void **state)
{
    struct sl_model *m = small(false, false);
    struct sl_train_spec bad[7];
    for (size_t i = 0; i < 7; i++)
        bad[i] = plain;
    bad[0].lr = -1.0;
    bad[1].lr = NAN;
    bad[2].momentum = 1.5;
    bad[3].weight_decay = INFINITY;
    bad[4].epochs = 0;
    bad[5].local_steps = -2;
    bad[6].optimizer = SL_OPT_ADAM; /* eps 0 */
    for (size_t i = 0; i < 7; i++) {
        struct outcome o = train(m, &bad[i], 16, 0);
        assert_int_equal(o.rc, SL_E_RANGE);
        free(o.values);
    }
    struct sl_trainer *t = NULL;
    struct sl_err err;
    assert_int_equal(sl_trainer_new(m, &(struct sl_trainer_options){0}, &t, &err),
                     SL_E_RANGE);
    assert_null(t);
    sl_model_free(m);
}

static void samples_that_do_not_fit_are_refused(void **state)
{
    struct sl_model *m = small(false, false);
    struct sl_trainer *t = NULL;
    struct sl_err err;
    struct sl_eval_result eval;
    struct sl_dataset other = set;
    size_t n = sl_model_layout(m)->n_values;
    float *values = calloc(n, sizeof(float));
    assert_int_equal(
        sl_trainer_new(m, &(struct sl_trainer_options){.max_batch = 8}, &t, &err), SL_OK);
    other.width--;
    struct sl_samples s = {&other, chosen, N};
    assert_int_equal(sl_evaluate(t, values, &s, &eval, &err), SL_E_INPUT);
    other = set;
    other.n_classes++;
    assert_int_equal(sl_evaluate(t, values, &s, &eval, &err), SL_E_INPUT);
    s = (struct sl_samples){&set, NULL, set.n + 1};
    assert_int_equal(sl_evaluate(t, values, &s, &eval, &err), SL_E_INPUT);
    s.n = 0;
    assert_int_equal(sl_evaluate(t, values, &s, &eval, &err), SL_E_INPUT);
    struct sl_train_result r;
    assert_int_equal(sl_train_run(t, 1, &r, &err), SL_E_BUG);
    sl_trainer_free(t);
    free(values);
    sl_model_free(m);
}

static void evaluation_counts_hits_and_losses(void **state)
{
    struct sl_model *m = named("tiny");
    struct sl_train_spec spec = plain;
    spec.epochs = 30;
    struct outcome o = train(m, &spec, 16, 0);
    struct sl_trainer *t = NULL;
    struct sl_err err;
    struct sl_eval_result a, b;
    struct sl_samples s = {&set, chosen, N};
    assert_int_equal(
        sl_trainer_new(m, &(struct sl_trainer_options){.max_batch = 8}, &t, &err), SL_OK);
    assert_int_equal(sl_evaluate(t, o.values, &s, &a, &err), SL_OK);
    assert_int_equal(a.n, N);
    assert_true(a.correct > N * 9 / 10);
    memset(o.values, 0, sl_model_layout(m)->n_values * sizeof(float));
    assert_int_equal(sl_evaluate(t, o.values, &s, &b, &err), SL_OK);
    assert_true(fabs(b.loss_sum - N * log((double)set.n_classes)) < 1e-4);
    size_t zeros = 0; /* all outputs equal: the first class counts */
    for (size_t i = 0; i < N; i++)
        zeros += set.labels[chosen[i]] == 0;
    assert_int_equal(b.correct, zeros);
    o.values[0] = NAN;
    assert_int_equal(sl_evaluate(t, o.values, &s, &b, &err), SL_E_FAILED);
    sl_trainer_free(t);
    free(o.values);
    sl_model_free(m);
}

static void the_ledger_counts_products_by_pass(void **state)
{
    struct sl_model *m = named("mlp");
    struct sl_trainer *t = NULL;
    struct sl_err err;
    struct sl_train_result r;
    struct sl_samples s = {&set, chosen, 32};
    struct sl_train_spec spec = plain;
    size_t n = sl_model_layout(m)->n_values;
    float *start = calloc(2 * n, sizeof(float));
    spec.batch_size = 32;
    spec.epochs = 1;
    sl_model_init_uniform(m, 1, start);
    assert_int_equal(
        sl_trainer_new(m, &(struct sl_trainer_options){.max_batch = 32}, &t, &err),
        SL_OK);
    assert_int_equal(sl_train(t, start, &s, &spec, start + n, &r, &err), SL_OK);
    const struct sl_unit_ledger *l = sl_trainer_ledger(t);
    uint64_t first = 32ull * 784 * 200, rest = 32ull * (200 * 200 + 200 * 10);
    assert_int_equal(l->macs[SL_PASS_FORWARD], first + rest);
    assert_int_equal(l->macs[SL_PASS_WEIGHT_GRADIENT], first + rest);
    assert_int_equal(l->macs[SL_PASS_INPUT_GRADIENT], rest); /* none for the data */
    assert_int_equal(l->calls[SL_PASS_FORWARD], 3);
    sl_trainer_free(t);
    free(start);
    sl_model_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(training_lowers_the_loss),
        cmocka_unit_test(parts_of_a_batch_add_up),
        cmocka_unit_test(batch_norm_refuses_a_batch_in_parts),
        cmocka_unit_test(every_cpu_level_gives_the_same_bits),
        cmocka_unit_test(two_threads_give_the_bits_of_one),
        cmocka_unit_test(stopping_between_epochs_changes_nothing),
        cmocka_unit_test(local_steps_walk_through_epochs),
        cmocka_unit_test(dropout_depends_on_seed_round_and_client),
        cmocka_unit_test(orders_are_permutations_of_their_own),
        cmocka_unit_test(the_hook_sees_each_step_and_may_change_gradients),
        cmocka_unit_test(a_hook_may_set_the_learning_rate_of_its_step),
        cmocka_unit_test(the_proximal_term_holds_values_back),
        cmocka_unit_test(divergence_is_an_error_and_leaves_outputs_alone),
        cmocka_unit_test(numbers_out_of_range_are_refused),
        cmocka_unit_test(samples_that_do_not_fit_are_refused),
        cmocka_unit_test(evaluation_counts_hits_and_losses),
        cmocka_unit_test(the_ledger_counts_products_by_pass),
    };
    sl_accel_init();
    return cmocka_run_group_tests_name("nn_train", tests, make_set, drop_set);
}
