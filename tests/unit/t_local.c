/* SPDX-License-Identifier: Apache-2.0 */
#include "client/local/local.h"

#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "accel/accel.h"
#include "common/mem.h"

struct fixture {
    struct sl_plan plan;
    struct sl_dataset set;
    struct sl_model *model;
    struct sl_local_bench *bench;
    uint32_t index[200];
    struct sl_local_data data;
    float *start;
    size_t n;
};

static void make_model(struct fixture *f, const char *name)
{
    struct sl_err err;
    struct sl_model_spec spec = {0};
    struct sl_shape shape = {3, {f->set.channels, f->set.height, f->set.width}};
    assert_int_equal(sl_model_spec_named(name, f->set.n_classes, &spec, &err), SL_OK);
    assert_int_equal(sl_model_new(&spec, &shape, f->set.n_classes, SL_LOSS_SOFTMAX_CE,
                                  &f->model, &err),
                     SL_OK);
    sl_model_spec_deinit(&spec);
    f->n = sl_model_layout(f->model)->n_values;
    f->start = sl_calloc(f->n, sizeof(float));
    sl_model_init_uniform(f->model, 1, f->start);
}

static int setup(void **state)
{
    struct sl_err err;
    struct fixture *f = calloc(1, sizeof *f);
    struct sl_dataset_source src = {
        .kind = "synthetic", .path = "", .split = SL_SPLIT_TRAIN};
    sl_plan_default(&f->plan);
    f->plan.run.rounds = 10;
    f->plan.run.seed = 3;
    f->plan.train.epochs = 2;
    f->plan.train.batch_size = 32;
    f->plan.train.lr = 0.05;
    assert_int_equal(sl_dataset_load(&src, &f->set, &err), SL_OK);
    make_model(f, "mlp");
    assert_int_equal(sl_local_bench_new(&f->plan, f->model, &f->bench, &err), SL_OK);
    for (uint32_t i = 0; i < 200; i++)
        f->index[i] = 2 * i + 1;
    f->data = (struct sl_local_data){.set = &f->set,
                                     .train = f->index,
                                     .n_train = 150,
                                     .holdout = f->index + 150,
                                     .n_holdout = 50};
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    sl_local_bench_free(f->bench);
    sl_model_free(f->model);
    sl_dataset_deinit(&f->set);
    sl_plan_deinit(&f->plan);
    free(f->start);
    free(f);
    return 0;
}

static struct sl_local_order order_of(const struct fixture *f, uint32_t client,
                                      uint32_t round)
{
    return (struct sl_local_order){
        .plan = &f->plan, .client = client, .round = round, .local_steps = -1};
}

/* The update of an order, the caller's to free. */
static float *train(struct sl_local_bench *b, const struct fixture *f,
                    const struct sl_local_order *o, struct sl_update_meta *ret_meta)
{
    struct sl_err err;
    const uint8_t *update;
    size_t n;
    if (sl_local_train(b, o, &f->data, f->start, ret_meta, &update, &n, &err) != SL_OK)
        fail_msg("%s", err.msg);
    assert_int_equal(n, f->n * sizeof(float));
    float *copy = sl_calloc(1, n);
    memcpy(copy, update, n);
    return copy;
}

static void equal_orders_give_equal_bytes_whatever_came_between(void **state)
{
    struct fixture *f = *state;
    struct sl_update_meta a, b, c;
    struct sl_local_order first = order_of(f, 4, 2), other = order_of(f, 5, 2);
    float *x = train(f->bench, f, &first, &a);
    float *y = train(f->bench, f, &other, &b);
    float *z = train(f->bench, f, &first, &c);
    assert_memory_equal(x, z, f->n * sizeof(float));
    assert_true(a.loss_sum == c.loss_sum && a.first_loss == c.first_loss);
    assert_int_not_equal(memcmp(x, y, f->n * sizeof(float)),
                         0); /* another order of samples */
    free(x);
    free(y);
    free(z);
}

struct thread {
    const struct fixture *f;
    float *update;
    struct sl_update_meta meta;
};

