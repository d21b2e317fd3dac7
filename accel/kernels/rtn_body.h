/* SPDX-License-Identifier: Apache-2.0 */
/* rtn_body.h - definition of the ternary kernels, compiled once an instruction set;
 * OPS_NAME is the table it makes. The file that includes it defines what turns a word's
 * worth of values into bits, selects by bits, and dots(), the block of products. */
#include <string.h>

#include "accel/kernels/rtn_ops.h"

struct word {
    uint64_t flag, sign, clip;
    bool nan;
};

/* Of 64 values. */
static inline struct word word_of(const float *x, float d);
static inline struct word word_of_bytes(const int8_t *t);
/* y[i] = bit i of a ? (bit i of b ? p : m) : z, for 64 values. */
static inline void select3(uint64_t a, uint64_t b, float p, float m, float z, float *y);
/* y[i] = bit i ? f g[i] : +0, for 64 values. */
static inline void select_scaled(uint64_t bits, float f, const float *g, float *y);
static void dots(size_t m, size_t n, size_t words, const uint64_t *a_flag,
                 const uint64_t *a_sign, const uint64_t *packed, int32_t *d, size_t ldd);

static bool ternarise(const float *x, size_t n, float d, uint64_t *flag, uint64_t *sign,
                      uint64_t *clip)
{
    bool nan = false;
    for (size_t i = 0; i < n; i += 64) {
        float rest[64] = {0};
        const float *from = x + i;
        if (n - i < 64) {
            memcpy(rest, from, (n - i) * sizeof(*rest));
            from = rest;
        }
        struct word w = word_of(from, d);
        if (n - i < 64)
            w.clip &= (UINT64_C(1) << (n - i)) - 1;
        flag[i / 64] = w.flag;
        sign[i / 64] = w.sign;
        if (clip != NULL)
            clip[i / 64] = w.clip;
        nan |= w.nan;
    }
    return !nan;
}

static void pack_bytes(const int8_t *t, size_t n, uint64_t *flag, uint64_t *sign)
{
    for (size_t i = 0; i < n; i += 64) {
        int8_t rest[64] = {0};
        const int8_t *from = t + i;
        if (n - i < 64) {
            memcpy(rest, from, n - i);
            from = rest;
        }
        struct word w = word_of_bytes(from);
        flag[i / 64] = w.flag;
        sign[i / 64] = w.sign;
    }
}

static void decode(const uint64_t *flag, const uint64_t *sign, size_t n,
                   const float level[3], float *y)
{
    size_t i = 0;
    for (; i + 64 <= n; i += 64)
        select3(flag[i / 64], sign[i / 64], level[2], level[0], level[1], y + i);
    for (; i < n; i++) {
        uint64_t f = flag[i / 64] >> i % 64 & 1, s = sign[i / 64] >> i % 64 & 1;
        y[i] = level[f == 0 ? 1 : 2 * s];
    }
}

static void clip_grad(const uint64_t *mask, float gamma, const float *g, size_t n,
                      float *dx)
{
    size_t i = 0;
    for (; i + 64 <= n; i += 64)
        select_scaled(mask[i / 64], gamma, g + i, dx + i);
    for (; i < n; i++)
        dx[i] = (mask[i / 64] >> i % 64 & 1) != 0 ? gamma * g[i] : 0.0f;
}

/* Twice the number of +1 less the number of values that are not 0. */
static int32_t sum(const uint64_t *flag, const uint64_t *sign, size_t words)
{
    int32_t s = 0;
    for (size_t j = 0; j < words; j++)
        s += 2 * __builtin_popcountll(flag[j] & sign[j]) - __builtin_popcountll(flag[j]);
    return s;
}

static inline float combine(const struct sl_rtn_affine *f, int32_t d, int32_t sum_a,
                            int32_t sum_w, int32_t count)
{
    float r = f->dot * (float)d;
    r += f->sum_a * (float)sum_a;
    r += f->sum_w * (float)sum_w;
    r += f->count * (float)count;
    return r;
}

static void combine_line(size_t n, const int32_t *d, int32_t sum_a, const int32_t *sum_w,
                         int32_t count, const struct sl_rtn_affine *affine,
                         const float *bias, float *r)
{
    if (bias == NULL)
        for (size_t j = 0; j < n; j++)
            r[j] = combine(&affine[j], d[j], sum_a, sum_w[j], count);
    else
        for (size_t j = 0; j < n; j++)
            r[j] = combine(&affine[j], d[j], sum_a, sum_w[j], count) + bias[j];
}

static void combine_places(size_t n, const int32_t *d, const int32_t *sum_a,
                           const int32_t *sum_w, const int32_t *count,
                           const struct sl_rtn_affine *affine, const float *bias,
                           float *r)
{
    const struct sl_rtn_affine f = *affine;
    if (bias == NULL)
        for (size_t i = 0; i < n; i++)
            r[i] = combine(&f, d[i], sum_a[i], sum_w[i], count[i]);
    else
        for (size_t i = 0; i < n; i++)
            r[i] = combine(&f, d[i], sum_a[i], sum_w[i], count[i]) + *bias;
}

const struct sl_rtn_ops OPS_NAME = {
    .ternarise = ternarise,
    .pack_bytes = pack_bytes,
    .decode = decode,
    .clip_grad = clip_grad,
    .sum = sum,
    .dots = dots,
    .combine_line = combine_line,
    .combine_places = combine_places,
};
