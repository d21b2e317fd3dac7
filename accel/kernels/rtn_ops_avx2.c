/* SPDX-License-Identifier: Apache-2.0 */
/* rtn_ops_avx2.c - bits of a byte are counted by table: a nibble of c counts its bits, a
 * nibble of e counts 8 less twice its bits, so that a byte of a word adds its part of D +
 * 16, at most 24; ten words fit a byte, then bytes of a line are added up. */
#include "accel/kernels/rtn_ops.h"

#include <immintrin.h>

#define OPS_NAME sl_rtn_ops_avx2
#include "accel/kernels/rtn_body.h"

#define WORDS_PER_BYTE 10
#define OFFSET_PER_WORD (16 * 8)
#define ROWS 2

static inline struct word word_of(const float *x, float d)
{
    const __m256 hi = _mm256_set1_ps(d), lo = _mm256_set1_ps(-d);
    const __m256 one = _mm256_set1_ps(1.0f), minus_zero = _mm256_set1_ps(-0.0f);
    struct word w = {0};
    for (int i = 0; i < 64; i += 8) {
        __m256 v = _mm256_loadu_ps(x + i);
        uint64_t up = (uint64_t)_mm256_movemask_ps(_mm256_cmp_ps(v, hi, _CMP_GT_OQ));
        uint64_t down = (uint64_t)_mm256_movemask_ps(_mm256_cmp_ps(v, lo, _CMP_LT_OQ));
        __m256 a = _mm256_andnot_ps(minus_zero, v);
        uint64_t in = (uint64_t)_mm256_movemask_ps(_mm256_cmp_ps(a, one, _CMP_LE_OQ));
        w.flag |= (up | down) << i;
        w.sign |= up << i;
        w.clip |= in << i;
        w.nan |= _mm256_movemask_ps(_mm256_cmp_ps(v, v, _CMP_UNORD_Q)) != 0;
    }
    return w;
}

static inline struct word word_of_bytes(const int8_t *t)
{
    const __m256i zero = _mm256_setzero_si256();
    struct word w = {0};
    for (int i = 0; i < 64; i += 32) {
        __m256i v = _mm256_loadu_si256((const __m256i *)(t + i));
        uint32_t none = (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(v, zero));
        uint32_t up = (uint32_t)_mm256_movemask_epi8(_mm256_cmpgt_epi8(v, zero));
        w.flag |= (uint64_t)(uint32_t)~none << i;
        w.sign |= (uint64_t)up << i;
    }
    return w;
}

/* All ones in lane i where bit i is set. */
static inline __m256 lanes_of(uint64_t bits)
{
    const __m256i bit = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    __m256i v = _mm256_and_si256(_mm256_set1_epi32((int)(bits & 0xff)), bit);
    return _mm256_castsi256_ps(_mm256_cmpeq_epi32(v, bit));
}

static inline void select3(uint64_t a, uint64_t b, float p, float m, float z, float *y)
{
    const __m256 vp = _mm256_set1_ps(p), vm = _mm256_set1_ps(m), vz = _mm256_set1_ps(z);
    for (int i = 0; i < 64; i += 8) {
        __m256 nonzero = _mm256_blendv_ps(vm, vp, lanes_of(b >> i));
        _mm256_storeu_ps(y + i, _mm256_blendv_ps(vz, nonzero, lanes_of(a >> i)));
    }
}

static inline void select_scaled(uint64_t bits, float f, const float *g, float *y)
{
    const __m256 vf = _mm256_set1_ps(f);
    for (int i = 0; i < 64; i += 8) {
        __m256 v = _mm256_mul_ps(vf, _mm256_loadu_ps(g + i));
        _mm256_storeu_ps(y + i, _mm256_and_ps(v, lanes_of(bits >> i)));
    }
}

