/* SPDX-License-Identifier: Apache-2.0 */
/* The forms of ternary layers: learned, plain and binary. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "accel/accel.h"
#include "accel/nn/train.h"

#define SAMPLES 60
#define PIXELS 16

static struct sl_dataset set;

static int make_set(void **state)
{
    struct sl_dataset_source src = {
        .kind = "synthetic", .path = "height=4,width=4,classes=3,train=60,test=10"};
    struct sl_err err;
    return sl_dataset_load(&src, &set, &err) == SL_OK ? 0 : -1;
}

static int drop_set(void **state)
{
    sl_dataset_deinit(&set);
    return 0;
}

/* A model of one layer: values are weight [3, 16], gamma_w, beta_w, gamma_a, beta_a, bias
 * [3], in the order of the layout. */
struct bed {
    struct sl_model *m;
    struct sl_trainer *t;
    float *values;
};

static struct bed open_bed(enum sl_ternary_form form, bool conv)
{
    struct bed b = {0};
    struct sl_err err;
    struct sl_layer_spec l[2] = {
        sl_layer_default(SL_LAYER_FLATTEN),
        sl_layer_default(conv ? SL_LAYER_TERNARY_CONV2D : SL_LAYER_TERNARY_DENSE)};
    struct sl_layer_spec *t = &l[1];
    t->out = 3;
    t->form = form;
    if (conv) {
        t->kernel = 4; /* the whole image: flattening [3, 1, 1] comes after */
        t->stride = 1;
        struct sl_layer_spec flatten = l[0];
        l[0] = *t;
        l[1] = flatten;
    }
    struct sl_model_spec spec = {l, 2};
    struct sl_shape in = {3, {set.channels, set.height, set.width}};
    if (sl_model_new(&spec, &in, 3, SL_LOSS_SOFTMAX_CE, &b.m, &err) != SL_OK)
        fail_msg("%s", err.msg);
    struct sl_trainer_options o = {.max_batch = SAMPLES, .unit = &sl_matmul_rtn};
    assert_int_equal(sl_trainer_new(b.m, &o, &b.t, &err), SL_OK);
    b.values = calloc(sl_model_layout(b.m)->n_values, sizeof(float));
    sl_model_init_uniform(b.m, 5, b.values);
    return b;
}

static void close_bed(struct bed *b)
{
    sl_trainer_free(b->t);
    sl_model_free(b->m);
    free(b->values);
}

static float *tensor(const struct bed *b, const char *suffix)
{
    const struct sl_layout *l = sl_model_layout(b->m);
    for (size_t i = 0; i < l->n_tensors; i++)
        if (strstr(l->tensors[i].name, suffix) != NULL)
            return b->values + l->tensors[i].offset;
    fail_msg("no tensor %s", suffix);
    return NULL;
}

static double loss_of(const struct bed *b)
{
    struct sl_samples s = {&set, NULL, SAMPLES};
    struct sl_eval_result r;
    struct sl_err err;
    if (sl_evaluate(b->t, b->values, &s, &r, &err) != SL_OK)
        fail_msg("%s", err.msg);
    return r.loss_sum;
}

static void train(struct bed *b)
{
    struct sl_samples s = {&set, NULL, SAMPLES};
    struct sl_train_spec spec = {
        .lr = 0.05, .batch_size = 20, .epochs = 5, .local_steps = -1, .seed = 2};
    size_t n = sl_model_layout(b->m)->n_values;
    float *end = calloc(n, sizeof(float));
    struct sl_train_result r;
    struct sl_err err;
    if (sl_train(b->t, b->values, &s, &spec, end, &r, &err) != SL_OK)
        fail_msg("%s", err.msg);
    memcpy(b->values, end, n * sizeof(float));
    free(end);
}

static void set_scales(struct bed *b, float gamma_w, float beta_w, float gamma_a,
                       float beta_a)
{
    *tensor(b, "gamma_w") = gamma_w;
    *tensor(b, "beta_w") = beta_w;
    *tensor(b, "gamma_a") = gamma_a;
    *tensor(b, "beta_a") = beta_a;
}

