/* SPDX-License-Identifier: Apache-2.0 */
/* model_init.c - start values of a model by one of two rules; both draw one stream per
 * tensor, so a layer's values do not depend on what stands before it but for its number.
 */
#include "accel/nn/model.h"

#include <math.h>

#include "accel/nn/layer.h"
#include "accel/units/rtn.h"
#include "common/rng.h"

static void fill(float *v, size_t n, float value)
{
    for (size_t i = 0; i < n; i++)
        v[i] = value;
}

/* 0 for weights that are not finite: training says so itself. */
static float ternary_scale(const struct sl_tensor *weights, const float *values)
{
    size_t taps = weights->size / weights->dim[0];
    struct sl_rtn_weights w = {values + weights->offset, taps, weights->dim[0], 1, taps};
    struct sl_err ignored;
    float d, gamma;
    return sl_rtn_threshold(&w, &d, &gamma, &ignored) == SL_OK ? gamma : 0.0f;
}

/* Norms, running statistics and scales; false for tensors that are drawn. */
static bool init_constant(const struct sl_model *m, size_t t, float *ret_values)
{
    const struct sl_tensor *tensor = &m->layout.tensors[t];
    enum sl_tensor_init init = m->start[t].init;
    if (init == SL_TENSOR_TERNARY_SCALE) {
        fill(ret_values + tensor->offset, tensor->size,
             ternary_scale(tensor - 1, ret_values));
        return true;
    }
    if (init != SL_TENSOR_ONES && init != SL_TENSOR_ZEROS)
        return false;
    fill(ret_values + tensor->offset, tensor->size, init == SL_TENSOR_ONES ? 1.0f : 0.0f);
    return true;
}

void sl_model_init_uniform(const struct sl_model *m, uint64_t seed, float *ret_values)
{
    for (size_t t = 0; t < m->layout.n_tensors; t++) {
        const struct sl_tensor *tensor = &m->layout.tensors[t];
        struct sl_rng_id id = {
            .seed = seed, .purpose = SL_RNG_INIT, .tensor = (uint32_t)t};
        float bound = (float)(1.0 / sqrt((double)m->start[t].fan_in));
        struct sl_rng r;
        if (init_constant(m, t, ret_values))
            continue;
        sl_rng_init(&r, &id);
        for (size_t i = 0; i < tensor->size; i++)
            ret_values[tensor->offset + i] = (2.0f * sl_rng_f32(&r) - 1.0f) * bound;
    }
}

void sl_model_init_splitmix(const struct sl_model *m, uint64_t seed, double gain,
                            float *ret_values)
{
    for (size_t t = 0; t < m->layout.n_tensors; t++) {
        const struct sl_tensor *tensor = &m->layout.tensors[t];
        uint64_t state = (seed << 32) ^ ((uint64_t)t << 8) ^ 0xF1u;
        double scale = m->start[t].init == SL_TENSOR_UNIFORM_WEIGHT ? gain : 1.0;
        float bound = (float)(scale / sqrt((double)m->start[t].fan_in));
        if (init_constant(m, t, ret_values))
            continue;
        for (size_t i = 0; i < tensor->size; i++) {
            float u = (float)(sl_splitmix64(&state) >> 40) * 0x1p-24f;
            ret_values[tensor->offset + i] = (2.0f * u - 1.0f) * bound;
        }
    }
}
