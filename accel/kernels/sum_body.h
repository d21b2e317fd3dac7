/* SPDX-License-Identifier: Apache-2.0 */
/* sum_body.h - the definition of the sum's kernels, compiled once an instruction set.
 * Rounding: adding 1.5 * 2^52 to a double below 2^51 leaves its nearest integer, half to even, in the
 * low bits of the significand; subtracting the constant's bits gives it as int64. */
#include <math.h>
#include <string.h>

#include "accel/kernels/sum_ops.h"

#define MAGIC 6755399441055744.0 /* 1.5 * 2^52 */

static void add(int64_t *restrict q, const float *restrict x, size_t n, int64_t weight,
                double scale, double unit)
{
    int64_t magic_bits;
    const double magic = MAGIC;
    memcpy(&magic_bits, &magic, sizeof(magic_bits));
    for (size_t i = 0; i < n; i++) {
        double y = ((double)x[i] * scale) * unit + magic;
        int64_t bits;
        memcpy(&bits, &y, sizeof(bits));
        q[i] += weight * (bits - magic_bits);
    }
}

static void add_wide(int64_t *restrict q, const float *restrict x, size_t n, int64_t weight,
                     double scale, double unit)
{
    for (size_t i = 0; i < n; i++)
        q[i] += weight * (int64_t)rint(((double)x[i] * scale) * unit);
}

static void mean(const int64_t *restrict q, size_t n, double divisor, float *restrict ret)
{
    for (size_t i = 0; i < n; i++)
        ret[i] = (float)((double)q[i] / divisor);
}

static int bad(float x, double scale, double max_abs)
{
    return !(fabs((double)x * scale) <= max_abs); /* NaN and infinities are bad */
}

#define CHECK_BLOCK 256

static size_t check(const float *x, size_t n, double scale, double max_abs)
{
    size_t i = 0;
    for (; i + CHECK_BLOCK <= n; i += CHECK_BLOCK) {
        int any = 0;
        for (size_t j = 0; j < CHECK_BLOCK; j++)
            any |= bad(x[i + j], scale, max_abs);
        if (any)
            break;
    }
    while (i < n && !bad(x[i], scale, max_abs))
        i++;
    return i;
}