/* --- plain ------------------------------------------------------------------------ */

static void plain_is_learned_with_the_scale_of_the_weights(void **state)
{
    for (int conv = 0; conv < 2; conv++) {
        struct bed learned = open_bed(SL_TERNARY_LEARNED, conv),
                   plain = open_bed(SL_TERNARY_PLAIN, conv);
        double want = loss_of(&learned); /* its scale starts at the weights' */
        assert_true(loss_of(&plain) == want);
        set_scales(&plain, 7, 1, 3, 2);
        assert_true(loss_of(&plain) == want);
        set_scales(&learned, 7, 1, 3, 2);
        assert_true(loss_of(&learned) != want);
        close_bed(&learned);
        close_bed(&plain);
    }
}

static void training_leaves_unused_scales_alone(void **state)
{
    static const enum sl_ternary_form forms[] = {SL_TERNARY_PLAIN, SL_TERNARY_BINARY};
    for (int i = 0; i < 4; i++) {
        struct bed b = open_bed(forms[i / 2], i % 2);
        set_scales(&b, 0.5f, 0.25f, 2.0f, -1.0f);
        double before = loss_of(&b);
        float w = *tensor(&b, "weight");
        train(&b);
        assert_true(*tensor(&b, "gamma_w") == 0.5f && *tensor(&b, "beta_w") == 0.25f);
        assert_true(*tensor(&b, "gamma_a") == 2.0f && *tensor(&b, "beta_a") == -1.0f);
        assert_true(*tensor(&b, "weight") != w);
        assert_true(loss_of(&b) < before);
        close_bed(&b);
    }
}

static void training_moves_learned_scales(void **state)
{
    struct bed b = open_bed(SL_TERNARY_LEARNED, false);
    set_scales(&b, 0.5f, 0.25f, 2.0f, -1.0f);
    train(&b);
    assert_true(*tensor(&b, "gamma_w") != 0.5f && *tensor(&b, "beta_a") != -1.0f);
    close_bed(&b);
}

/* --- binary ----------------------------------------------------------------------- */

static double sign(float v)
{
    return (v > 0) - (v < 0);
}

/* Cross-entropy of y = mean |w| sum sign(x) sign(w) + bias, from the definition. */
static double binary_loss(const struct bed *b)
{
    const float *w = tensor(b, "weight"), *bias = tensor(b, "bias");
    double scale = 0, loss = 0;
    for (size_t i = 0; i < 3 * PIXELS; i++)
        scale += fabs((double)w[i]) / (3 * PIXELS);
    for (uint32_t i = 0; i < SAMPLES; i++) {
        float x[PIXELS];
        int32_t label;
        double y[3], sum = 0;
        sl_dataset_gather(&set, &i, 1, x, &label);
        for (int o = 0; o < 3; o++) {
            y[o] = bias[o];
            for (int p = 0; p < PIXELS; p++)
                y[o] += scale * sign(x[p]) * sign(w[o * PIXELS + p]);
            sum += exp(y[o]);
        }
        loss += log(sum) - y[label];
    }
    return loss;
}

static void binary_multiplies_signs_by_the_mean_magnitude(void **state)
{
    for (int conv = 0; conv < 2; conv++) {
        struct bed b = open_bed(SL_TERNARY_BINARY, conv);
        double want = binary_loss(&b);
        assert_true(fabs(loss_of(&b) - want) < 1e-4 * want);
        train(&b);
        want = binary_loss(&b);
        assert_true(fabs(loss_of(&b) - want) < 1e-4 * want);
        close_bed(&b);
    }
}

int main(void)
{
    sl_accel_init();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_is_learned_with_the_scale_of_the_weights),
        cmocka_unit_test(training_leaves_unused_scales_alone),
        cmocka_unit_test(training_moves_learned_scales),
        cmocka_unit_test(binary_multiplies_signs_by_the_mean_magnitude),
    };
    return cmocka_run_group_tests(tests, make_set, drop_set);
}