/* Parts of D + 16 of each byte of a word of 4 lines. */
static inline __m256i bytes_of(__m256i c, __m256i e)
{
    const __m256i ones = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,
                                          0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
    const __m256i less = _mm256_setr_epi8(8, 6, 6, 4, 6, 4, 4, 2, 6, 4, 4, 2, 4, 2, 2, 0,
                                          8, 6, 6, 4, 6, 4, 4, 2, 6, 4, 4, 2, 4, 2, 2, 0);
    const __m256i low = _mm256_set1_epi8(15);
    __m256i ch = _mm256_and_si256(_mm256_srli_epi16(c, 4), low);
    __m256i eh = _mm256_and_si256(_mm256_srli_epi16(e, 4), low);
    __m256i sc = _mm256_add_epi8(_mm256_shuffle_epi8(ones, _mm256_and_si256(c, low)),
                                 _mm256_shuffle_epi8(ones, ch));
    __m256i se = _mm256_add_epi8(_mm256_shuffle_epi8(less, _mm256_and_si256(e, low)),
                                 _mm256_shuffle_epi8(less, eh));
    return _mm256_add_epi8(sc, se);
}

/* Lines a[rows] with half a block: four packed lines. */
static inline void half_block(size_t rows, size_t words, const uint64_t *a_flag,
                              const uint64_t *a_sign, const uint64_t *packed,
                              int32_t d[ROWS][4])
{
    __m256i sums[ROWS];
    for (size_t r = 0; r < rows; r++)
        sums[r] = _mm256_setzero_si256();
    for (size_t first = 0; first < words; first += WORDS_PER_BYTE) {
        size_t end = words - first < WORDS_PER_BYTE ? words : first + WORDS_PER_BYTE;
        __m256i bytes[ROWS];
        for (size_t r = 0; r < rows; r++)
            bytes[r] = _mm256_setzero_si256();
        for (size_t k = first; k < end; k++) {
            const uint64_t *w = packed + k * 2 * SL_RTN_BLOCK;
            __m256i flag = _mm256_loadu_si256((const __m256i *)w);
            __m256i sign = _mm256_loadu_si256((const __m256i *)(w + SL_RTN_BLOCK));
            for (size_t r = 0; r < rows; r++) {
                __m256i af = _mm256_set1_epi64x((long long)a_flag[r * words + k]);
                __m256i as = _mm256_set1_epi64x((long long)a_sign[r * words + k]);
                __m256i c = _mm256_and_si256(flag, af);
                __m256i e = _mm256_and_si256(_mm256_xor_si256(sign, as), c);
                bytes[r] = _mm256_add_epi8(bytes[r], bytes_of(c, e));
            }
        }
        for (size_t r = 0; r < rows; r++)
            sums[r] = _mm256_add_epi64(sums[r],
                                       _mm256_sad_epu8(bytes[r], _mm256_setzero_si256()));
    }
    for (size_t r = 0; r < rows; r++) {
        int64_t wide[4];
        _mm256_storeu_si256((__m256i *)wide, sums[r]);
        for (size_t j = 0; j < 4; j++)
            d[r][j] = (int32_t)(wide[j] - (int64_t)words * OFFSET_PER_WORD);
    }
}

static void dots(size_t m, size_t n, size_t words, const uint64_t *a_flag,
                 const uint64_t *a_sign, const uint64_t *packed, int32_t *d, size_t ldd)
{
    int32_t part[ROWS][4];
    for (size_t j = 0; j < n; j += 4) {
        const uint64_t *w =
            packed + j / SL_RTN_BLOCK * words * 2 * SL_RTN_BLOCK + j % SL_RTN_BLOCK;
        size_t wide = n - j < 4 ? n - j : 4;
        for (size_t i = 0; i < m; i += ROWS) {
            size_t rows = m - i < ROWS ? m - i : ROWS;
            if (rows == ROWS)
                half_block(ROWS, words, a_flag + i * words, a_sign + i * words, w, part);
            else
                half_block(1, words, a_flag + i * words, a_sign + i * words, w, part);
            for (size_t r = 0; r < rows; r++)
                memcpy(d + (i + r) * ldd + j, part[r], wide * sizeof(*d));
        }
    }
}
