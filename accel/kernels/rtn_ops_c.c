/* SPDX-License-Identifier: Apache-2.0 */
#include "accel/kernels/rtn_ops.h"

#include <math.h>

#define OPS_NAME sl_rtn_ops_c
#include "accel/kernels/rtn_body.h"

static inline struct word word_of(const float *x, float d)
{
    struct word w = {0};
    for (int i = 0; i < 64; i++) {
        uint64_t up = x[i] > d, down = x[i] < -d;
        w.flag |= (up | down) << i;
        w.sign |= up << i;
        w.clip |= (uint64_t)(fabsf(x[i]) <= 1.0f) << i;
        w.nan |= x[i] != x[i];
    }
    return w;
}

static inline struct word word_of_bytes(const int8_t *t)
{
    struct word w = {0};
    for (int i = 0; i < 64; i++) {
        w.flag |= (uint64_t)(t[i] != 0) << i;
        w.sign |= (uint64_t)(t[i] > 0) << i;
    }
    return w;
}

static inline void select3(uint64_t a, uint64_t b, float p, float m, float z, float *y)
{
    for (int i = 0; i < 64; i++)
        y[i] = (a >> i & 1) == 0 ? z : (b >> i & 1) != 0 ? p : m;
}

static inline void select_scaled(uint64_t bits, float f, const float *g, float *y)
{
    for (int i = 0; i < 64; i++)
        y[i] = (bits >> i & 1) != 0 ? f * g[i] : 0.0f;
}

/* D = popcount(c) - 2 popcount((w2 ^ a2) & c), c = w1 & a1 */
static void dots(size_t m, size_t n, size_t words, const uint64_t *a_flag,
                 const uint64_t *a_sign, const uint64_t *packed, int32_t *d, size_t ldd)
{
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            const uint64_t *w =
                packed + j / SL_RTN_BLOCK * words * 2 * SL_RTN_BLOCK + j % SL_RTN_BLOCK;
            int32_t s = 0;
            for (size_t k = 0; k < words; k++, w += 2 * SL_RTN_BLOCK) {
                uint64_t c = w[0] & a_flag[i * words + k];
                uint64_t e = (w[SL_RTN_BLOCK] ^ a_sign[i * words + k]) & c;
                s += __builtin_popcountll(c) - 2 * __builtin_popcountll(e);
            }
            d[i * ldd + j] = s;
        }
}
