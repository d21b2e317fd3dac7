/* SPDX-License-Identifier: Apache-2.0 */
/* rtn_ops_avx512.c - as rtn_ops_avx2.c, a whole block at a time. */
#include "accel/kernels/rtn_ops.h"

#include <immintrin.h>

#define OPS_NAME sl_rtn_ops_avx512
#include "accel/kernels/rtn_body.h"

#define WORDS_PER_BYTE 10
#define OFFSET_PER_WORD (16 * 8)
#define ROWS 4

static inline struct word word_of(const float *x, float d)
{
    const __m512 hi = _mm512_set1_ps(d), lo = _mm512_set1_ps(-d);
    const __m512 one = _mm512_set1_ps(1.0f);
    struct word w = {0};
    for (int i = 0; i < 64; i += 16) {
        __m512 v = _mm512_loadu_ps(x + i);
        uint64_t up = _mm512_cmp_ps_mask(v, hi, _CMP_GT_OQ);
        uint64_t down = _mm512_cmp_ps_mask(v, lo, _CMP_LT_OQ);
        w.flag |= (up | down) << i;
        w.sign |= up << i;
        w.clip |= (uint64_t)_mm512_cmp_ps_mask(_mm512_abs_ps(v), one, _CMP_LE_OQ) << i;
        w.nan |= _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q) != 0;
    }
    return w;
}

static inline struct word word_of_bytes(const int8_t *t)
{
    const __m512i v = _mm512_loadu_si512(t);
    return (struct word){.flag = _mm512_test_epi8_mask(v, v),
                         .sign = _mm512_cmpgt_epi8_mask(v, _mm512_setzero_si512())};
}

static inline void select3(uint64_t a, uint64_t b, float p, float m, float z, float *y)
{
    const __m512 vp = _mm512_set1_ps(p), vm = _mm512_set1_ps(m), vz = _mm512_set1_ps(z);
    for (int i = 0; i < 64; i += 16) {
        __m512 nonzero = _mm512_mask_blend_ps((__mmask16)(b >> i), vm, vp);
        _mm512_storeu_ps(y + i, _mm512_mask_blend_ps((__mmask16)(a >> i), vz, nonzero));
    }
}

static inline void select_scaled(uint64_t bits, float f, const float *g, float *y)
{
    const __m512 vf = _mm512_set1_ps(f);
    for (int i = 0; i < 64; i += 16)
        _mm512_storeu_ps(y + i, _mm512_maskz_mul_ps((__mmask16)(bits >> i), vf,
                                                    _mm512_loadu_ps(g + i)));
}

static inline __m512i table(uint64_t low, uint64_t high)
{
    return _mm512_broadcast_i32x4(_mm_set_epi64x((long long)high, (long long)low));
}

/* Parts of D + 16 of each byte of a word of 8 lines. */
static inline __m512i bytes_of(__m512i c, __m512i e)
{
    const __m512i ones = table(0x0302020102010100, 0x0403030203020201);
    const __m512i less = table(0x0204040604060608, 0x0002020402040406);
    const __m512i low = _mm512_set1_epi8(15);
    __m512i ch = _mm512_and_si512(_mm512_srli_epi16(c, 4), low);
    __m512i eh = _mm512_and_si512(_mm512_srli_epi16(e, 4), low);
    __m512i sc = _mm512_add_epi8(_mm512_shuffle_epi8(ones, _mm512_and_si512(c, low)),
                                 _mm512_shuffle_epi8(ones, ch));
    __m512i se = _mm512_add_epi8(_mm512_shuffle_epi8(less, _mm512_and_si512(e, low)),
                                 _mm512_shuffle_epi8(less, eh));
    return _mm512_add_epi8(sc, se);
}

static inline __attribute__((always_inline)) void
block(size_t rows, size_t words, const uint64_t *a_flag, const uint64_t *a_sign,
      const uint64_t *packed, __m256i d[ROWS])
{
    __m512i sums[ROWS];
    for (size_t r = 0; r < rows; r++)
        sums[r] = _mm512_setzero_si512();
    for (size_t first = 0; first < words; first += WORDS_PER_BYTE) {
        size_t end = words - first < WORDS_PER_BYTE ? words : first + WORDS_PER_BYTE;
        __m512i bytes[ROWS];
        for (size_t r = 0; r < rows; r++)
            bytes[r] = _mm512_setzero_si512();
        for (size_t k = first; k < end; k++) {
            __m512i flag = _mm512_loadu_si512(packed + k * 2 * SL_RTN_BLOCK);
            __m512i sign = _mm512_loadu_si512(packed + (k * 2 + 1) * SL_RTN_BLOCK);
            for (size_t r = 0; r < rows; r++) {
                __m512i af = _mm512_set1_epi64((long long)a_flag[r * words + k]);
                __m512i as = _mm512_set1_epi64((long long)a_sign[r * words + k]);
                __m512i c = _mm512_and_si512(flag, af);
                __m512i e = _mm512_and_si512(_mm512_xor_si512(sign, as), c);
                bytes[r] = _mm512_add_epi8(bytes[r], bytes_of(c, e));
            }
        }
        for (size_t r = 0; r < rows; r++)
            sums[r] = _mm512_add_epi64(sums[r],
                                       _mm512_sad_epu8(bytes[r], _mm512_setzero_si512()));
    }
    const __m512i offset = _mm512_set1_epi64((long long)(words * OFFSET_PER_WORD));
    for (size_t r = 0; r < rows; r++)
        d[r] = _mm512_cvtepi64_epi32(_mm512_sub_epi64(sums[r], offset));
}

static void dots(size_t m, size_t n, size_t words, const uint64_t *a_flag,
                 const uint64_t *a_sign, const uint64_t *packed, int32_t *d, size_t ldd)
{
    __m256i part[ROWS];
    for (size_t j = 0; j < n; j += SL_RTN_BLOCK, packed += words * 2 * SL_RTN_BLOCK) {
        __mmask8 wide = (__mmask8)(n - j < SL_RTN_BLOCK ? (1u << (n - j)) - 1 : 0xffu);
        for (size_t i = 0; i < m; i += ROWS) {
            size_t rows = m - i < ROWS ? m - i : ROWS;
            const uint64_t *f = a_flag + i * words, *s = a_sign + i * words;
            if (rows == ROWS)
                block(ROWS, words, f, s, packed, part);
            else
                block(rows, words, f, s, packed, part);
            for (size_t r = 0; r < rows; r++)
                _mm256_mask_storeu_epi32(d + (i + r) * ldd + j, wide, part[r]);
        }
    }
}
