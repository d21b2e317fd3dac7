/* SPDX-License-Identifier: Apache-2.0 */
#include "server/aggregate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "accel/kernels/cpu.h"
#include "accel/kernels/sum_ops.h"
#include "common/mem.h"

#define FRACTION_MIN 16

#define SUM_MAX ((UINT64_C(1) << 63) - 513) /* the largest below 2^63 as a double too */
#define WEIGHTS_MAX (UINT64_C(1) << 53)     /* whole numbers that a double counts */

/* A value at the bound may be rounded up to the next whole unit; a bound that is NaN has no room. */
static uint64_t capacity(const struct sl_sum_bounds *b, uint32_t f)
{
    double unit = ceil(ldexp(b->max_abs, (int)f));
    if (!(unit >= 1 && unit < 0x1p63))
        return 0;
    uint64_t most = SUM_MAX / (uint64_t)unit;
    return most < WEIGHTS_MAX ? most : WEIGHTS_MAX;
}

enum sl_code sl_sum_bounds_fit(struct sl_sum_bounds *b, struct sl_err *err)
{
    uint32_t f = b->fraction_bits;
    while (f >= FRACTION_MIN && b->sum_weight > capacity(b, f))
        f--;
    if (f < FRACTION_MIN)
        return sl_err_set(err, SL_E_RANGE,
                          "bound %g times weights of %llu in all leave fewer than %d fraction bits "
                          "of 63 (lower aggregation.max_abs or the weights)",
                          b->max_abs, (unsigned long long)b->sum_weight, FRACTION_MIN);
    b->fraction_bits = f;
    return SL_OK;
}

uint64_t sl_sum_capacity(const struct sl_sum_bounds *b)
{
    return capacity(b, b->fraction_bits);
}

enum sl_code sl_sum_init(struct sl_sum *s, size_t n_values, const struct sl_sum_bounds *b,
                         struct sl_err *err)
{
    *s = (struct sl_sum){.n_values = n_values, .bounds = *b};
    s->q = sl_calloc(n_values, sizeof(*s->q));
    return s->q == NULL ? sl_err_set(err, SL_E_NOMEM, "sum of %zu values", n_values) : SL_OK;
}

void sl_sum_deinit(struct sl_sum *s)
{
    if (s == NULL)
        return;
    free(s->q);
    *s = (struct sl_sum){0};
}

void sl_sum_clear(struct sl_sum *s)
{
    memset(s->q, 0, s->n_values * sizeof(*s->q));
    s->n_sum = 0;
}

void sl_sum_add_tile(struct sl_sum *s, size_t offset, const float *x, size_t n, uint64_t weight,
                     double scale)
{
    const struct sl_sum_ops *ops = sl_sum_ops(sl_cpu_usable());
    double unit = ldexp(1.0, (int)s->bounds.fraction_bits);
    bool narrow = s->bounds.max_abs * unit < 0x1p51;
    (narrow ? ops->add : ops->add_wide)(s->q + offset, x, n, (int64_t)weight, scale, unit);
}

void sl_sum_count(struct sl_sum *s, uint64_t weight)
{
    s->n_sum += weight;
}

void sl_sum_mean_tile(const struct sl_sum *s, size_t offset, size_t n, float *ret)
{
    const struct sl_sum_ops *ops = sl_sum_ops(sl_cpu_usable());
    ops->mean(s->q + offset, n, (double)s->n_sum * ldexp(1.0, (int)s->bounds.fraction_bits), ret);
}

size_t sl_update_check(const float *x, size_t n, double scale, double max_abs)
{
    return sl_sum_ops(sl_cpu_usable())->check(x, n, scale, max_abs);
}

#define NORM_LANES 8

double sl_norm_square(const float *x, size_t n)
{
    double sum[NORM_LANES] = {0};
    for (size_t i = 0; i < n; i++)
        sum[i % NORM_LANES] += (double)x[i] * (double)x[i];
    return ((sum[0] + sum[4]) + (sum[2] + sum[6])) + ((sum[1] + sum[5]) + (sum[3] + sum[7]));
}
