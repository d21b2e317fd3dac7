/* SPDX-License-Identifier: Apache-2.0 */
/* order_body.h - the definition of order_ops.h, compiled once an instruction set. */
#include "accel/kernels/order_ops.h"

#define LANES 8

static void exchange(float *restrict a, float *restrict b, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float x = a[i], y = b[i];
        a[i] = y < x ? y : x;
        b[i] = y < x ? x : y;
    }
}

static double distance(const float *restrict a, const float *restrict b, size_t n)
{
    double sum[LANES] = {0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (size_t l = 0; l < LANES; l++) {
            double d = (double)a[i + l] - (double)b[i + l];
            sum[l] += d * d;
        }
    for (size_t l = 0; i + l < n; l++) {
        double d = (double)a[i + l] - (double)b[i + l];
        sum[l] += d * d;
    }
    return ((sum[0] + sum[4]) + (sum[2] + sum[6])) + ((sum[1] + sum[5]) + (sum[3] + sum[7]));
}
