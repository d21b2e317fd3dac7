/* SPDX-License-Identifier: Apache-2.0 */
/* rtn_ops_neon.c - bits are counted byte by byte; a byte of a word adds at most 8 to each
 * of two counts, so 31 words fit a byte; then bytes of a line are added up. */
#include <arm_neon.h>

#include "accel/kernels/rtn_ops.h"

#define OPS_NAME sl_rtn_ops_neon
#include "accel/kernels/rtn_body.h"

#define WORDS_PER_BYTE 31
#define ROWS 2
#define PARTS 4 /* registers of a block: two lines each */

/* Bit i is lane i of bytes that are all ones or 0. */
static inline uint64_t bits_of(uint8x16_t lanes)
{
    static const uint8_t bit[16] = {1, 2, 4, 8, 16, 32, 64, 128,
                                    1, 2, 4, 8, 16, 32, 64, 128};
    uint8x16_t v = vandq_u8(lanes, vld1q_u8(bit));
    return (uint64_t)vaddv_u8(vget_low_u8(v)) |
           (uint64_t)vaddv_u8(vget_high_u8(v)) << 8;
}

/* 4 x 4 lanes of 32 bits, all ones or 0, as bytes. */
static inline uint8x16_t narrow(const uint32x4_t v[4])
{
    uint16x8_t low = vcombine_u16(vmovn_u32(v[0]), vmovn_u32(v[1]));
    uint16x8_t high = vcombine_u16(vmovn_u32(v[2]), vmovn_u32(v[3]));
    return vcombine_u8(vmovn_u16(low), vmovn_u16(high));
}

static inline struct word word_of(const float *x, float d)
{
    const float32x4_t hi = vdupq_n_f32(d), lo = vdupq_n_f32(-d), one = vdupq_n_f32(1.0f);
    uint32x4_t number = vdupq_n_u32(UINT32_MAX);
    struct word w = {0};
    for (int i = 0; i < 64; i += 16) {
        uint32x4_t up[4], down[4], in[4];
        for (int j = 0; j < 4; j++) {
            float32x4_t v = vld1q_f32(x + i + 4 * j);
            up[j] = vcgtq_f32(v, hi);
            down[j] = vcltq_f32(v, lo);
            in[j] = vcaleq_f32(v, one);
            number = vandq_u32(number, vceqq_f32(v, v));
        }
        uint64_t above = bits_of(narrow(up));
        w.flag |= (above | bits_of(narrow(down))) << i;
        w.sign |= above << i;
        w.clip |= bits_of(narrow(in)) << i;
    }
    w.nan = vminvq_u32(number) == 0;
    return w;
}

static inline struct word word_of_bytes(const int8_t *t)
{
    struct word w = {0};
    for (int i = 0; i < 64; i += 16) {
        int8x16_t v = vld1q_s8(t + i);
        w.flag |= bits_of(vtstq_s8(v, v)) << i;
        w.sign |= bits_of(vcgtq_s8(v, vdupq_n_s8(0))) << i;
    }
    return w;
}

/* All ones in lane i where bit i is set. */
static inline uint32x4_t lanes_of(uint64_t bits)
{
    static const uint32_t bit[4] = {1, 2, 4, 8};
    return vtstq_u32(vdupq_n_u32((uint32_t)bits), vld1q_u32(bit));
}

static inline void select3(uint64_t a, uint64_t b, float p, float m, float z, float *y)
{
    const float32x4_t vp = vdupq_n_f32(p), vm = vdupq_n_f32(m), vz = vdupq_n_f32(z);
    for (int i = 0; i < 64; i += 4) {
        float32x4_t nonzero = vbslq_f32(lanes_of(b >> i), vp, vm);
        vst1q_f32(y + i, vbslq_f32(lanes_of(a >> i), nonzero, vz));
    }
}

