/* SPDX-License-Identifier: Apache-2.0 */
/* What an attacker's update is, against the honest one of the same client and round. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/mem.h"
#include "sim/attack/attack.h"
#include "sim/training.h"

#define ATTACKERS 3
#define CLIENTS 6

#define PLAN                                                                             \
    "run: {name: attack, seed: 3, rounds: 2}\n"                                          \
    "data:\n"                                                                            \
    "  dataset: synthetic\n"                                                             \
    "  path: \"height=6,width=6,classes=4,train=240,test=40\"\n"                         \
    "  partition: {kind: iid, clients: 6}\n"                                             \
    "model: {name: tiny}\n"                                                              \
    "train: {epochs: 2, batch_size: 8, lr: 0.1}\n"

/* A bench with a plan on it, and a place for one update. */
struct rig {
    struct sl_plan plan;
    struct sl_training *training;
    struct sl_vfile file;
    float *start; /* [n] */
    size_t n;
};

static void rig_init(struct rig *r, const char *more, const struct sl_attack *attack)
{
    struct sl_err err;
    char text[1024];
    snprintf(text, sizeof(text), "%s%s", PLAN, more);
    if (sl_plan_parse(text, strlen(text), "plan", NULL, 0, &r->plan, &err) != SL_OK ||
        sl_training_new(&r->plan, 1, &r->training, &err) != SL_OK)
        fail_msg("%s", err.msg);
    const struct sl_model *m = sl_training_model(r->training);
    r->n = sl_model_layout(m)->n_values;
    r->start = sl_calloc(r->n, sizeof(float));
    sl_model_init_uniform(m, 5, r->start);
    assert_int_equal(
        sl_vfile_init(&r->file, sl_training_update_bytes(r->training), &err), SL_OK);
    if (attack != NULL && sl_training_attack(r->training, attack, &err) != SL_OK)
        fail_msg("%s", err.msg);
}

static void rig_deinit(struct rig *r)
{
    sl_training_free(r->training);
    sl_vfile_deinit(&r->file);
    sl_plan_deinit(&r->plan);
    free(r->start);
}

/* The client's update of round 1, new memory; fp32, which is floats as they are. */
static float *update_of(struct rig *r, uint32_t client, struct sl_update_meta *ret_meta)
{
    struct sl_training_result result;
    struct sl_training_task task = {.client = client,
                                    .round = 1,
                                    .train = true,
                                    .model = r->start,
                                    .file = &r->file,
                                    .staged = SL_VFILE_NONE};
    struct sl_err err;
    assert_int_equal(sl_vfile_take(&r->file, &task.region, &err), SL_OK);
    sl_training_do(r->training, 0, &task, &result);
    if (result.rc != SL_OK)
        fail_msg("%s", result.err.msg);
    float *update = sl_calloc(r->n, sizeof(float));
    assert_int_equal(result.blob.size, r->n * sizeof(float));
    assert_int_equal(sl_vfile_read(&r->file, task.region, (uint8_t *)update,
                                   r->n * sizeof(float), &err),
                     SL_OK);
    sl_vfile_give(&r->file, task.region);
    *ret_meta = result.meta;
    return update;
}

static struct sl_attack attack_of(const char *name)
{
    const struct sl_attack_ops *ops = sl_attack_find(name);
    assert_non_null(ops);
    return (struct sl_attack){.ops = ops, .n = ATTACKERS, .strength = ops->strength};
}

static void a_flipped_sign_is_the_honest_update_the_other_way_five_times(void **state)
{
    struct sl_attack attack = attack_of("sign-flip");
    struct rig honest = {0}, hostile = {0};
    struct sl_update_meta a, b;
    rig_init(&honest, "", NULL);
    rig_init(&hostile, "", &attack);
    float *x = update_of(&honest, 1, &a), *y = update_of(&hostile, 1, &b);
    double length = 0;
    for (size_t i = 0; i < honest.n; i++) {
        assert_true(y[i] == -5 * x[i]);
        length += (double)x[i] * x[i];
    }
    assert_true(length > 0);
    /* what is said about it is what an honest client says */
    assert_int_equal(a.weight, b.weight);
    assert_int_equal(a.steps, b.steps);
    assert_true(a.loss_sum == b.loss_sum);
    free(x);
    free(y);
    rig_deinit(&honest);
    rig_deinit(&hostile);
}

