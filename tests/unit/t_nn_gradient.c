/* SPDX-License-Identifier: Apache-2.0 */
/* Every layer's gradients against central differences of its own forward pass. */
#include <math.h>
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
#include "accel/nn/net.h"

#define BATCH 3
#define STEP 1e-2f
#define PROBES 60

struct bed {
    struct sl_model *model;
    struct sl_arena arena;
    struct sl_net net;
    float *values, *grads, *x, *dy;
    bool train;
};

static void bed_open(struct bed *b, const struct sl_layer_spec *layers, size_t n,
                     struct sl_shape in, bool train)
{
    struct sl_model_spec spec = {(struct sl_layer_spec *)layers, n};
    struct sl_taker cost = {0};
    struct sl_err err;
    struct sl_rng r;
    sl_rng_init(&r, &(struct sl_rng_id){.seed = 5, .purpose = SL_RNG_TEST});
    *b = (struct bed){.train = train};
    if (sl_model_build(&spec, &in, &b->model, &err) != SL_OK)
        fail_msg("%s", err.msg);
    sl_net_plan(&b->net, b->model, BATCH, &sl_matmul_fp32, sl_cpu_detect(), &cost);
    assert_true(sl_arena_init(&b->arena, cost.bytes));
    sl_net_plan(&b->net, b->model, BATCH, &sl_matmul_fp32, sl_cpu_detect(),
                &(struct sl_taker){.arena = &b->arena});
    b->values = calloc(b->model->layout.n_values + 1, sizeof(float));
    b->grads = calloc(b->model->n_params + 1, sizeof(float));
    b->x = calloc(BATCH * b->model->input_size, sizeof(float));
    b->dy = calloc(BATCH * b->model->output_size, sizeof(float));
    for (size_t i = 0; i < b->model->layout.n_values; i++)
        b->values[i] = 0.3f + 0.6f * sl_rng_f32(&r);
    for (size_t i = 0; i < b->model->n_params; i += 2)
        b->values[i] -= 0.9f;
    /* inputs apart by more than a step, none near 0: no difference crosses a kink */
    size_t size = BATCH * b->model->input_size;
    uint32_t *place = calloc(size, sizeof(*place));
    for (size_t i = 0; i < size; i++)
        place[i] = (uint32_t)i;
    sl_rng_shuffle_u32(&r, place, size);
    float gap = fmaxf(4.0f / (float)size, 3.0f * STEP);
    for (size_t i = 0; i < size; i++)
        b->x[i] = ((float)place[i] - (float)size / 2.0f + 0.5f) * gap;
    free(place);
    for (size_t i = 0; i < BATCH * b->model->output_size; i++)
        b->dy[i] = 2.0f * sl_rng_f32(&r) - 1.0f;
}

static void bed_close(struct bed *b)
{
    sl_model_free(b->model);
    sl_arena_deinit(&b->arena);
    free(b->values);
    free(b->grads);
    free(b->x);
    free(b->dy);
}

static struct sl_pass_ctx pass_of(struct bed *b)
{
    struct sl_pass_ctx c = sl_net_pass(&b->net, b->values);
    c.train = b->train;
    c.grads = b->grads;
    c.n = BATCH;
    c.draw = (struct sl_rng_id){.seed = 3, .client = 1};
    return c;
}

static double loss_of(struct bed *b)
{
    struct sl_pass_ctx c = pass_of(b);
    const float *y = sl_net_forward(&c, b->x);
    double sum = 0.0;
    for (size_t i = 0; i < BATCH * b->model->output_size; i++)
        sum += (double)y[i] * (double)b->dy[i];
    return sum;
}

/* (f(v + h) - f(v - h)) / 2h at one value. */
static double difference(struct bed *b, float *at)
{
    float old = *at, up = old + STEP, down = old - STEP;
    *at = up;
    double high = loss_of(b);
    *at = down;
    double low = loss_of(b);
    *at = old;
    return (high - low) / ((double)up - (double)down);
}

static void compare(struct bed *b, const char *name, const char *what, float *v,
                    const float *gradient, size_t n)
{
    size_t stride = n / PROBES + 1;
    double scale = 0.0;
    for (size_t i = 0; i < n; i++)
        scale = fmax(scale, fabs((double)gradient[i]));
    for (size_t i = 0; i < n; i += stride) {
        double want = difference(b, &v[i]), got = (double)gradient[i];
        if (!(fabs(want - got) <= 4e-3 * (0.1 + scale)))
            fail_msg("%s: %s[%zu]: difference %g, gradient %g (largest %g)", name, what,
                     i, want, got, scale);
    }
}

