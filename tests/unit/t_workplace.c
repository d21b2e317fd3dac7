/* SPDX-License-Identifier: Apache-2.0 */
/* A daemon holds its own rows only; what it makes of them must equal what comes from the
 * whole set. */
#include "client/workplace.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "accel/accel.h"
#include "client/local/local.h"
#include "common/mem.h"
#include "common/partition.h"

#define CLIENT 2

static const char plan_text[] =
    "run: {name: t, seed: 3, rounds: 4}\n"
    "data: {dataset: synthetic, partition: {kind: dirichlet, alpha: 0.5, clients: 4}}\n"
    "model: {name: tiny}\n"
    "train: {epochs: 2, batch_size: 16, lr: 0.1}\n"
    "selection: {clients_per_round: 2}\n"
    "evaluation: {where: both, holdout: 0.2}\n";

struct fixture {
    char dir[64];
    struct sl_client_store *store;
    struct sl_workplace_config config;
    struct sl_workplace *place;
    struct sl_model *model;
    float *start;
    size_t n;
    struct sl_client_job job;
    struct sl_client_result result;
    /* the whole set */
    struct sl_plan plan;
    struct sl_dataset set;
};

static int setup(void **state)
{
    struct sl_err err;
    struct fixture *f = calloc(1, sizeof *f);
    strcpy(f->dir, "/tmp/sl_workplace.XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    assert_int_equal(sl_client_store_files_open(f->dir, NULL, &f->store, &err), SL_OK);
    if (sl_plan_parse(plan_text, strlen(plan_text), "t", NULL, 0, &f->plan, &err) !=
        SL_OK)
        fail_msg("%s", err.msg);
    struct sl_dataset_source src = {.kind = "synthetic", .path = ""};
    assert_int_equal(sl_dataset_load(&src, &f->set, &err), SL_OK);
    struct sl_model_spec spec = {0};
    struct sl_shape shape = {3, {f->set.channels, f->set.height, f->set.width}};
    assert_int_equal(sl_model_spec_named("tiny", f->set.n_classes, &spec, &err), SL_OK);
    assert_int_equal(sl_model_new(&spec, &shape, f->set.n_classes, SL_LOSS_SOFTMAX_CE,
                                  &f->model, &err),
                     SL_OK);
    sl_model_spec_deinit(&spec);
    f->n = sl_model_layout(f->model)->n_values;
    f->start = sl_calloc(f->n, sizeof(float));
    sl_model_init_uniform(f->model, 1, f->start);
    f->config.store = f->store;
    assert_int_equal(sl_workplace_new(&f->config, &f->place, &err), SL_OK);
    f->job = (struct sl_client_job){
        .order = {.kind = SL_TASK_TRAIN,
                  .run_id = 6,
                  .round = 1,
                  .plan = {{{1}}, sizeof plan_text - 1},
                  .model = {{{2}}, f->n * sizeof(float)},
                  .evaluate = true},
        .plan_text = (const uint8_t *)plan_text,
        .plan_bytes = sizeof plan_text - 1,
        .model = f->start,
        .index = CLIENT,
    };
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    char cmd[128];
    sl_workplace_free(f->place);
    f->store->ops->close(f->store);
    snprintf(cmd, sizeof cmd, "rm -rf '%s'", f->dir);
    assert_int_equal(system(cmd), 0);
    sl_model_free(f->model);
    sl_dataset_deinit(&f->set);
    sl_plan_deinit(&f->plan);
    free(f->start);
    free(f);
    return 0;
}

static void do_job(struct fixture *f)
{
    sl_workplace_do(f->place, &f->job, &f->result);
    if (f->result.rc != SL_OK)
        fail_msg("%s", f->result.reason);
}

/* Training of the same client on indices into the whole set. */
static struct sl_update_meta train_whole(struct fixture *f, uint8_t *ret_update)
{
    struct sl_err err;
    struct sl_partition part = {0};
    struct sl_partition_input in = {
        .labels = f->set.labels, .n = f->set.n, .n_classes = f->set.n_classes, .seed = 3};
    assert_int_equal(sl_partition_make(&f->plan.data.partition, &in, &part, &err), SL_OK);
    size_t n, n_train, n_update;
    const uint32_t *row = sl_partition_client(&part, CLIENT, &n);
    uint32_t *split = sl_calloc(n, sizeof *split);
    sl_holdout_split(row, n, 0.2, 3, CLIENT, split, &n_train);
    struct sl_local_data data = {.set = &f->set,
                                 .train = split,
                                 .n_train = n_train,
                                 .holdout = split + n_train,
                                 .n_holdout = n - n_train};
    struct sl_local_order order = {.plan = &f->plan,
                                   .client = CLIENT,
                                   .round = 1,
                                   .local_steps = -1,
                                   .evaluate = true};
    struct sl_local_bench *b;
    struct sl_update_meta meta;
    const uint8_t *update;
    assert_int_equal(sl_local_bench_new(&f->plan, f->model, &b, &err), SL_OK);
    assert_int_equal(
        sl_local_train(b, &order, &data, f->start, &meta, &update, &n_update, &err),
        SL_OK);
    memcpy(ret_update, update, n_update);
    sl_local_bench_free(b);
    free(split);
    sl_partition_deinit(&part);
    return meta;
}

static void own_rows_give_the_same_bytes_as_the_whole_set(void **state)
{
    struct fixture *f = *state;
    struct sl_err err;
    size_t bytes = f->n * sizeof(float);
    uint8_t *want = sl_calloc(1, bytes), *got = sl_calloc(1, bytes);
    struct sl_update_meta meta = train_whole(f, want);
    do_job(f);
    const struct sl_kept_update *k = &f->result.kept;
    assert_int_equal(f->store->ops->update_read(f->store, 0, got, bytes, &err), SL_OK);
    assert_memory_equal(got, want, bytes);
    assert_int_equal(k->meta.weight, meta.weight);
    assert_true(k->meta.loss_sum == meta.loss_sum);
    assert_int_equal(k->meta.eval.samples, meta.eval.samples);
    assert_true(k->meta.eval.loss_sum == meta.eval.loss_sum);
    assert_int_equal(k->run_id, 6);
    assert_int_equal(k->round, 1);
    assert_int_equal(k->plan.bytes[0], 1);
    assert_int_equal(k->model.bytes[0], 2);
    free(want);
    free(got);
}

static void what_was_given_up_is_set_up_again_to_the_same_bytes(void **state)
{
    struct fixture *f = *state;
    do_job(f);
    struct sl_blob_id first = f->result.kept.blob.id;
    assert_false(sl_workplace_is_clear(f->place));
    assert_int_equal(sl_workplace_rounds(f->place), 4);
    sl_workplace_clear(f->place);
    assert_true(sl_workplace_is_clear(f->place));
    do_job(f);
    assert_memory_equal(&first, &f->result.kept.blob.id, sizeof first);
}

static void evaluation_counts_the_held_out_samples(void **state)
{
    struct fixture *f = *state;
    do_job(f);
    struct sl_eval_counts want = f->result.kept.meta.eval;
    f->job.order.kind = SL_TASK_EVALUATE;
    do_job(f);
    assert_int_equal(f->result.eval.samples, want.samples);
    assert_int_equal(f->result.eval.correct, want.correct);
}

static void index_without_a_row_is_a_clear_failure(void **state)
{
    struct fixture *f = *state;
    f->job.index = 4;
    sl_workplace_do(f->place, &f->job, &f->result);
    assert_int_equal(f->result.rc, SL_E_RANGE);
    assert_non_null(strstr(f->result.reason, "client 4"));
    assert_true(sl_workplace_is_clear(f->place));
}

static void model_of_another_size_is_a_clear_failure(void **state)
{
    struct fixture *f = *state;
    f->job.order.model.size -= 4;
    sl_workplace_do(f->place, &f->job, &f->result);
    assert_int_equal(f->result.rc, SL_E_INPUT);
    assert_non_null(strstr(f->result.reason, "received model"));
}

static void plan_that_cannot_be_read_is_a_clear_failure(void **state)
{
    struct fixture *f = *state;
    static const char garbage[] = "run: {rounds: -1}\n";
    f->job.plan_text = (const uint8_t *)garbage;
    f->job.plan_bytes = sizeof garbage - 1;
    sl_workplace_do(f->place, &f->job, &f->result);
    assert_int_not_equal(f->result.rc, SL_OK);
    assert_true(f->result.reason[0] != 0);
}

static void own_data_take_the_place_of_a_row(void **state)
{
    struct fixture *f = *state;
    struct sl_err err;
    uint64_t n;
    f->config.own = (struct sl_dataset_source){
        .kind = "synthetic",
        .path = "channels=1,height=28,width=28,classes=10,train=90,test=10,seed=8",
        .split = SL_SPLIT_TRAIN};
    assert_int_equal(sl_workplace_own_samples(&f->config, &n, &err), SL_OK);
    assert_int_equal(n, 90);
    sl_workplace_free(f->place);
    assert_int_equal(sl_workplace_new(&f->config, &f->place, &err), SL_OK);
    f->job.index = 1000; /* no row needed */
    do_job(f);
    assert_int_equal(f->result.kept.meta.weight, 72); /* a fifth is held out */
    assert_int_equal(f->result.kept.meta.eval.samples, 18);
}

int main(void)
{
    sl_accel_init();
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(own_rows_give_the_same_bytes_as_the_whole_set),
        T(what_was_given_up_is_set_up_again_to_the_same_bytes),
        T(evaluation_counts_the_held_out_samples),
        T(index_without_a_row_is_a_clear_failure),
        T(model_of_another_size_is_a_clear_failure),
        T(plan_that_cannot_be_read_is_a_clear_failure),
        T(own_data_take_the_place_of_a_row),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