static void *thread_main(void *arg)
{
    struct thread *t = arg;
    struct sl_local_bench *b;
    struct sl_err err;
    struct sl_local_order o = order_of(t->f, 7, 1);
    if (sl_local_bench_new(&t->f->plan, t->f->model, &b, &err) != SL_OK)
        return NULL;
    t->update = train(b, t->f, &o, &t->meta);
    sl_local_bench_free(b);
    return NULL;
}

static void equal_orders_on_two_threads_give_equal_bytes(void **state)
{
    struct fixture *f = *state;
    struct thread t[2] = {{.f = f}, {.f = f}};
    pthread_t id[2];
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&id[i], NULL, thread_main, &t[i]), 0);
    for (int i = 0; i < 2; i++)
        pthread_join(id[i], NULL);
    assert_non_null(t[0].update);
    assert_non_null(t[1].update);
    assert_memory_equal(t[0].update, t[1].update, f->n * sizeof(float));
    assert_true(t[0].meta.loss_sum == t[1].meta.loss_sum);
    free(t[0].update);
    free(t[1].update);
}

static void update_is_the_trained_model_minus_the_received_one(void **state)
{
    struct fixture *f = *state;
    struct sl_err err;
    struct sl_update_meta meta;
    struct sl_local_order o = order_of(f, 0, 0);
    float *update = train(f->bench, f, &o, &meta);
    struct sl_trainer *t;
    struct sl_trainer_options opt = {.max_batch = 32};
    struct sl_samples s = {.set = &f->set, .index = f->index, .n = 150};
    struct sl_train_spec spec = {.optimizer = SL_OPT_SGD,
                                 .lr = 0.05,
                                 .batch_size = 32,
                                 .epochs = 2,
                                 .local_steps = -1,
                                 .order = SL_ORDER_PHILOX,
                                 .seed = 3};
    struct sl_train_result r;
    float *after = sl_calloc(f->n, sizeof(float));
    assert_int_equal(sl_trainer_new(f->model, &opt, &t, &err), SL_OK);
    assert_int_equal(sl_train(t, f->start, &s, &spec, after, &r, &err), SL_OK);
    for (size_t i = 0; i < f->n; i++)
        assert_true(update[i] == after[i] - f->start[i]);
    assert_true(meta.loss_sum == r.loss_sum && meta.steps == r.steps);
    sl_trainer_free(t);
    free(after);
    free(update);
}

static void meta_says_what_was_done(void **state)
{
    struct fixture *f = *state;
    struct sl_update_meta meta;
    struct sl_local_order o = order_of(f, 0, 0);
    free(train(f->bench, f, &o, &meta));
    assert_int_equal(meta.weight, 150);
    assert_int_equal(meta.samples, 300);
    assert_int_equal(meta.steps, 2 * 5); /* 150 samples in batches of 32 */
    assert_true(meta.loss_sum > 0 && meta.first_loss > 0);
    assert_true(meta.loss_sum / 300 < meta.first_loss); /* it learns */
    assert_false(meta.has_eval);
    assert_int_equal(meta.encoding, SL_ENC_FP32);
}

static void uniform_weighting_gives_weight_one(void **state)
{
    struct fixture *f = *state;
    struct sl_update_meta meta;
    struct sl_local_order o = order_of(f, 0, 0);
    f->plan.aggregation.weighting = SL_WEIGHT_UNIFORM;
    free(train(f->bench, f, &o, &meta));
    assert_int_equal(meta.weight, 1);
}

static void received_model_is_measured_on_held_out_samples(void **state)
{
    struct fixture *f = *state;
    struct sl_err err;
    struct sl_update_meta meta;
    struct sl_eval_counts counts;
    struct sl_local_order o = order_of(f, 0, 0);
    o.evaluate = true;
    free(train(f->bench, f, &o, &meta));
    assert_true(meta.has_eval);
    assert_int_equal(meta.eval.samples, 50);
    assert_int_equal(sl_local_evaluate(f->bench, &f->data, f->start, &counts, &err),
                     SL_OK);
    assert_true(counts.correct == meta.eval.correct &&
                counts.loss_sum == meta.eval.loss_sum);
    f->data.n_holdout = 0;
    free(train(f->bench, f, &o, &meta));
    assert_false(meta.has_eval);
    assert_int_equal(sl_local_evaluate(f->bench, &f->data, f->start, &counts, &err),
                     SL_OK);
    assert_int_equal(counts.samples, 0);
}