static void check(const char *name, const struct sl_layer_spec *layers, size_t n,
                  struct sl_shape in, bool train)
{
    struct bed b;
    bed_open(&b, layers, n, in, train);
    struct sl_pass_ctx c = pass_of(&b);
    size_t in_n = BATCH * b.model->input_size, out_n = BATCH * b.model->output_size;
    float *dx = calloc(in_n, sizeof(*dx));
    sl_net_forward(&c, b.x);
    memcpy(sl_net_output_gradient(&b.net), b.dy, out_n * sizeof(float));
    memcpy(dx, sl_net_backward(&c, b.x, true), in_n * sizeof(*dx));
    compare(&b, name, "dx", b.x, dx, in_n);
    compare(&b, name, "grads", b.values, b.grads, b.model->n_params);

    /* a second time on top: twice the gradient */
    float *once = calloc(b.model->n_params + 1, sizeof(*once));
    memcpy(once, b.grads, b.model->n_params * sizeof(*once));
    c.accumulate = true;
    sl_net_forward(&c, b.x);
    memcpy(sl_net_output_gradient(&b.net), b.dy, out_n * sizeof(float));
    sl_net_backward(&c, b.x, false);
    for (size_t i = 0; i < b.model->n_params; i++)
        if (fabsf(b.grads[i] - 2.0f * once[i]) > 1e-4f * (1.0f + fabsf(once[i])))
            fail_msg("%s: grads[%zu] accumulated to %g, once %g", name, i,
                     (double)b.grads[i], (double)once[i]);
    free(once);
    free(dx);
    bed_close(&b);
}

static struct sl_layer_spec layer(enum sl_layer_kind kind)
{
    return sl_layer_default(kind);
}

static struct sl_layer_spec dense(uint32_t out)
{
    struct sl_layer_spec l = layer(SL_LAYER_DENSE);
    l.out = out;
    return l;
}

static struct sl_layer_spec conv(uint32_t out, uint32_t kernel, uint32_t stride,
                                 uint32_t pad)
{
    struct sl_layer_spec l = layer(SL_LAYER_CONV2D);
    l.out = out;
    l.kernel = kernel;
    l.stride = stride;
    l.pad = pad;
    return l;
}

static struct sl_layer_spec pool(enum sl_layer_kind kind, uint32_t kernel,
                                 uint32_t stride, uint32_t pad)
{
    struct sl_layer_spec l = layer(kind);
    l.kernel = kernel;
    l.stride = stride;
    l.pad = pad;
    return l;
}

static const struct sl_shape image = {3, {3, 9, 8}}, deep = {3, {16, 6, 7}};
static const struct sl_shape row = {1, {11}}, tokens = {2, {5, 8}};

static void dense_gradients_hold(void **state)
{
    struct sl_layer_spec l = dense(6);
    check("dense", &l, 1, row, true);
    check("dense on tokens", &l, 1, tokens, true);
    l.bias = false;
    check("dense without bias", &l, 1, row, true);
}

static void conv_gradients_hold_in_both_forms(void **state)
{
    const struct sl_layer_spec kinds[] = {
        conv(4, 3, 1, 0), conv(4, 5, 1, 2), conv(4, 3, 2, 1), conv(3, 1, 1, 0),
        conv(3, 1, 2, 0), conv(2, 4, 3, 2), conv(2, 2, 1, 1)};
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        char name[32];
        snprintf(name, sizeof(name), "conv %zu", i);
        check(name, &kinds[i], 1, image, true);
        snprintf(name, sizeof(name), "conv %zu, 16 channels", i);
        check(name, &kinds[i], 1, deep, true);
    }
    struct sl_layer_spec l = conv(4, 3, 1, 1);
    l.bias = false;
    check("conv without bias", &l, 1, image, true);
}

static void pool_gradients_hold(void **state)
{
    const struct sl_layer_spec kinds[] = {
        pool(SL_LAYER_MAXPOOL, 2, 2, 0), pool(SL_LAYER_MAXPOOL, 3, 2, 1),
        pool(SL_LAYER_MAXPOOL, 3, 1, 0), pool(SL_LAYER_AVGPOOL, 2, 2, 0),
        pool(SL_LAYER_AVGPOOL, 3, 2, 0), pool(SL_LAYER_AVGPOOL, 0, 0, 0)};
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        check("pool", &kinds[i], 1, image, true);
}

