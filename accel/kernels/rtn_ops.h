/* SPDX-License-Identifier: Apache-2.0 */
/* rtn_ops.h - ternary values as bit planes, their dot products, and what surrounds them.
 * Contracts common to all families stand in kernels/kernels.h.
 *
 * A line of values -1, 0, +1 is two planes of 64-bit words: lane i of word j is element
 * 64 j + i. flag: not zero; sign: 1 for +1. A zero is written as 00; with 01 it reads the
 * same. Lanes behind the last element have flag 0. */
#ifndef SL_ACCEL_KERNELS_RTN_OPS_H
#define SL_ACCEL_KERNELS_RTN_OPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SL_RTN_WORDS(n) (((n) + 63) / 64)
#define SL_RTN_BLOCK 8 /* lines of a packed block */

/* Packed lines of a product: blocks of SL_RTN_BLOCK lines, in each
 * [words][flag, sign][SL_RTN_BLOCK]; lines that are not there are 0. */

/* r = (ga gw) D, += (ga bw) Sa, += (ba gw) Sw, += (ba bw) K, += bias: in this order, each
 * operation rounded on its own, integers converted to nearest. */
struct sl_rtn_affine {
    float dot, sum_a, sum_w, count; /* ga gw, ga bw, ba gw, ba bw */
};

struct sl_rtn_ops {
    /* Planes of T(x): +1 where x > d, -1 where x < -d. clip: bit = |x| <= 1; NULL = not
     * wanted. False when an x is NaN; what is written is then undefined. */
    bool (*ternarise)(const float *x, size_t n, float d, uint64_t *flag, uint64_t *sign,
                      uint64_t *clip);
    /* Planes of values -1, 0, 1. */
    void (*pack_bytes)(const int8_t *t, size_t n, uint64_t *flag, uint64_t *sign);
    /* y = level[0] for -1, level[1] for 0, level[2] for +1. */
    void (*decode)(const uint64_t *flag, const uint64_t *sign, size_t n,
                   const float level[3], float *y);
    /* dx = mask bit ? gamma g : +0 */
    void (*clip_grad)(const uint64_t *mask, float gamma, const float *g, size_t n,
                      float *dx);
    /* Sum of the values of a line. */
    int32_t (*sum)(const uint64_t *flag, const uint64_t *sign, size_t words);
    /* d [m, ldd] = dot products of m lines a, `words` apart, with n packed ones. */
    void (*dots)(size_t m, size_t n, size_t words, const uint64_t *a_flag,
                 const uint64_t *a_sign, const uint64_t *packed, int32_t *d, size_t ldd);
    /* r[j] from d[j], with a line's sum and count, sum_w [n] and affine [n]; bias [n] or
     * NULL. For n outputs of one line of activations. */
    void (*combine_line)(size_t n, const int32_t *d, int32_t sum_a, const int32_t *sum_w,
                         int32_t count, const struct sl_rtn_affine *affine,
                         const float *bias, float *r);
    /* The same for n places of one filter: sum_a, sum_w, count [n]. bias NULL = none. */
    void (*combine_places)(size_t n, const int32_t *d, const int32_t *sum_a,
                           const int32_t *sum_w, const int32_t *count,
                           const struct sl_rtn_affine *affine, const float *bias,
                           float *r);
};

void sl_rtn_ops_init(struct sl_rtn_ops *ops, uint32_t cpu);

/* Variants; sl_rtn_dots_vpopcntdq takes the place of dots where AVX-512 counts bits. */
extern const struct sl_rtn_ops sl_rtn_ops_c, sl_rtn_ops_avx2, sl_rtn_ops_avx512,
    sl_rtn_ops_neon;
void sl_rtn_dots_vpopcntdq(size_t m, size_t n, size_t words, const uint64_t *a_flag,
                           const uint64_t *a_sign, const uint64_t *packed, int32_t *d,
                           size_t ldd);

#endif
