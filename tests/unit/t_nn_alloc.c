/* SPDX-License-Identifier: Apache-2.0 */
/* A training step takes no memory: the linker routes malloc, calloc, realloc and mmap
 * here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "accel/accel.h"
#include "accel/nn/train.h"

static size_t taken;

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__real_mmap(void *at, size_t n, int prot, int flags, int fd, off_t offset);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_mmap(void *at, size_t n, int prot, int flags, int fd, off_t offset);

void *__wrap_malloc(size_t n)
{
    taken++;
    return __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
    taken++;
    return __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n)
{
    taken++;
    return __real_realloc(p, n);
}

void *__wrap_mmap(void *at, size_t n, int prot, int flags, int fd, off_t offset)
{
    taken++;
    return __real_mmap(at, n, prot, flags, fd, offset);
}

static void check_model(const struct sl_dataset *set, const char *name,
                        const struct sl_matmul_unit *unit)
{
    struct sl_model_spec spec = {0};
    struct sl_shape in = {3, {set->channels, set->height, set->width}};
    struct sl_model *m = NULL;
    struct sl_trainer *t = NULL;
    struct sl_err err;
    struct sl_train_result r;
    struct sl_eval_result e;
    struct sl_samples s = {set, NULL, 60};
    struct sl_train_spec train = {.lr = 0.01,
                                  .momentum = 0.9,
                                  .mu = 0.1,
                                  .batch_size = 16,
                                  .epochs = 2,
                                  .local_steps = -1,
                                  .order = SL_ORDER_BENCH};
    assert_int_equal(sl_model_spec_named(name, set->n_classes, &spec, &err), SL_OK);
    assert_int_equal(
        sl_model_new(&spec, &in, set->n_classes, SL_LOSS_SOFTMAX_CE, &m, &err), SL_OK);
    float *start = sl_model_layout(m)->n_values > 0
                       ? calloc(sl_model_layout(m)->n_values, sizeof(float))
                       : NULL;
    sl_model_init_uniform(m, 1, start);
    assert_int_equal(
        sl_trainer_new(m, &(struct sl_trainer_options){.max_batch = 8, .unit = unit}, &t,
                       &err),
        SL_OK);
    size_t before = taken;
    assert_int_equal(sl_train_begin(t, start, &s, &train, &err), SL_OK);
    assert_true(taken > before); /* the count works: begin took room for the order */
    before = taken;
    enum sl_code rc = sl_train_run(t, UINT32_MAX, &r, &err);
    enum sl_code rc2 = sl_evaluate(t, start, &s, &e, &err);
    size_t after = taken;
    assert_int_equal(rc, SL_OK);
    assert_int_equal(rc2, SL_OK);
    assert_int_equal(after, before);
    sl_trainer_free(t);
    sl_model_free(m);
    sl_model_spec_deinit(&spec);
    free(start);
}

static void steps_and_evaluation_allocate_nothing(void **state)
{
    static const char *const names[] = {"tiny", "mlp",     "lenet",
                                        "cnn",  "pfl-cnn", "resnet8"};
    struct sl_dataset_source src = {.kind = "synthetic", .path = "train=60,test=10"};
    struct sl_dataset set = {0};
    struct sl_err err;
    assert_int_equal(sl_dataset_load(&src, &set, &err), SL_OK);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        for (size_t u = 0; u < 2; u++)
            check_model(&set, names[i], u == 0 ? &sl_matmul_fp32 : &sl_matmul_fast);
    sl_dataset_deinit(&set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_and_evaluation_allocate_nothing),
    };
    sl_accel_init();
    return cmocka_run_group_tests_name("nn_alloc", tests, NULL, NULL);
}
