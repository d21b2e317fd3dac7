/* SPDX-License-Identifier: Apache-2.0 */
/* bfp_ops_avx512.c - the narrow form by 16 lanes of AVX-512. A block is one group of each
 * of 16 lines. Lines that lie side by side go lane by lane; lines that are contiguous in
 * themselves take their largest values through a tree of shuffles that maximises 16
 * registers at once. */
#include <immintrin.h>

/* Pairs of a four: up to 2 * 31 * 15, exact in 16 bits. */
static inline __m512i dot(__m512i acc, __m512i a, __m512i b)
{
    __m512i pairs = _mm512_maddubs_epi16(a, b);
    return _mm512_add_epi32(acc, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
}

#include "accel/kernels/bfp_avx512.h"
#include "accel/kernels/bfp_body.h"

/* --- groups
 * ---------------------------------------------------------------------------------- */

/* What 16 groups need, by lane. */
struct lanes_of_groups {
    __m512 factor, scale, factor4;
    __m512i shift;
};

/* Truncation without clamping multiplies to the kept bits at once; noise keeps eight
 * more. */
static inline __attribute__((always_inline)) struct lanes_of_groups
groups_from(const struct sl_bfp_source *s, __m512i max, int extra_bits)
{
    struct lanes_of_groups r;
    __m512i field = _mm512_srli_epi32(max, 23);
    __mmask16 any = _mm512_cmpge_epu32_mask(field, _mm512_set1_epi32(LEAST_FIELD));
    int32_t least = BIAS + s->exponent_t - (int32_t)s->code_max;
    field = _mm512_min_epi32(field, _mm512_set1_epi32(LARGEST_FIELD));
    field = _mm512_max_epi32(field, _mm512_set1_epi32(least));
    int32_t m = (int32_t)s->m;
    __m512i f = _mm512_sub_epi32(_mm512_set1_epi32(2 * BIAS + m - 1 + extra_bits), field);
    __m512i c = _mm512_sub_epi32(field, _mm512_set1_epi32(m - 1));
    __m512i f4 = _mm512_sub_epi32(_mm512_set1_epi32(2 * BIAS + 3), field);
    r.factor = _mm512_castsi512_ps(_mm512_maskz_slli_epi32(any, f, 23));
    r.scale = _mm512_castsi512_ps(_mm512_maskz_slli_epi32(any, c, 23));
    r.factor4 = _mm512_castsi512_ps(_mm512_maskz_slli_epi32(any, f4, 23));
    r.shift = _mm512_maskz_sub_epi32(any, field, _mm512_set1_epi32(least));
    return r;
}

/* Sums while a call runs, by lane: bits above and below the coarse step. */
struct sums {
    __m512i difference[2], coarse[2];
};

static inline __m512i add_wide(__m512i acc[2], __m512i v)
{
    acc[0] = _mm512_add_epi64(acc[0], _mm512_cvtepi32_epi64(_mm512_castsi512_si256(v)));
    acc[1] =
        _mm512_add_epi64(acc[1], _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64(v, 1)));
    return v;
}

/* Truncated four-bit magnitudes of |x|: fine += all, coarse += without the low two bits.
 */
static inline void sum_four_bits(__m512i abs, __m512 factor4, __m512i *fine,
                                 __m512i *coarse)
{
    __m512i v = _mm512_cvttps_epi32(_mm512_mul_ps(_mm512_castsi512_ps(abs), factor4));
    *fine = _mm512_add_epi32(*fine, v);
    *coarse = _mm512_add_epi32(*coarse, _mm512_and_si512(v, _mm512_set1_epi32(~3)));
}

static void sums_finish(const struct sl_bfp_source *s, struct sums *t)
{
    if (s->sums == NULL)
        return;
    s->sums->difference +=
        _mm512_reduce_add_epi64(_mm512_add_epi64(t->difference[0], t->difference[1]));
    s->sums->coarse +=
        _mm512_reduce_add_epi64(_mm512_add_epi64(t->coarse[0], t->coarse[1]));
}

/* --- one register of values
 * ------------------------------------------------------------------ */