static inline void select_scaled(uint64_t bits, float f, const float *g, float *y)
{
    const float32x4_t vf = vdupq_n_f32(f);
    for (int i = 0; i < 64; i += 4) {
        uint32x4_t v = vreinterpretq_u32_f32(vmulq_f32(vf, vld1q_f32(g + i)));
        vst1q_f32(y + i, vreinterpretq_f32_u32(vandq_u32(lanes_of(bits >> i), v)));
    }
}

/* Bytes of each word added up. */
static inline int64x2_t words_of(uint8x16_t bytes)
{
    return vreinterpretq_s64_u64(vpaddlq_u32(vpaddlq_u16(vpaddlq_u8(bytes))));
}

/* D of up to two lines a with a block: popcount(c) - 2 popcount(e). */
static inline __attribute__((always_inline)) void
block(size_t rows, size_t words, const uint64_t *a_flag, const uint64_t *a_sign,
      const uint64_t *packed, int32_t d[ROWS][SL_RTN_BLOCK])
{
    int64x2_t sums[ROWS][PARTS];
    for (size_t r = 0; r < rows; r++)
        for (int i = 0; i < PARTS; i++)
            sums[r][i] = vdupq_n_s64(0);
    for (size_t first = 0; first < words; first += WORDS_PER_BYTE) {
        size_t end = words - first < WORDS_PER_BYTE ? words : first + WORDS_PER_BYTE;
        uint8x16_t both[ROWS][PARTS], differ[ROWS][PARTS];
        for (size_t r = 0; r < rows; r++)
            for (int i = 0; i < PARTS; i++)
                both[r][i] = differ[r][i] = vdupq_n_u8(0);
        for (size_t k = first; k < end; k++) {
            const uint64_t *flags = packed + k * 2 * SL_RTN_BLOCK;
            for (int i = 0; i < PARTS; i++) {
                uint64x2_t flag = vld1q_u64(flags + 2 * i);
                uint64x2_t sign = vld1q_u64(flags + SL_RTN_BLOCK + 2 * i);
                for (size_t r = 0; r < rows; r++) {
                    uint64x2_t c = vandq_u64(flag, vdupq_n_u64(a_flag[r * words + k]));
                    uint64x2_t e = vandq_u64(
                        veorq_u64(sign, vdupq_n_u64(a_sign[r * words + k])), c);
                    both[r][i] =
                        vaddq_u8(both[r][i], vcntq_u8(vreinterpretq_u8_u64(c)));
                    differ[r][i] =
                        vaddq_u8(differ[r][i], vcntq_u8(vreinterpretq_u8_u64(e)));
                }
            }
        }
        for (size_t r = 0; r < rows; r++)
            for (int i = 0; i < PARTS; i++) {
                int64x2_t e = words_of(differ[r][i]);
                sums[r][i] = vaddq_s64(sums[r][i], words_of(both[r][i]));
                sums[r][i] = vsubq_s64(sums[r][i], vaddq_s64(e, e));
            }
    }
    for (size_t r = 0; r < rows; r++)
        for (int i = 0; i < PARTS; i++)
            vst1_s32(d[r] + 2 * i, vmovn_s64(sums[r][i]));
}

static void dots(size_t m, size_t n, size_t words, const uint64_t *a_flag,
                 const uint64_t *a_sign, const uint64_t *packed, int32_t *d, size_t ldd)
{
    int32_t part[ROWS][SL_RTN_BLOCK];
    for (size_t j = 0; j < n; j += SL_RTN_BLOCK, packed += words * 2 * SL_RTN_BLOCK) {
        size_t wide = n - j < SL_RTN_BLOCK ? n - j : SL_RTN_BLOCK;
        for (size_t i = 0; i < m; i += ROWS) {
            size_t rows = m - i < ROWS ? m - i : ROWS;
            const uint64_t *f = a_flag + i * words, *s = a_sign + i * words;
            if (rows == ROWS)
                block(ROWS, words, f, s, packed, part);
            else
                block(1, words, f, s, packed, part);
            for (size_t r = 0; r < rows; r++)
                memcpy(d + (i + r) * ldd + j, part[r], wide * sizeof(*d));
        }
    }
}