static void no_steps_give_an_update_of_zeros(void **state)
{
    struct fixture *f = *state;
    struct sl_update_meta meta;
    struct sl_local_order o = order_of(f, 0, 0);
    free(train(f->bench, f, &o, &meta)); /* something to be left over */
    o.local_steps = 0;
    float *update = train(f->bench, f, &o, &meta);
    for (size_t i = 0; i < f->n; i++)
        assert_true(update[i] == 0);
    assert_int_equal(meta.weight, 150);
    assert_int_equal(meta.steps, 0);
    assert_true(meta.loss_sum == 0);
    free(update);
}

static void number_of_steps_replaces_epochs(void **state)
{
    struct fixture *f = *state;
    struct sl_update_meta meta;
    struct sl_local_order o = order_of(f, 0, 0);
    o.local_steps = 7;
    free(train(f->bench, f, &o, &meta));
    assert_int_equal(meta.steps, 7);
}

static void learning_rate_follows_the_schedule(void **state)
{
    struct fixture *f = *state;
    struct sl_update_meta meta;
    f->plan.train.schedule.kind = SL_SCHEDULE_STEP;
    f->plan.train.schedule.step_every = 1;
    f->plan.train.schedule.factor = 0;
    struct sl_local_order o = order_of(f, 0, 1);
    float *update = train(f->bench, f, &o, &meta);
    for (size_t i = 0; i < f->n; i++)
        assert_true(update[i] == 0); /* lr 0 in round 1 */
    free(update);
}

static void diverged_training_is_a_clear_failure(void **state)
{
    struct fixture *f = *state;
    struct sl_err err;
    struct sl_update_meta meta = {.weight = 77};
    const uint8_t *update = NULL;
    size_t n = 5;
    struct sl_local_order o = order_of(f, 0, 0);
    f->plan.train.lr = 1e5;
    assert_int_equal(
        sl_local_train(f->bench, &o, &f->data, f->start, &meta, &update, &n, &err),
        SL_E_FAILED);
    assert_non_null(strstr(err.msg, "training of round 0"));
    assert_true(meta.weight == 77 && update == NULL && n == 5);
}

static void client_without_samples_is_refused(void **state)
{
    struct fixture *f = *state;
    struct sl_err err;
    struct sl_update_meta meta;
    const uint8_t *update;
    size_t n;
    struct sl_local_order o = order_of(f, 0, 0);
    f->data.n_train = 0;
    assert_int_equal(
        sl_local_train(f->bench, &o, &f->data, f->start, &meta, &update, &n, &err),
        SL_E_INPUT);
}

static void strategy_without_client_half_is_refused(void **state)
{
    struct fixture *f = *state;
    struct sl_err err;
    struct sl_local_bench *b;
    strcpy(f->plan.strategy.name, "telepathy");
    assert_int_equal(sl_local_bench_new(&f->plan, f->model, &b, &err), SL_E_INPUT);
    assert_non_null(strstr(err.msg, "telepathy"));
}

/* A bench of another strategy, the caller's to free. */
static struct sl_local_bench *bench_of(struct fixture *f, const char *strategy)
{
    struct sl_local_bench *b;
    struct sl_err err;
    strcpy(f->plan.strategy.name, strategy);
    if (sl_local_bench_new(&f->plan, f->model, &b, &err) != SL_OK)
        fail_msg("%s", err.msg);
    return b;
}

static void fedprox_is_drawn_to_the_received_model(void **state)
{
    struct fixture *f = *state;
    struct sl_update_meta meta;
    struct sl_local_order o = order_of(f, 0, 0);
    double length[3];
    f->plan.strategy.mu = 5;
    struct sl_local_bench *prox = bench_of(f, "fedprox");
    o.local_steps = 1; /* the first gradient is taken there: no difference yet */
    float *plain = train(f->bench, f, &o, &meta), *near = train(prox, f, &o, &meta);
    assert_memory_equal(plain, near, f->n * sizeof(float));
    free(plain);
    free(near);
    o.local_steps = 20;
    for (size_t i = 0; i < 3; i++) {
        f->plan.strategy.mu = i == 1 ? 1 : 10;
        float *u = train(i == 0 ? f->bench : prox, f, &o, &meta);
        length[i] = 0;
        for (size_t j = 0; j < f->n; j++)
            length[i] += (double)u[j] * (double)u[j];
        free(u);
    }
    assert_true(length[0] > length[1] && length[1] > length[2]);
    sl_local_bench_free(prox);
}