/* Upper bytes of splitmix64's mix of 16 counters, without the add of its step. */
static inline __m512i mixed_bytes(__m512i lo, __m512i hi)
{
    const __m512i m1 = _mm512_set1_epi64((long long)0xbf58476d1ce4e5b9u);
    const __m512i m2 = _mm512_set1_epi64((long long)0x94d049bb133111ebu);
    const __m512i odd =
        _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
    lo = _mm512_mullo_epi64(_mm512_xor_si512(lo, _mm512_srli_epi64(lo, 30)), m1);
    hi = _mm512_mullo_epi64(_mm512_xor_si512(hi, _mm512_srli_epi64(hi, 30)), m1);
    lo = _mm512_mullo_epi64(_mm512_xor_si512(lo, _mm512_srli_epi64(lo, 27)), m2);
    hi = _mm512_mullo_epi64(_mm512_xor_si512(hi, _mm512_srli_epi64(hi, 27)), m2);
    return _mm512_srli_epi32(_mm512_permutex2var_epi32(lo, odd, hi), 24);
}

struct rounding {
    enum sl_bfp_round round;
    __m512i lo, hi; /* counters of the lanes, splitmix64's step included */
    __m512i top;    /* 2^m - 1 */
};

static inline struct rounding rounding_of(const struct sl_bfp_source *s, uint64_t number,
                                          uint64_t step)
{
    struct rounding r = {.round = s->round, .top = _mm512_set1_epi32((1 << s->m) - 1)};
    __m512i base = _mm512_set1_epi64((long long)(s->key + number + 0x9e3779b97f4a7c15u));
    __m512i steps = _mm512_mullo_epi64(_mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7),
                                       _mm512_set1_epi64((long long)step));
    r.lo = _mm512_add_epi64(base, steps);
    r.hi = _mm512_add_epi64(r.lo, _mm512_set1_epi64((long long)(8 * step)));
    return r;
}

/* Truncation of a tensor without values beyond the limit needs neither clamp nor sign. */
#define TRUNCATE_PLAIN SL_BFP_GIVEN

/* Signed mantissas of v; `ahead` is added to the counters. */
static inline __attribute__((always_inline)) __m512i
convert(__m512i v, __m512 factor, const struct rounding *r, uint64_t ahead)
{
    if (r->round == TRUNCATE_PLAIN)
        return _mm512_cvttps_epi32(_mm512_mul_ps(_mm512_castsi512_ps(v), factor));
    const __m512i abs = _mm512_set1_epi32(ABS_BITS);
    __m512i a =
        _mm512_min_epu32(_mm512_and_si512(v, abs), _mm512_set1_epi32((int)LARGEST_BITS));
    __m512i t = _mm512_cvttps_epi32(_mm512_mul_ps(_mm512_castsi512_ps(a), factor));
    if (r->round == SL_BFP_CTR) {
        __m512i by = _mm512_set1_epi64((long long)ahead);
        __m512i noise =
            mixed_bytes(_mm512_add_epi64(r->lo, by), _mm512_add_epi64(r->hi, by));
        t = _mm512_srli_epi32(_mm512_add_epi32(t, noise), 8);
        t = _mm512_min_epi32(t, r->top);
    } else if (r->round == SL_BFP_NEAREST) {
        t = _mm512_srli_epi32(_mm512_add_epi32(t, _mm512_set1_epi32(128)), 8);
        t = _mm512_min_epi32(t, r->top);
    }
    return _mm512_mask_sub_epi32(t, _mm512_movepi32_mask(v), _mm512_setzero_si512(), t);
}

static inline int extra_bits_of(enum sl_bfp_round round)
{
    return round == SL_BFP_TRUNCATE || round == TRUNCATE_PLAIN ? 0 : 8;
}

/* Bytes of four registers, by 128-bit lane: lane L has values 4 L..4 L + 3 of a, of b, of
 * c, of d. */
static inline __m512i to_bytes(__m512i a, __m512i b, __m512i c, __m512i d)
{
    return _mm512_packs_epi16(_mm512_packs_epi32(a, b), _mm512_packs_epi32(c, d));
}

/* --- blocks
 * ---------------------------------------------------------------------------------- */

/* Signed bytes [quad][line][k] of a block, and its scales. */
struct quads {
    __m512i q[SL_BFP_QUADS];
    __m512 scale;
};

/* |x|, limited. */
static inline __m512i magnitude(__m512i v)
{
    return _mm512_min_epu32(_mm512_and_si512(v, _mm512_set1_epi32(ABS_BITS)),
                            _mm512_set1_epi32((int)LARGEST_BITS));
}

static inline void sums_across(const __m512i v[LANES], const struct lanes_of_groups *g,
                               struct sums *sums)
{
    __m512i fine = _mm512_setzero_si512(), coarse = fine;
    for (size_t j = 0; j < LANES; j++)
        sum_four_bits(magnitude(v[j]), g->factor4, &fine, &coarse);
    add_wide(sums->difference,
             _mm512_sllv_epi32(_mm512_sub_epi32(fine, coarse), g->shift));
    add_wide(sums->coarse, _mm512_sllv_epi32(coarse, g->shift));
}