static void elementwise_gradients_hold(void **state)
{
    const enum sl_layer_kind kinds[] = {SL_LAYER_RELU, SL_LAYER_GELU_ERF,
                                        SL_LAYER_GELU_TANH, SL_LAYER_FLATTEN};
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        struct sl_layer_spec l = layer(kinds[i]);
        check(sl_layer_kind_name(kinds[i]), &l, 1, image, true);
    }
    struct sl_layer_spec drop = layer(SL_LAYER_DROPOUT);
    drop.rate = 0.4f;
    check("dropout", &drop, 1, image, true);
    check("dropout in evaluation", &drop, 1, image, false);
}

static void norm_gradients_hold(void **state)
{
    struct sl_layer_spec l = layer(SL_LAYER_LAYERNORM);
    check("layernorm", &l, 1, tokens, true);
    l = layer(SL_LAYER_GROUPNORM);
    for (l.groups = 1; l.groups <= 3; l.groups += 2)
        check("groupnorm", &l, 1, image, true);
    l = layer(SL_LAYER_BATCHNORM);
    check("batchnorm", &l, 1, image, true);
    check("batchnorm in evaluation", &l, 1, image, false);
    check("batchnorm of a row", &l, 1, row, true);
}

static void attention_gradients_hold(void **state)
{
    struct sl_layer_spec l[2] = {layer(SL_LAYER_MHSA), layer(SL_LAYER_MEAN_TOKENS)};
    l[0].heads = 2;
    check("mhsa", l, 1, tokens, true);
    l[0].causal = true;
    check("causal mhsa", l, 1, tokens, true);
    check("mhsa and mean", l, 2, tokens, true);
    check("mean_tokens", l + 1, 1, tokens, true);
}

static void residual_gradients_hold(void **state)
{
    struct sl_layer_spec l[12];
    size_t n = 0;
    l[n++] = conv(4, 3, 1, 1);
    l[n++] = layer(SL_LAYER_RESIDUAL);
    l[n++] = layer(SL_LAYER_GELU_ERF);
    l[n++] = conv(4, 3, 1, 1);
    l[1].n_body = 2;
    check("identity shortcut", l, n, image, true);
    check("residual first", l + 1, n - 1, (struct sl_shape){3, {4, 5, 5}}, true);

    n = 0;
    l[n++] = layer(SL_LAYER_RESIDUAL);
    l[n++] = conv(5, 3, 2, 1);
    l[n++] = layer(SL_LAYER_RESIDUAL);
    l[n++] = layer(SL_LAYER_GELU_TANH);
    l[n++] = conv(5, 3, 1, 1);
    l[n++] = layer(SL_LAYER_GELU_ERF);
    l[n++] = conv(5, 1, 2, 0);
    l[n++] = layer(SL_LAYER_FLATTEN);
    l[n++] = dense(4);
    l[0].n_body = 4 + 1;
    l[0].n_shortcut = 1;
    l[2].n_body = 2;
    check("projected shortcut, nested", l, n, image, true);
}

static void a_whole_net_with_layers_in_place_holds(void **state)
{
    const struct sl_layer_spec l[] = {conv(4, 3, 1, 1),
                                      layer(SL_LAYER_GELU_ERF),
                                      pool(SL_LAYER_AVGPOOL, 2, 2, 0),
                                      layer(SL_LAYER_FLATTEN),
                                      dense(7),
                                      layer(SL_LAYER_DROPOUT),
                                      layer(SL_LAYER_GELU_TANH),
                                      dense(5)};
    struct sl_layer_spec with_rate[sizeof(l) / sizeof(l[0])];
    memcpy(with_rate, l, sizeof(l));
    with_rate[5].rate = 0.3f;
    check("net", with_rate, sizeof(l) / sizeof(l[0]), image, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dense_gradients_hold),
        cmocka_unit_test(conv_gradients_hold_in_both_forms),
        cmocka_unit_test(pool_gradients_hold),
        cmocka_unit_test(elementwise_gradients_hold),
        cmocka_unit_test(norm_gradients_hold),
        cmocka_unit_test(attention_gradients_hold),
        cmocka_unit_test(residual_gradients_hold),
        cmocka_unit_test(a_whole_net_with_layers_in_place_holds),
    };
    sl_accel_init();
    return cmocka_run_group_tests_name("nn_gradient", tests, NULL, NULL);
}
