/* SPDX-License-Identifier: Apache-2.0 */
/* lanes.h - 16 floats side by side, in whatever registers the file is compiled for.
 * For kernel bodies only. The compiler's vector type keeps the order of every operation.
 */
#ifndef SL_ACCEL_KERNELS_LANES_H
#define SL_ACCEL_KERNELS_LANES_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "accel/kernels/elem_ops.h"

typedef float lanes __attribute__((vector_size(SL_LANES * sizeof(float))));
typedef int32_t lane_bits __attribute__((vector_size(SL_LANES * sizeof(int32_t))));
typedef uint8_t lane_bytes __attribute__((vector_size(SL_LANES)));

static inline lanes lanes_load(const float *x)
{
    lanes v;
    memcpy(&v, x, sizeof(v));
    return v;
}

static inline void lanes_store(float *x, lanes v)
{
    memcpy(x, &v, sizeof(v));
}

/* a where mask is all ones, b where it is 0. */
static inline lanes lanes_pick(lane_bits mask, lanes a, lanes b)
{
    return (lanes)((mask & (lane_bits)a) | (~mask & (lane_bits)b));
}

/* All ones in the lanes below n. */
static inline lane_bits lanes_below(size_t n)
{
    const lane_bits number = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    return number < (int32_t)(n < SL_LANES ? n : SL_LANES);
}

/* The first n < SL_LANES of x, zeros behind them. */
static inline lanes lanes_load_part(const float *x, size_t n)
{
    float part[SL_LANES] = {0};
    for (size_t i = 0; i < n; i++)
        part[i] = x[i];
    return lanes_load(part);
}

/* Halves added to halves: lane i and i + 8, then i and i + 4, 2, 1. */
static inline float lanes_fold(lanes v)
{
    float a[SL_LANES];
    memcpy(a, &v, sizeof(a));
    for (size_t half = SL_LANES / 2; half > 0; half /= 2)
        for (size_t i = 0; i < half; i++)
            a[i] += a[i + half];
    return a[0];
}

static inline float lanes_sum(const float *x, size_t n)
{
    lanes acc = {0};
    size_t i = 0;
    for (; i + SL_LANES <= n; i += SL_LANES)
        acc += lanes_load(x + i);
    if (i < n)
        acc += lanes_load_part(x + i, n - i);
    return lanes_fold(acc);
}

#endif
