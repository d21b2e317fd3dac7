/* SPDX-License-Identifier: Apache-2.0 */
/* model_init.c - start values of a model by one of two rules; both draw one stream per
 * tensor, so a layer's values do not depend on what stands before it but for its number.
 */
#include "accel/nn/model.h"

#include <math.h>
#include <stdlib.h>

#include "accel/nn/layer.h"
#include "accel/units/rtn.h"
#include "common/mem.h"
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

/* Norms, running statistics and scales, and a head, which is left as it is; false for tensors that
 * are drawn. */
static bool init_constant(const struct sl_model *m, size_t t, float *ret_values)
{
    const struct sl_tensor *tensor = &m->layout.tensors[t];
    enum sl_tensor_init init = m->start[t].init;
    if (init == SL_TENSOR_TERNARY_SCALE) {
        fill(ret_values + tensor->offset, tensor->size,
             ternary_scale(tensor - 1, ret_values));
        return true;
    }
    if (init == SL_TENSOR_ORTHONORMAL)
        return true;
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

static double dot(const double *a, const double *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

/* Makes row r of w [.., width] orthogonal to those before it and gives it length 1. */
static void orthonormalise(double *w, size_t r, size_t width)
{
    double *row = w + r * width;
    for (unsigned turn = 0; turn < 2; turn++)
        for (size_t before = 0; before < r; before++) {
            double along = dot(row, w + before * width, width);
            for (size_t i = 0; i < width; i++)
                row[i] -= along * w[before * width + i];
        }
    double length = sqrt(dot(row, row, width));
    for (size_t i = 0; i < width; i++)
        row[i] /= length;
}

enum sl_code sl_model_init_head(const struct sl_model *m, uint64_t seed, float *ret_values,
                                struct sl_err *err)
{
    struct sl_head_info h;
    if (!sl_model_head(m, &h) || !h.fixed)
        return SL_OK;
    double *w = sl_calloc(h.classes * h.width, sizeof(*w));
    if (w == NULL)
        return sl_err_set(err, SL_E_NOMEM, "head of %zu values", h.classes * h.width);
    for (size_t r = 0; r < h.classes; r++) {
        struct sl_rng_id id = {
            .seed = seed, .purpose = SL_RNG_HEAD, .tensor = (uint32_t)r};
        struct sl_rng rng;
        sl_rng_init(&rng, &id);
        for (size_t i = 0; i < h.width; i++)
            w[r * h.width + i] = sl_rng_normal(&rng);
        orthonormalise(w, r, h.width);
    }
    for (size_t i = 0; i < h.classes * h.width; i++)
        ret_values[h.weight + i] = (float)w[i];
    free(w);
    return SL_OK;
}

enum sl_code sl_model_check_head(const struct sl_model *m, const float *values,
                                 struct sl_err *err)
{
    struct sl_head_info h;
    if (!sl_model_head(m, &h) || !h.fixed)
        return SL_OK;
    const float *w = values + h.weight;
    for (size_t a = 0; a < h.classes; a++)
        for (size_t b = 0; b <= a; b++) {
            double sum = 0, want = a == b;
            for (size_t i = 0; i < h.width; i++)
                sum += (double)w[a * h.width + i] * (double)w[b * h.width + i];
            if (!(fabs(sum - want) <= SL_HEAD_ORTHONORMAL))
                return sl_err_set(err, SL_E_INPUT,
                                  "head: rows %zu and %zu have the product %g (%g within %g "
                                  "allowed)", b, a, sum, want, SL_HEAD_ORTHONORMAL);
        }
    return SL_OK;
}