/* Lines side by side: x[k][line]. */
static inline __attribute__((always_inline)) struct quads
block_across16(const struct sl_bfp_source *s, enum sl_bfp_round round, size_t line,
               __mmask16 mask, size_t k, size_t ks, struct sums *sums)
{
    /* values of each line from [k][line], by 128-bit lane */
    const __m512i order = _mm512_broadcast_i32x4(
        _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    const float *x = s->x + line + k * s->k_step;
    struct rounding r =
        rounding_of(s, s->first + line * s->number_step + k, s->number_step);
    __m512i v[LANES], max = _mm512_setzero_si512();
    struct quads ret;
    r.round = round;
    for (size_t j = 0; j < LANES; j++) {
        v[j] = j < ks ? _mm512_maskz_loadu_epi32(mask, x + j * s->k_step)
                      : _mm512_setzero_si512();
        max = _mm512_max_epu32(max, _mm512_and_si512(v[j], _mm512_set1_epi32(ABS_BITS)));
    }
    struct lanes_of_groups g = groups_from(s, max, extra_bits_of(round));
    if (s->sums != NULL)
        sums_across(v, &g, sums);
    for (size_t q = 0; q < SL_BFP_QUADS; q++) {
        __m512i m[4];
        for (size_t j = 0; j < 4; j++)
            m[j] = convert(v[q * 4 + j], g.factor, &r, q * 4 + j);
        ret.q[q] = _mm512_shuffle_epi8(to_bytes(m[0], m[1], m[2], m[3]), order);
    }
    ret.scale = g.scale;
    return ret;
}

/* Largest |x| of 16 registers, by register: halves of registers against each other. */
static inline __m512i largest_of_each(const __m512i v[LANES])
{
    const __m512i abs = _mm512_set1_epi32(ABS_BITS);
    __m512i two[8], four[4], t[4];
    for (int i = 0; i < 8; i++) {
        __m512i a = _mm512_and_si512(v[2 * i], abs);
        __m512i b = _mm512_and_si512(v[2 * i + 1], abs);
        two[i] =
            _mm512_max_epu32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    }
    for (int i = 0; i < 4; i++)
        four[i] = _mm512_max_epu32(_mm512_unpacklo_epi64(two[2 * i], two[2 * i + 1]),
                                   _mm512_unpackhi_epi64(two[2 * i], two[2 * i + 1]));
    for (int i = 0; i < 2; i++) {
        t[2 * i] = _mm512_shuffle_i32x4(four[2 * i], four[2 * i + 1], 0x44);
        t[2 * i + 1] = _mm512_shuffle_i32x4(four[2 * i], four[2 * i + 1], 0xee);
        t[2 * i] = _mm512_max_epu32(t[2 * i], t[2 * i + 1]);
    }
    return _mm512_max_epu32(_mm512_shuffle_i32x4(t[0], t[2], 0x88),
                            _mm512_shuffle_i32x4(t[0], t[2], 0xdd));
}

static inline void sums_along(const __m512i v[LANES], const struct lanes_of_groups *g,
                              struct sums *sums)
{
    float factor4[LANES];
    _mm512_storeu_ps(factor4, g->factor4);
    for (size_t i = 0; i < LANES; i++) {
        __m512i fine = _mm512_setzero_si512(), coarse = fine;
        sum_four_bits(magnitude(v[i]), _mm512_set1_ps(factor4[i]), &fine, &coarse);
        __m512i shift = _mm512_permutexvar_epi32(_mm512_set1_epi32((int)i), g->shift);
        add_wide(sums->difference,
                 _mm512_sllv_epi32(_mm512_sub_epi32(fine, coarse), shift));
        add_wide(sums->coarse, _mm512_sllv_epi32(coarse, shift));
    }
}

/* 16 groups whose values are contiguous: register i of v is group i, its first value has
 * number first + number[i]. ret[i]: bytes of groups 4 i to 4 i + 3 as to_bytes orders
 * them. */
static inline __attribute__((always_inline)) __m512
block_along16(const struct sl_bfp_source *s, enum sl_bfp_round round,
              const __m512i v[LANES], uint64_t first, const uint64_t number[LANES],
              struct sums *sums, __m512i ret[4])
{
    float factor[LANES];
    struct lanes_of_groups g = groups_from(s, largest_of_each(v), extra_bits_of(round));
    struct rounding r = rounding_of(s, first, 1);
    r.round = round;
    _mm512_storeu_ps(factor, g.factor);
    if (s->sums != NULL)
        sums_along(v, &g, sums);
    for (size_t i = 0; i < 4; i++) {
        __m512i m[4];
        for (size_t j = 0; j < 4; j++)
            m[j] = convert(v[4 * i + j], _mm512_set1_ps(factor[4 * i + j]), &r,
                           number[4 * i + j]);
        ret[i] = to_bytes(m[0], m[1], m[2], m[3]);
    }
    return g.scale;
}

/* 16 rows of four quads to four quads of 16 rows. */
static inline void rows_to_quads(const __m128i row[LANES], __m512i ret[SL_BFP_QUADS])
{
    __m512i r[4];
    for (int i = 0; i < 4; i++) {
        r[i] = _mm512_castsi128_si512(row[i]);
        r[i] = _mm512_inserti32x4(r[i], row[i + 4], 1);
        r[i] = _mm512_inserti32x4(r[i], row[i + 8], 2);
        r[i] = _mm512_inserti32x4(r[i], row[i + 12], 3);
    }
    __m512i lo01 = _mm512_unpacklo_epi32(r[0], r[1]);
    __m512i hi01 = _mm512_unpackhi_epi32(r[0], r[1]);
    __m512i lo23 = _mm512_unpacklo_epi32(r[2], r[3]);
    __m512i hi23 = _mm512_unpackhi_epi32(r[2], r[3]);
    ret[0] = _mm512_unpacklo_epi64(lo01, lo23);
    ret[1] = _mm512_unpackhi_epi64(lo01, lo23);
    ret[2] = _mm512_unpacklo_epi64(hi01, hi23);
    ret[3] = _mm512_unpackhi_epi64(hi01, hi23);
}

/* The other way: register i holds rows i, i + 4, i + 8, i + 12. */
static inline void quads_to_rows(const __m512i q[SL_BFP_QUADS], __m512i ret[4])
{
    __m512i lo01 = _mm512_unpacklo_epi32(q[0], q[1]);
    __m512i hi01 = _mm512_unpackhi_epi32(q[0], q[1]);
    __m512i lo23 = _mm512_unpacklo_epi32(q[2], q[3]);
    __m512i hi23 = _mm512_unpackhi_epi32(q[2], q[3]);
    ret[0] = _mm512_unpacklo_epi64(lo01, lo23);
    ret[1] = _mm512_unpackhi_epi64(lo01, lo23);
    ret[2] = _mm512_unpacklo_epi64(hi01, hi23);
    ret[3] = _mm512_unpackhi_epi64(hi01, hi23);
}

static inline void store_quads(const __m512i q[SL_BFP_QUADS], __m512 scale,
                               const struct sl_bfp_columns *to, size_t at)
{
    __m512i pairs = _mm512_setzero_si512();
    for (int i = 0; i < SL_BFP_QUADS; i++) {
        _mm512_storeu_si512(to->mantissa + at * SL_BFP_PANEL_BYTES + i * 64, q[i]);
        pairs = _mm512_add_epi16(pairs, _mm512_maddubs_epi16(_mm512_set1_epi8(16), q[i]));
    }
    __m512i sum = _mm512_madd_epi16(pairs, _mm512_set1_epi16(-1));
    _mm512_storeu_si512(to->start + at * SL_BFP_PANEL, sum);
    _mm512_storeu_ps(to->scale + at * SL_BFP_PANEL, scale);
}

/* --- entries
 * --------------------------------------------------------------------------------- */

static inline __mmask16 below(size_t n)
{
    return n >= LANES ? 0xffff : (__mmask16)((1u << n) - 1);
}

static inline __attribute__((always_inline)) void
rows_across(const struct sl_bfp_source *s, enum sl_bfp_round round,
            const struct sl_bfp_rows *to, struct sums *sums)
{
    const __m512i offset = _mm512_set1_epi8(16);
    for (size_t line = 0; line < s->lines; line += LANES)
        for (size_t k = 0; k < s->k; k += LANES) {
            size_t lines = s->lines - line < LANES ? s->lines - line : LANES;
            size_t at = line * to->step + k / LANES;
            float scale[LANES];
            __m512i r[4];
            struct quads b =
                block_across16(s, round, line, below(lines), k, s->k - k, sums);
            if (to->mantissa == NULL)
                continue;
            quads_to_rows(b.q, r);
            _mm512_storeu_ps(scale, b.scale);
            uint8_t row[LANES][LANES];
            for (int i = 0; i < 4; i++) {
                r[i] = _mm512_add_epi8(r[i], offset);
                for (int l = 0; l < 4; l++)
                    memcpy(row[4 * l + i], (uint8_t *)&r[i] + 16 * l, LANES);
            }
            for (size_t i = 0; i < lines; i++) {
                memcpy(to->mantissa + (at + i * to->step) * LANES, row[i], LANES);
                to->scale[at + i * to->step] = scale[i];
            }
        }
}

/* Signed bytes of 16 groups in order, as rows' bytes. */
static inline void rows_in_order(__m512i r[4])
{
    const __m512i order =
        _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    for (int i = 0; i < 4; i++)
        r[i] =
            _mm512_add_epi8(_mm512_permutexvar_epi32(order, r[i]), _mm512_set1_epi8(16));
}

/* 16 full groups of a line, from group `group` on. */
static inline __attribute__((always_inline)) void
rows_of_line(const struct sl_bfp_source *s, enum sl_bfp_round round,
             const struct sl_bfp_rows *to, size_t line, size_t group, struct sums *sums)
{
    static const uint64_t number[LANES] = {0,   16,  32,  48,  64,  80,  96,  112,
                                           128, 144, 160, 176, 192, 208, 224, 240};
    const float *x = s->x + line * s->line_step + group * LANES;
    size_t at = line * to->step + group;
    __m512i v[LANES], r[4];
    for (size_t i = 0; i < LANES; i++)
        v[i] = _mm512_loadu_si512(x + i * LANES);
    __m512 scale = block_along16(
        s, round, v, s->first + line * s->number_step + group * LANES, number, sums, r);
    if (to->mantissa == NULL)
        return;
    rows_in_order(r);
    for (size_t i = 0; i < 4; i++)
        _mm512_storeu_si512(to->mantissa + (at + 4 * i) * LANES, r[i]);
    _mm512_storeu_ps(to->scale + at, scale);
}

/* Groups from `first` on of all lines, 16 at a time across the lines. */
static inline __attribute__((always_inline)) void
rows_of_ends(const struct sl_bfp_source *s, enum sl_bfp_round round,
             const struct sl_bfp_rows *to, size_t first, struct sums *sums)
{
    size_t groups = (s->k + LANES - 1) / LANES, line = 0, group = first;
    while (line < s->lines) {
        __m512i v[LANES], r[4];
        uint64_t number[LANES] = {0};
        size_t at[LANES], n = 0;
        float scale[LANES];
        for (; n < LANES && line < s->lines; n++) {
            size_t k = group * LANES;
            v[n] =
                _mm512_maskz_loadu_epi32(below(s->k - k), s->x + line * s->line_step + k);
            number[n] = line * s->number_step + k;
            at[n] = line * to->step + group;
            if (++group == groups) {
                group = first;
                line++;
            }
        }
        for (size_t i = n; i < LANES; i++)
            v[i] = _mm512_setzero_si512();
        __m512 scales = block_along16(s, round, v, s->first, number, sums, r);
        if (to->mantissa == NULL)
            continue;
        rows_in_order(r);
        _mm512_storeu_ps(scale, scales);
        for (size_t i = 0; i < n; i++) {
            memcpy(to->mantissa + at[i] * LANES, (uint8_t *)r + i * LANES, LANES);
            to->scale[at[i]] = scale[i];
        }
    }
}

static inline __attribute__((always_inline)) void
rows_along(const struct sl_bfp_source *s, enum sl_bfp_round round,
           const struct sl_bfp_rows *to, struct sums *sums)
{
    size_t inner = s->k / (LANES * LANES) * LANES; /* groups in blocks of 16 */
    for (size_t line = 0; line < s->lines; line++)
        for (size_t group = 0; group < inner; group += LANES)
            rows_of_line(s, round, to, line, group, sums);
    if (inner * LANES < s->k)
        rows_of_ends(s, round, to, inner, sums);
}

static inline __attribute__((always_inline)) void rows_by(const struct sl_bfp_source *s,
                                                          enum sl_bfp_round round,
                                                          const struct sl_bfp_rows *to,
                                                          struct sums *sums)
{
    if (s->line_step == 1)
        rows_across(s, round, to, sums);
    else
        rows_along(s, round, to, sums);
}

/* Four registers of four rows, as to_bytes orders them, to quads of 16 rows. */
static inline void bytes_to_quads(const __m512i r[4], __m512i ret[SL_BFP_QUADS])
{
    __m512i a = _mm512_shuffle_i32x4(r[0], r[1], 0x44);
    __m512i b = _mm512_shuffle_i32x4(r[0], r[1], 0xee);
    __m512i c = _mm512_shuffle_i32x4(r[2], r[3], 0x44);
    __m512i d = _mm512_shuffle_i32x4(r[2], r[3], 0xee);
    ret[0] = _mm512_shuffle_i32x4(a, c, 0x88);
    ret[1] = _mm512_shuffle_i32x4(a, c, 0xdd);
    ret[2] = _mm512_shuffle_i32x4(b, d, 0x88);
    ret[3] = _mm512_shuffle_i32x4(b, d, 0xdd);
}

/* A group of each of 16 lines, from x on; fewer lines or values: `mask` and zeros. */
static inline __attribute__((always_inline)) struct quads
quads_along(const struct sl_bfp_source *s, enum sl_bfp_round round, size_t line,
            size_t lines, size_t k, __mmask16 mask, struct sums *sums)
{
    const float *x = s->x + line * s->line_step + k;
    struct quads ret;
    __m512i v[LANES], r[4];
    uint64_t number[LANES];
    for (size_t i = 0; i < LANES; i++) {
        v[i] = i < lines ? _mm512_maskz_loadu_epi32(mask, x) : _mm512_setzero_si512();
        x += i + 1 < lines ? s->line_step : 0;
        number[i] = i * s->number_step;
    }
    ret.scale =
        block_along16(s, round, v, s->first + line * s->number_step + k, number, sums, r);
    bytes_to_quads(r, ret.q);
    return ret;
}

static inline __attribute__((always_inline)) void
columns_by(const struct sl_bfp_source *s, enum sl_bfp_round round,
           const struct sl_bfp_columns *to, struct sums *sums)
{
    for (size_t line = 0; line < s->lines; line += LANES)
        for (size_t k = 0; k < s->k; k += LANES) {
            size_t lines = s->lines - line, ks = s->k - k;
            struct quads b;
            if (s->line_step == 1)
                b = block_across16(s, round, line, below(lines), k, ks, sums);
            else if (lines >= LANES && ks >= LANES)
                b = quads_along(s, round, line, LANES, k, 0xffff, sums);
            else
                b = quads_along(s, round, line, lines, k, below(ks), sums);
            store_quads(b.q, b.scale, to,
                        line / LANES * to->groups + to->first + k / LANES);
        }
}

static struct sums sums_start(void)
{
    __m512i zero = _mm512_setzero_si512();
    return (struct sums){{zero, zero}, {zero, zero}};
}

/* Values beyond the limit lie only in tensors of the largest exponent. */
static enum sl_bfp_round way_of(const struct sl_bfp_source *s)
{
    if (s->round == SL_BFP_TRUNCATE && s->exponent_t < SL_BFP_EXPONENT_MAX)
        return TRUNCATE_PLAIN;
    return s->round;
}

static void pack_rows_avx512(const struct sl_bfp_source *s, const struct sl_bfp_rows *to)
{
    struct sums sums = sums_start();
    if (s->round == SL_BFP_GIVEN) {
        pack_rows(s, to);
        return;
    }
    switch (way_of(s)) {
    case TRUNCATE_PLAIN:
        rows_by(s, TRUNCATE_PLAIN, to, &sums);
        break;
    case SL_BFP_CTR:
        rows_by(s, SL_BFP_CTR, to, &sums);
        break;
    case SL_BFP_NEAREST:
        rows_by(s, SL_BFP_NEAREST, to, &sums);
        break;
    default:
        rows_by(s, SL_BFP_TRUNCATE, to, &sums);
        break;
    }
    sums_finish(s, &sums);
}

static void pack_columns_avx512(const struct sl_bfp_source *s,
                                const struct sl_bfp_columns *to)
{
    struct sums sums = sums_start();
    if (s->round == SL_BFP_GIVEN) {
        pack_columns(s, to);
        return;
    }
    switch (way_of(s)) {
    case TRUNCATE_PLAIN:
        columns_by(s, TRUNCATE_PLAIN, to, &sums);
        break;
    case SL_BFP_CTR:
        columns_by(s, SL_BFP_CTR, to, &sums);
        break;
    case SL_BFP_NEAREST:
        columns_by(s, SL_BFP_NEAREST, to, &sums);
        break;
    default:
        columns_by(s, SL_BFP_TRUNCATE, to, &sums);
        break;
    }
    sums_finish(s, &sums);
}

static void rows_to_columns_avx512(const struct sl_bfp_rows *from, size_t lines,
                                   size_t groups, const struct sl_bfp_columns *to)
{
    for (size_t line = 0; line < lines; line += LANES) {
        size_t n = lines - line < LANES ? lines - line : LANES;
        for (size_t g = 0; g < groups; g++) {
            __m128i row[LANES];
            float scale[LANES] = {0};
            __m512i q[SL_BFP_QUADS];
            for (size_t i = 0; i < LANES; i++) {
                row[i] = _mm_set1_epi8(16);
                if (i >= n)
                    continue;
                size_t at = (line + i) * from->step + g;
                row[i] = _mm_loadu_si128(
                    (const __m128i *)(const void *)(from->mantissa + at * LANES));
                scale[i] = from->scale[at];
            }
            rows_to_quads(row, q);
            for (int i = 0; i < SL_BFP_QUADS; i++)
                q[i] = _mm512_sub_epi8(q[i], _mm512_set1_epi8(16));
            store_quads(q, _mm512_loadu_ps(scale), to,
                        line / LANES * to->groups + to->first + g);
        }
    }
}

static inline __attribute__((always_inline)) void values_by(const struct sl_bfp_source *s,
                                                            enum sl_bfp_round round,
                                                            float *to, size_t k_step)
{
    for (size_t line = 0; line < s->lines; line += LANES) {
        __mmask16 mask = below(s->lines - line);
        __m512i v[SL_BFP_SHALLOW], max = _mm512_setzero_si512();
        for (size_t j = 0; j < s->k; j++) {
            v[j] = _mm512_maskz_loadu_epi32(mask, s->x + line + j * s->k_step);
            max = _mm512_max_epu32(max,
                                   _mm512_and_si512(v[j], _mm512_set1_epi32(ABS_BITS)));
        }
        struct lanes_of_groups g = groups_from(s, max, extra_bits_of(round));
        struct rounding r =
            rounding_of(s, s->first + line * s->number_step, s->number_step);
        r.round = round;
        for (size_t j = 0; j < s->k; j++)
            _mm512_mask_storeu_ps(
                to + line + j * k_step, mask,
                _mm512_mul_ps(_mm512_cvtepi32_ps(convert(v[j], g.factor, &r, j)),
                              g.scale));
    }
}

static void values_avx512(const struct sl_bfp_source *s, float *to, size_t k_step)
{
    if (s->k > SL_BFP_SHALLOW || s->sums != NULL)
        values(s, to, k_step);
    else if (way_of(s) == TRUNCATE_PLAIN && s->round == SL_BFP_TRUNCATE)
        values_by(s, TRUNCATE_PLAIN, to, k_step);
    else if (s->round == SL_BFP_TRUNCATE)
        values_by(s, SL_BFP_TRUNCATE, to, k_step);
    else
        values(s, to, k_step);
}

#define DIRECT_OUT 8 /* channels of y at a time, by up to two registers of a row */

/* One kernel position of one channel: the product is exact, so fusing rounds as adding.
 */
static inline __attribute__((always_inline)) void direct_tap1(const float *x,
                                                              const float *w, int outs,
                                                              int strips,
                                                              __m512 acc[DIRECT_OUT][2])
{
    __m512 v[2];
    UNROLL for (int i = 0; i < strips; i++) v[i] = _mm512_loadu_ps(x + i * LANES);
    UNROLL for (int o = 0; o < outs; o++)
    {
        __m512 w0 = _mm512_set1_ps(w[o]);
        UNROLL for (int i = 0; i < strips; i++) acc[o][i] =
            _mm512_fmadd_ps(v[i], w0, acc[o][i]);
    }
}

/* Of several channels: their sum is exact, adding it rounds. */
static inline __attribute__((always_inline)) void
direct_tap(const struct sl_bfp_direct *d, const float *x, const float *w, int outs,
           int strips, __m512 acc[DIRECT_OUT][2])
{
    UNROLL for (int o = 0; o < outs; o++) UNROLL for (int i = 0; i < strips; i++)
    {
        __m512 sum = _mm512_setzero_ps();
        for (size_t c = 0; c < d->channels; c++)
            sum = _mm512_fmadd_ps(_mm512_loadu_ps(x + c * d->plane + i * LANES),
                                  _mm512_set1_ps(w[c * d->out_c + (size_t)o]), sum);
        acc[o][i] = _mm512_add_ps(acc[o][i], sum);
    }
}

static inline __attribute__((always_inline)) void
direct_rows(const struct sl_bfp_direct *d, size_t o, int outs, int strips, bool one)
{
    const size_t kernel = d->kernel, width = d->width, step = d->channels * d->out_c;
    for (size_t y = 0; y < d->out_h; y++)
        for (size_t x = 0; x < d->out_w; x += (size_t)strips * LANES) {
            const float *row = d->x + y * width + x, *w = d->w + o;
            __m512 acc[DIRECT_OUT][2];
            UNROLL for (int i = 0; i < outs; i++) UNROLL for (int v = 0; v < strips; v++)
                acc[i][v] = _mm512_setzero_ps();
            for (size_t ky = 0; ky < kernel; ky++)
                for (size_t kx = 0; kx < kernel; kx++, w += step) {
                    if (one)
                        direct_tap1(row + ky * width + kx, w, outs, strips, acc);
                    else
                        direct_tap(d, row + ky * width + kx, w, outs, strips, acc);
                }
            UNROLL for (int i = 0; i < outs; i++) UNROLL for (int v = 0; v < strips; v++)
            {
                size_t at = x + (size_t)v * LANES;
                if (at < d->out_w)
                    _mm512_mask_storeu_ps(
                        d->y + ((o + (size_t)i) * d->out_h + y) * d->out_w + at,
                        below(d->out_w - at), acc[i][v]);
            }
        }
}

static inline __attribute__((always_inline)) void
direct_all(const struct sl_bfp_direct *d, bool one)
{
    size_t o = 0;
    for (; o + DIRECT_OUT <= d->out_c; o += DIRECT_OUT)
        if (d->out_w > LANES)
            direct_rows(d, o, DIRECT_OUT, 2, one);
        else
            direct_rows(d, o, DIRECT_OUT, 1, one);
    if (o + 6 <= d->out_c) {
        direct_rows(d, o, 6, 2, one);
        o += 6;
    }
    for (; o < d->out_c; o++)
        direct_rows(d, o, 1, 2, one);
}

static void direct_avx512(const struct sl_bfp_direct *d)
{
    if (d->channels == 1)
        direct_all(d, true);
    else
        direct_all(d, false);
}

/* A square of 16 x 16. */
static inline void transpose_square(const float *from, size_t ld_from, __mmask16 cols,
                                    size_t rows, float *to, size_t ld_to, size_t n)
{
    __m512 r[LANES], t[LANES];
    for (size_t i = 0; i < LANES; i++)
        r[i] = i < rows ? _mm512_maskz_loadu_ps(cols, from + i * ld_from)
                        : _mm512_setzero_ps();
    for (int i = 0; i < LANES; i += 2) {
        t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
    }
    for (int i = 0; i < LANES; i += 4)
        for (int h = 0; h < 2; h++) {
            __m512d a = _mm512_castps_pd(t[i + h]), b = _mm512_castps_pd(t[i + 2 + h]);
            r[i + 2 * h] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
            r[i + 2 * h + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
        }
    for (int j = 0; j < 4;
         j++) { /* column 4 l + j of rows 4 i.. in lane l of r[4 i + j] */
        __m512 a = _mm512_shuffle_f32x4(r[j], r[4 + j], 0x44);
        __m512 b = _mm512_shuffle_f32x4(r[j], r[4 + j], 0xee);
        __m512 c = _mm512_shuffle_f32x4(r[8 + j], r[12 + j], 0x44);
        __m512 d = _mm512_shuffle_f32x4(r[8 + j], r[12 + j], 0xee);
        t[j] = _mm512_shuffle_f32x4(a, c, 0x88);
        t[4 + j] = _mm512_shuffle_f32x4(a, c, 0xdd);
        t[8 + j] = _mm512_shuffle_f32x4(b, d, 0x88);
        t[12 + j] = _mm512_shuffle_f32x4(b, d, 0xdd);
    }
    for (size_t j = 0; j < n; j++)
        _mm512_mask_storeu_ps(to + j * ld_to, below(rows), t[j]);
}

static void transpose_avx512(const float *from, size_t rows, size_t cols, size_t ld_from,
                             float *to, size_t ld_to)
{
    for (size_t j = 0; j < cols; j += LANES)
        for (size_t i = 0; i < rows; i += LANES) {
            size_t n = cols - j < LANES ? cols - j : LANES;
            transpose_square(from + i * ld_from + j, ld_from, below(cols - j), rows - i,
                             to + j * ld_to + i, ld_to, n);
        }
}

const struct sl_bfp_ops sl_bfp_ops_avx512 = {
    .largest = largest,
    .pack_rows = pack_rows_avx512,
    .pack_columns = pack_columns_avx512,
    .rows_to_columns = rows_to_columns_avx512,
    .product = product_tiles,
    .values = values_avx512,
    .direct = direct_avx512,
    .transpose = transpose_avx512,
    .pack_wide = pack_wide,
    .product_wide = product_wide,
};