static void who_is_no_attacker_sends_what_it_should(void **state)
{
    static const char *const names[] = {"sign-flip", "label-flip", "scaling", "little"};
    struct rig honest = {0};
    struct sl_update_meta meta;
    rig_init(&honest, "", NULL);
    float *x = update_of(&honest, ATTACKERS, &meta);
    for (size_t i = 0; i < 4; i++) {
        struct sl_attack attack = attack_of(names[i]);
        struct rig hostile = {0};
        rig_init(&hostile, "", &attack);
        float *attacker = update_of(&hostile, 0, &meta);
        float *y = update_of(&hostile, ATTACKERS, &meta);
        assert_memory_equal(x, y, honest.n * sizeof(float));
        assert_memory_not_equal(attacker, y, honest.n * sizeof(float));
        free(attacker);
        free(y);
        rig_deinit(&hostile);
    }
    free(x);
    rig_deinit(&honest);
}

/* Labels flipped at the client's own, against the same training on a set whose labels
 * were flipped by the test. */
static void flipped_labels_are_what_the_attacker_learns(void **state)
{
    struct sl_attack attack = attack_of("label-flip");
    struct rig honest = {0}, hostile = {0};
    struct sl_update_meta a, b;
    rig_init(&honest, "", NULL);
    rig_init(&hostile, "", &attack);
    const struct sl_dataset *set = sl_training_set(honest.training);
    float *right = update_of(&honest, 2, &a);
    for (size_t i = 0; i < set->n; i++)
        set->labels[i] = 3 - set->labels[i];
    float *x = update_of(&honest, 2, &a), *y = update_of(&hostile, 2, &b);
    assert_memory_equal(x, y, honest.n * sizeof(float));
    assert_memory_not_equal(x, right, honest.n * sizeof(float));
    free(right);
    free(x);
    free(y);
    rig_deinit(&honest);
    rig_deinit(&hostile);
}

static void a_scaled_update_is_that_of_flipped_labels_ten_times(void **state)
{
    struct sl_attack flip = attack_of("label-flip"), scale = attack_of("scaling");
    struct rig a = {0}, b = {0};
    struct sl_update_meta meta;
    rig_init(&a, "", &flip);
    rig_init(&b, "", &scale);
    float *x = update_of(&a, 0, &meta), *y = update_of(&b, 0, &meta);
    for (size_t i = 0; i < a.n; i++)
        assert_true(y[i] == 10 * x[i]);
    free(x);
    free(y);
    rig_deinit(&a);
    rig_deinit(&b);
}

static void a_little_is_the_attackers_mean_less_their_deviation(void **state)
{
    struct sl_attack attack = attack_of("little");
    struct rig honest = {0}, hostile = {0};
    struct sl_update_meta meta;
    rig_init(&honest, "", NULL);
    rig_init(&hostile, "", &attack);
    float *x[ATTACKERS], *first = update_of(&hostile, 0, &meta),
                         *second = update_of(&hostile, 1, &meta);
    for (uint32_t k = 0; k < ATTACKERS; k++)
        x[k] = update_of(&honest, k, &meta);
    for (size_t i = 0; i < honest.n; i++) {
        double mean = 0, square = 0;
        for (uint32_t k = 0; k < ATTACKERS; k++)
            mean += (double)x[k][i] / ATTACKERS;
        for (uint32_t k = 0; k < ATTACKERS; k++)
            square += (x[k][i] - mean) * (x[k][i] - mean);
        double want = mean - 1.5 * sqrt(square / ATTACKERS);
        assert_true(fabs(first[i] - want) < 1e-6);
    }
    assert_memory_equal(first, second, honest.n * sizeof(float)); /* all send the same */
    for (uint32_t k = 0; k < ATTACKERS; k++)
        free(x[k]);
    free(first);
    free(second);
    rig_deinit(&honest);
    rig_deinit(&hostile);
}

static void an_attack_that_does_not_go_with_the_plan_is_refused(void **state)
{
    struct sl_attack attack = attack_of("sign-flip");
    struct rig r = {0};
    struct sl_err err;
    assert_null(sl_attack_find("sign-flop"));
    rig_init(&r, "", NULL);
    attack.n = CLIENTS + 1;
    assert_int_equal(sl_training_attack(r.training, &attack, &err), SL_E_INPUT);
    assert_string_equal(err.msg, "7 attackers of 6 clients");
    rig_deinit(&r);
    r = (struct rig){0};
    attack.n = 1;
    rig_init(&r, "strategy: {name: scaffold}\n", NULL);
    assert_int_equal(sl_training_attack(r.training, &attack, &err), SL_E_INPUT);
    rig_deinit(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_flipped_sign_is_the_honest_update_the_other_way_five_times),
        cmocka_unit_test(who_is_no_attacker_sends_what_it_should),
        cmocka_unit_test(flipped_labels_are_what_the_attacker_learns),
        cmocka_unit_test(a_scaled_update_is_that_of_flipped_labels_ten_times),
        cmocka_unit_test(a_little_is_the_attackers_mean_less_their_deviation),
        cmocka_unit_test(an_attack_that_does_not_go_with_the_plan_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