/* Trains under SCAFFOLD; ret[2 n]: the update, then the change of the client's variate. */
static void train_scaffold(struct sl_local_bench *b, const struct fixture *f,
                           const struct sl_local_order *o, float *ret)
{
    struct sl_err err;
    struct sl_update_meta meta;
    const uint8_t *update;
    size_t n;
    if (sl_local_train(b, o, &f->data, f->start, &meta, &update, &n, &err) != SL_OK)
        fail_msg("%s", err.msg);
    assert_int_equal(n, 2 * f->n * sizeof(float));
    memcpy(ret, update, n);
}

static void scaffold_keeps_the_mean_gradient_of_its_steps(void **state)
{
    struct fixture *f = *state;
    struct sl_update_meta meta;
    struct sl_local_order o = order_of(f, 0, 0);
    o.local_steps = 4;
    float *plain = train(f->bench, f, &o, &meta);
    struct sl_local_bench *b = bench_of(f, "scaffold");
    float *both = sl_calloc(2 * f->n, sizeof(float)), *c = sl_calloc(f->n, sizeof(float));
    assert_int_equal(sl_local_vectors(&f->plan), 2);
    assert_int_equal(sl_local_model_bytes(&f->plan, sl_model_layout(f->model)),
                     2 * f->n * sizeof(float));
    assert_int_equal(sl_local_state_bytes(&f->plan, sl_model_layout(f->model)),
                     f->n * sizeof(float));
    o.variates = c; /* all 0: plain steps */
    train_scaffold(b, f, &o, both);
    const float *kept = (const float *)(const void *)sl_local_state(b);
    assert_memory_equal(plain, both, f->n * sizeof(float));
    for (size_t i = 0; i < f->n; i++) {
        double want = -(double)plain[i] / (4 * 0.05);
        assert_true(fabs((double)both[f->n + i] - want) <= 1e-5 + 1e-5 * fabs(want));
        assert_true(kept[i] == both[f->n + i]);
    }
    sl_local_bench_free(b);
    free(plain);
    free(both);
    free(c);
}

static void scaffold_corrects_each_step_by_both_variates(void **state)
{
    struct fixture *f = *state;
    struct sl_update_meta meta;
    struct sl_local_order o = order_of(f, 0, 0);
    o.local_steps = 1;
    float *plain = train(f->bench, f, &o, &meta);
    struct sl_local_bench *b = bench_of(f, "scaffold");
    float *both = sl_calloc(2 * f->n, sizeof(float));
    float *c = sl_calloc(f->n, sizeof(float)), *own = sl_calloc(f->n, sizeof(float));
    for (size_t i = 0; i < f->n; i++) {
        c[i] = (float)(i % 7) * 0.25f;
        own[i] = (float)(i % 5) * 0.5f;
    }
    o.variates = c;
    o.state = (const uint8_t *)own;
    train_scaffold(b, f, &o, both);
    const float *kept = (const float *)(const void *)sl_local_state(b);
    for (size_t i = 0; i < f->n; i++) {
        double moved = (double)plain[i] - 0.05 * ((double)c[i] - (double)own[i]);
        double change = -moved / 0.05 - (double)c[i];
        assert_true(fabs((double)both[i] - moved) < 1e-6);
        assert_true(fabs((double)both[f->n + i] - change) < 1e-4);
        assert_true(fabs((double)kept[i] - (double)own[i] - change) < 1e-4);
    }
    o.local_steps = 0; /* nothing learnt: nothing changes */
    train_scaffold(b, f, &o, both);
    assert_memory_equal(sl_local_state(b), own, f->n * sizeof(float));
    for (size_t i = 0; i < 2 * f->n; i++)
        assert_true(both[i] == 0);
    sl_local_bench_free(b);
    free(plain);
    free(both);
    free(c);
    free(own);
}

static void assert_same_meta(const struct sl_update_meta *a, const struct sl_update_meta *b)
{
    assert_int_equal(a->weight, b->weight);
    assert_int_equal(a->samples, b->samples);
    assert_int_equal(a->steps, b->steps);
    assert_true(a->loss_sum == b->loss_sum && a->first_loss == b->first_loss);
    assert_int_equal(a->encoding, b->encoding);
    assert_int_equal(a->has_eval, b->has_eval);
    assert_int_equal(a->eval.samples, b->eval.samples);
    assert_int_equal(a->eval.correct, b->eval.correct);
    assert_true(a->eval.loss_sum == b->eval.loss_sum);
    assert_memory_equal(&a->cost, &b->cost, sizeof(a->cost)); /* has no gaps */
}

/* Kept optimiser state and order of samples (FedMarl's F5), a client's state, another client's work in
 * between that was given up. */
static void probe_and_rest_are_the_whole_training_bit_for_bit(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *strategy;
        enum sl_optimizer optimizer;
        double momentum;
        enum sl_encoding encoding;
    } cases[] = {{"fedavg", SL_OPT_SGD, 0.9, SL_ENC_FP32},
                 {"fedprox", SL_OPT_ADAM, 0, SL_ENC_FP32},
                 {"scaffold", SL_OPT_SGD, 0, SL_ENC_FP32},
                 {"fedavg", SL_OPT_SGD, 0, SL_ENC_TERNARY}};
    float *variates = sl_calloc(f->n, sizeof(float));
    for (size_t i = 0; i < f->n; i++)
        variates[i] = (float)(i % 7) * 0.25f;
    f->plan.train.epochs = 3;
    f->plan.selection.probe_epochs = 1;
    f->plan.strategy.mu = 0.5;
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        struct sl_err err;
        struct sl_update_meta whole, parts;
        const uint8_t *update;
        size_t n;
        float loss, again;
        f->plan.train.optimizer = cases[c].optimizer;
        f->plan.train.momentum = cases[c].momentum;
        f->plan.uplink.encoding = cases[c].encoding;
        struct sl_local_bench *b = bench_of(f, cases[c].strategy);
        struct sl_local_order o = order_of(f, 4, 2), other = order_of(f, 5, 2);
        o.variates = other.variates = variates;
        o.evaluate = true;
        assert_int_equal(
            sl_local_train(b, &o, &f->data, f->start, &whole, &update, &n, &err), SL_OK);
        uint8_t *want = malloc(n);
        memcpy(want, update, n);
        assert_int_equal(sl_local_probe(b, &other, &f->data, f->start, &again, &err), SL_OK);
        assert_int_equal(sl_local_probe(b, &o, &f->data, f->start, &loss, &err), SL_OK);
        assert_true(loss > 0 && loss != again);
        assert_int_equal(sl_local_go_on(b, &parts, &update, &n, &err), SL_OK);
        assert_memory_equal(update, want, n);
        assert_same_meta(&parts, &whole);
        assert_int_equal(sl_local_probe(b, &o, &f->data, f->start, &again, &err), SL_OK);
        assert_true(loss == again);
        free(want);
        sl_local_bench_free(b);
    }
    free(variates);
}

int main(void)
{
    sl_accel_init();
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(equal_orders_give_equal_bytes_whatever_came_between),
        T(equal_orders_on_two_threads_give_equal_bytes),
        T(update_is_the_trained_model_minus_the_received_one),
        T(meta_says_what_was_done),
        T(uniform_weighting_gives_weight_one),
        T(received_model_is_measured_on_held_out_samples),
        T(no_steps_give_an_update_of_zeros),
        T(number_of_steps_replaces_epochs),
        T(learning_rate_follows_the_schedule),
        T(diverged_training_is_a_clear_failure),
        T(client_without_samples_is_refused),
        T(strategy_without_client_half_is_refused),
        T(fedprox_is_drawn_to_the_received_model),
        T(scaffold_keeps_the_mean_gradient_of_its_steps),
        T(scaffold_corrects_each_step_by_both_variates),
        T(probe_and_rest_are_the_whole_training_bit_for_bit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
