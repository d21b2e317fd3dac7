/* SPDX-License-Identifier: Apache-2.0 */
/* bfp_pack_avx2.h - conversion into the narrow form by 8 lanes of AVX2. A block is one
 * group of each of eight lines: half a panel. Lines that lie side by side go lane by
 * lane; lines that are contiguous in themselves take their largest values through a tree
 * of shuffles. For bfp_ops_avx2.c, behind bfp_body.h. */
#include <immintrin.h>

#define HALF 8 /* lines of a block */

static inline __m256i load_ints(const void *p)
{
    return _mm256_loadu_si256((const __m256i *)p);
}

/* --- groups
 * ---------------------------------------------------------------------------------- */

/* What eight groups need, by lane. */
struct lanes_of_groups {
    __m256 factor, scale, factor4;
    __m256i shift;
};

/* Truncation without clamping multiplies to the kept bits at once; noise keeps eight
 * more. */
static inline struct lanes_of_groups groups_from(const struct sl_bfp_source *s,
                                                 __m256i max, int extra_bits)
{
    struct lanes_of_groups r;
    int32_t m = (int32_t)s->m, least = BIAS + s->exponent_t - (int32_t)s->code_max;
    __m256i field = _mm256_srli_epi32(max, 23);
    __m256i any = _mm256_cmpgt_epi32(field, _mm256_set1_epi32(LEAST_FIELD - 1));
    field = _mm256_min_epi32(field, _mm256_set1_epi32(LARGEST_FIELD));
    field = _mm256_max_epi32(field, _mm256_set1_epi32(least));
    __m256i f = _mm256_sub_epi32(_mm256_set1_epi32(2 * BIAS + m - 1 + extra_bits), field);
    __m256i c = _mm256_sub_epi32(field, _mm256_set1_epi32(m - 1));
    __m256i f4 = _mm256_sub_epi32(_mm256_set1_epi32(2 * BIAS + 3), field);
    r.factor = _mm256_castsi256_ps(_mm256_and_si256(any, _mm256_slli_epi32(f, 23)));
    r.scale = _mm256_castsi256_ps(_mm256_and_si256(any, _mm256_slli_epi32(c, 23)));
    r.factor4 = _mm256_castsi256_ps(_mm256_and_si256(any, _mm256_slli_epi32(f4, 23)));
    r.shift = _mm256_and_si256(any, _mm256_sub_epi32(field, _mm256_set1_epi32(least)));
    return r;
}

/* Sums while a call runs, four lanes each. */
struct sums {
    __m256i difference, coarse;
};

static inline __m256i add_wide(__m256i acc, __m256i v)
{
    acc = _mm256_add_epi64(acc, _mm256_cvtepi32_epi64(_mm256_castsi256_si128(v)));
    return _mm256_add_epi64(acc, _mm256_cvtepi32_epi64(_mm256_extracti128_si256(v, 1)));
}

/* |x|, limited. */
static inline __m256i magnitude(__m256i v)
{
    return _mm256_min_epu32(_mm256_and_si256(v, _mm256_set1_epi32(ABS_BITS)),
                            _mm256_set1_epi32((int)LARGEST_BITS));
}

/* Truncated four-bit magnitudes of |x|: fine += all, coarse += without the low two bits.
 */
static inline void sum_four_bits(__m256i v, __m256 factor4, __m256i *fine,
                                 __m256i *coarse)
{
    __m256 x = _mm256_castsi256_ps(magnitude(v));
    __m256i t = _mm256_cvttps_epi32(_mm256_mul_ps(x, factor4));
    *fine = _mm256_add_epi32(*fine, t);
    *coarse = _mm256_add_epi32(*coarse, _mm256_and_si256(t, _mm256_set1_epi32(~3)));
}

static int64_t add_lanes(__m256i v)
{
    int64_t lane[4];
    _mm256_storeu_si256((__m256i *)(void *)lane, v);
    return lane[0] + lane[1] + lane[2] + lane[3];
}

static void sums_finish(const struct sl_bfp_source *s, const struct sums *t)
{
    if (s->sums == NULL)
        return;
    s->sums->difference += add_lanes(t->difference);
    s->sums->coarse += add_lanes(t->coarse);
}

/* --- one register of values
 * ------------------------------------------------------------------ */

/* Products of 64 bits with c, in each 64-bit lane; crossed: c with its halves exchanged.
 */
static inline __m256i times(__m256i z, __m256i c, __m256i crossed)
{
    __m256i cross = _mm256_mullo_epi32(z, crossed);
    cross = _mm256_add_epi32(cross, _mm256_srli_epi64(cross, 32));
    return _mm256_add_epi32(_mm256_mul_epu32(z, c), _mm256_slli_epi64(cross, 32));
}

/* splitmix64's mix of four counters, without the add of its step. */
static inline __m256i mixed(__m256i z)
{
    const __m256i m1 = _mm256_set1_epi64x((long long)0xbf58476d1ce4e5b9u);
    const __m256i x1 = _mm256_set1_epi64x((long long)0x1ce4e5b9bf58476du);
    const __m256i m2 = _mm256_set1_epi64x((long long)0x94d049bb133111ebu);
    const __m256i x2 = _mm256_set1_epi64x((long long)0x133111eb94d049bbu);
    z = times(_mm256_xor_si256(z, _mm256_srli_epi64(z, 30)), m1, x1);
    return times(_mm256_xor_si256(z, _mm256_srli_epi64(z, 27)), m2, x2);
}

struct rounding {
    enum sl_bfp_round round;
    __m256i lo,
        hi;      /* counters of lanes 0 1 4 5 and 2 3 6 7, splitmix64's step included */
    __m256i top; /* 2^m - 1 */
};

static inline struct rounding rounding_of(const struct sl_bfp_source *s,
                                          enum sl_bfp_round round, uint64_t step)
{
    struct rounding r = {.round = round, .top = _mm256_set1_epi32((1 << s->m) - 1)};
    long long base = (long long)(s->key + s->first + 0x9e3779b97f4a7c15u);
    long long by = (long long)step;
    r.lo = _mm256_add_epi64(_mm256_set1_epi64x(base),
                            _mm256_setr_epi64x(0, by, 4 * by, 5 * by));
    r.hi = _mm256_add_epi64(r.lo, _mm256_set1_epi64x(2 * by));
    return r;
}

/* Noise of eight lanes; `ahead` is added to the counters. */
static inline __m256i noise_of(const struct rounding *r, uint64_t ahead)
{
    __m256i by = _mm256_set1_epi64x((long long)ahead);
    __m256 lo = _mm256_castsi256_ps(mixed(_mm256_add_epi64(r->lo, by)));
    __m256 hi = _mm256_castsi256_ps(mixed(_mm256_add_epi64(r->hi, by)));
    return _mm256_srli_epi32(_mm256_castps_si256(_mm256_shuffle_ps(lo, hi, 0xdd)), 24);
}

/* Truncation of a tensor without values beyond the limit needs neither clamp nor sign. */
#define TRUNCATE_PLAIN SL_BFP_GIVEN

/* Signed mantissas of v. */
static inline __attribute__((always_inline)) __m256i
convert(__m256i v, __m256 factor, const struct rounding *r, uint64_t ahead)
{
    if (r->round == TRUNCATE_PLAIN)
        return _mm256_cvttps_epi32(_mm256_mul_ps(_mm256_castsi256_ps(v), factor));
    __m256 a = _mm256_castsi256_ps(magnitude(v));
    __m256i t = _mm256_cvttps_epi32(_mm256_mul_ps(a, factor));
    if (r->round != SL_BFP_TRUNCATE) {
        __m256i noise =
            r->round == SL_BFP_CTR ? noise_of(r, ahead) : _mm256_set1_epi32(128);
        t = _mm256_srli_epi32(_mm256_add_epi32(t, noise), 8);
        t = _mm256_min_epi32(t, r->top);
    }
    return _mm256_sign_epi32(t, v); /* where v is +0, t is 0 */
}

static inline int extra_bits_of(enum sl_bfp_round round)
{
    return round == SL_BFP_TRUNCATE || round == TRUNCATE_PLAIN ? 0 : 8;
}

/* --- blocks
 * ---------------------------------------------------------------------------------- */

/* Sign bits of the first n lanes. */
static inline __m256i lanes_below(size_t n)
{
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n < HALF ? (int)n : HALF), lane);
}

static inline __m256i load_lanes(const float *x, __m256i mask, bool full)
{
    return full ? load_ints(x) : _mm256_castps_si256(_mm256_maskload_ps(x, mask));
}

/* Words of four rows a 128-bit lane, transposed in it: rows to quads and back. */
static inline void transpose_words(__m256i r[4])
{
    __m256i lo01 = _mm256_unpacklo_epi32(r[0], r[1]);
    __m256i hi01 = _mm256_unpackhi_epi32(r[0], r[1]);
    __m256i lo23 = _mm256_unpacklo_epi32(r[2], r[3]);
    __m256i hi23 = _mm256_unpackhi_epi32(r[2], r[3]);
    r[0] = _mm256_unpacklo_epi64(lo01, lo23);
    r[1] = _mm256_unpackhi_epi64(lo01, lo23);
    r[2] = _mm256_unpacklo_epi64(hi01, hi23);
    r[3] = _mm256_unpackhi_epi64(hi01, hi23);
}

/* Lines side by side: x[k][line], up to `lines` of eight and `ks` of 16. ret: signed
 * bytes [quad][line][k]. Returns scales. */
static inline __attribute__((always_inline)) __m256
eight_across(const struct sl_bfp_source *s, enum sl_bfp_round round, size_t line,
             size_t lines, size_t k, size_t ks, struct sums *sums, __m256i ret[4])
{
    const __m256i order = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    const __m256i abs = _mm256_set1_epi32(ABS_BITS), zero = _mm256_setzero_si256();
    const float *x = s->x + line + k * s->k_step;
    uint64_t number = line * s->number_step + k;
    struct rounding r = rounding_of(s, round, s->number_step);
    __m256i v[LANES], max = zero, mask = lanes_below(lines);
    for (size_t j = 0; j < LANES; j++) {
        v[j] = j < ks ? load_lanes(x + j * s->k_step, mask, lines >= HALF) : zero;
        max = _mm256_max_epu32(max, _mm256_and_si256(v[j], abs));
    }
    struct lanes_of_groups g = groups_from(s, max, extra_bits_of(round));
    if (s->sums != NULL) {
        __m256i fine = zero, coarse = zero;
        for (size_t j = 0; j < LANES; j++)
            sum_four_bits(v[j], g.factor4, &fine, &coarse);
        fine = _mm256_sllv_epi32(_mm256_sub_epi32(fine, coarse), g.shift);
        sums->difference = add_wide(sums->difference, fine);
        sums->coarse = add_wide(sums->coarse, _mm256_sllv_epi32(coarse, g.shift));
    }
    for (size_t q = 0; q < SL_BFP_QUADS; q++) {
        __m256i m[4];
        for (size_t j = 0; j < 4; j++)
            m[j] = convert(v[q * 4 + j], g.factor, &r, number + q * 4 + j);
        ret[q] = _mm256_packs_epi16(_mm256_packs_epi32(m[0], m[1]),
                                    _mm256_packs_epi32(m[2], m[3]));
        ret[q] = _mm256_shuffle_epi8(ret[q], order);
    }
    return g.scale;
}

/* Largest |x| of eight groups, by group. */
static inline __m256i largest_of_each(const __m256i v[HALF][2])
{
    const __m256i abs = _mm256_set1_epi32(ABS_BITS);
    __m256i one[HALF], two[4], four[2];
    for (int i = 0; i < HALF; i++)
        one[i] = _mm256_max_epu32(_mm256_and_si256(v[i][0], abs),
                                  _mm256_and_si256(v[i][1], abs));
    for (int i = 0; i < 4; i++)
        two[i] = _mm256_max_epu32(_mm256_unpacklo_epi32(one[2 * i], one[2 * i + 1]),
                                  _mm256_unpackhi_epi32(one[2 * i], one[2 * i + 1]));
    for (int i = 0; i < 2; i++)
        four[i] = _mm256_max_epu32(_mm256_unpacklo_epi64(two[2 * i], two[2 * i + 1]),
                                   _mm256_unpackhi_epi64(two[2 * i], two[2 * i + 1]));
    return _mm256_max_epu32(_mm256_permute2x128_si256(four[0], four[1], 0x20),
                            _mm256_permute2x128_si256(four[0], four[1], 0x31));
}

static inline void sums_along(const __m256i v[HALF][2], const struct lanes_of_groups *g,
                              struct sums *sums)
{
    float factor4[HALF];
    __m256i difference = _mm256_setzero_si256(), coarse = difference;
    _mm256_storeu_ps(factor4, g->factor4);
    for (int i = 0; i < HALF; i++) {
        __m256i all = _mm256_setzero_si256(), upper = all;
        __m256i shift = _mm256_permutevar8x32_epi32(g->shift, _mm256_set1_epi32(i));
        for (int h = 0; h < 2; h++)
            sum_four_bits(v[i][h], _mm256_set1_ps(factor4[i]), &all, &upper);
        difference = _mm256_add_epi32(
            difference, _mm256_sllv_epi32(_mm256_sub_epi32(all, upper), shift));
        coarse = _mm256_add_epi32(coarse, _mm256_sllv_epi32(upper, shift));
    }
    sums->difference = add_wide(sums->difference, difference);
    sums->coarse = add_wide(sums->coarse, coarse);
}

/* Eight groups whose values are contiguous; the first of group i has number[i] above the
 * source's. ret[i]: signed bytes of group i, and of group i + 4 in the upper half. */
static inline __attribute__((always_inline)) __m256
eight_along(const struct sl_bfp_source *s, enum sl_bfp_round round,
            const __m256i v[HALF][2], const uint64_t number[HALF], struct sums *sums,
            __m256i ret[4])
{
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    float factor[HALF];
    struct lanes_of_groups g = groups_from(s, largest_of_each(v), extra_bits_of(round));
    struct rounding r = rounding_of(s, round, 1);
    _mm256_storeu_ps(factor, g.factor);
    if (s->sums != NULL)
        sums_along(v, &g, sums);
    for (size_t i = 0; i < 4; i++) {
        __m256i pairs[2];
        for (size_t h = 0; h < 2; h++) {
            size_t at = i + 4 * h;
            __m256 f = _mm256_set1_ps(factor[at]);
            pairs[h] = _mm256_packs_epi32(convert(v[at][0], f, &r, number[at]),
                                          convert(v[at][1], f, &r, number[at] + HALF));
        }
        ret[i] =
            _mm256_permutevar8x32_epi32(_mm256_packs_epi16(pairs[0], pairs[1]), order);
    }
    return g.scale;
}

/* Up to 16 values from x on. */
static inline void load_group(const float *x, size_t n, __m256i ret[2])
{
    if (n >= LANES) {
        ret[0] = load_ints(x);
        ret[1] = load_ints(x + HALF);
    } else {
        ret[0] = load_lanes(x, lanes_below(n), false);
        ret[1] = n <= HALF ? _mm256_setzero_si256()
                           : load_lanes(x + HALF, lanes_below(n - HALF), false);
    }
}

/* --- rows
 * ------------------------------------------------------------------------------------ */

/* Group i < n of a block, n <= 8, becomes row group at[i]. */
static inline void store_rows(const __m256i r[4], __m256 scale, size_t n,
                              const size_t at[HALF], const struct sl_bfp_rows *to)
{
    float scales[HALF];
    __m128i row[HALF];
    _mm256_storeu_ps(scales, scale);
    for (int i = 0; i < 4; i++) {
        __m256i bytes = _mm256_add_epi8(r[i], _mm256_set1_epi8(16));
        row[i] = _mm256_castsi256_si128(bytes);
        row[i + 4] = _mm256_extracti128_si256(bytes, 1);
    }
    for (size_t i = 0; i < n; i++) {
        _mm_storeu_si128((__m128i *)(void *)(to->mantissa + at[i] * LANES), row[i]);
        to->scale[at[i]] = scales[i];
    }
}

static inline __attribute__((always_inline)) void
rows_across(const struct sl_bfp_source *s, enum sl_bfp_round round,
            const struct sl_bfp_rows *to, struct sums *sums)
{
    for (size_t line = 0; line < s->lines; line += HALF)
        for (size_t k = 0; k < s->k; k += LANES) {
            size_t lines = s->lines - line < HALF ? s->lines - line : HALF;
            size_t at[HALF];
            __m256i q[SL_BFP_QUADS];
            __m256 scale = eight_across(s, round, line, lines, k, s->k - k, sums, q);
            if (to->mantissa == NULL)
                continue;
            for (size_t i = 0; i < HALF; i++)
                at[i] = (line + i) * to->step + k / LANES;
            transpose_words(q);
            store_rows(q, scale, lines, at, to);
        }
}

/* Groups in order, eight at a time across the ends of lines. */
static inline __attribute__((always_inline)) void
rows_along(const struct sl_bfp_source *s, enum sl_bfp_round round,
           const struct sl_bfp_rows *to, struct sums *sums)
{
    size_t line = s->k == 0 ? s->lines : 0, k = 0;
    while (line < s->lines) {
        __m256i v[HALF][2], r[4];
        uint64_t number[HALF] = {0};
        size_t at[HALF] = {0}, n = 0;
        for (; n < HALF && line < s->lines; n++) {
            load_group(s->x + line * s->line_step + k, s->k - k, v[n]);
            number[n] = line * s->number_step + k;
            at[n] = line * to->step + k / LANES;
            k += LANES;
            if (k >= s->k) {
                k = 0;
                line++;
            }
        }
        for (size_t i = n; i < HALF; i++)
            v[i][0] = v[i][1] = _mm256_setzero_si256();
        __m256 scale = eight_along(s, round, v, number, sums, r);
        if (to->mantissa != NULL)
            store_rows(r, scale, n, at, to);
    }
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

/* --- columns
 * --------------------------------------------------------------------------------- */

/* Half a panel's group: `at` counts groups of panels, `half` is 0 or 1. */
static inline void store_quads(const __m256i q[SL_BFP_QUADS], __m256 scale,
                               const struct sl_bfp_columns *to, size_t at, size_t half)
{
    int8_t *m = to->mantissa + at * SL_BFP_PANEL_BYTES + half * HALF * 4;
    size_t lane = at * SL_BFP_PANEL + half * HALF;
    __m256i pairs = _mm256_setzero_si256();
    for (int i = 0; i < SL_BFP_QUADS; i++) {
        _mm256_storeu_si256((__m256i *)(void *)(m + i * SL_BFP_PANEL * 4), q[i]);
        pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(_mm256_set1_epi8(16), q[i]));
    }
    __m256i sum = _mm256_madd_epi16(pairs, _mm256_set1_epi16(-1));
    _mm256_storeu_si256((__m256i *)(void *)(to->start + lane), sum);
    _mm256_storeu_ps(to->scale + lane, scale);
}

/* A group of each of eight lines that are contiguous in themselves. */
static inline __attribute__((always_inline)) __m256
quads_along(const struct sl_bfp_source *s, enum sl_bfp_round round, size_t line,
            size_t lines, size_t k, struct sums *sums, __m256i ret[SL_BFP_QUADS])
{
    __m256i v[HALF][2];
    uint64_t number[HALF];
    for (size_t i = 0; i < HALF; i++) {
        number[i] = (line + i) * s->number_step + k;
        if (i < lines)
            load_group(s->x + (line + i) * s->line_step + k, s->k - k, v[i]);
        else
            v[i][0] = v[i][1] = _mm256_setzero_si256();
    }
    __m256 scale = eight_along(s, round, v, number, sums, ret);
    transpose_words(ret);
    return scale;
}

static inline __attribute__((always_inline)) void
columns_by(const struct sl_bfp_source *s, enum sl_bfp_round round,
           const struct sl_bfp_columns *to, struct sums *sums)
{
    size_t end = (s->lines + SL_BFP_PANEL - 1) / SL_BFP_PANEL * SL_BFP_PANEL;
    for (size_t line = 0; line < end; line += HALF)
        for (size_t k = 0; k < s->k; k += LANES) {
            size_t lines = line < s->lines ? s->lines - line : 0;
            size_t at = line / SL_BFP_PANEL * to->groups + to->first + k / LANES;
            __m256i q[SL_BFP_QUADS] = {_mm256_setzero_si256()};
            __m256 scale;
            if (s->line_step == 1)
                scale = eight_across(s, round, line, lines, k, s->k - k, sums, q);
            else
                scale = quads_along(s, round, line, lines, k, sums, q);
            store_quads(q, scale, to, at, line / HALF % 2);
        }
}

static void rows_to_columns_avx2(const struct sl_bfp_rows *from, size_t lines,
                                 size_t groups, const struct sl_bfp_columns *to)
{
    size_t end = (lines + SL_BFP_PANEL - 1) / SL_BFP_PANEL * SL_BFP_PANEL;
    for (size_t line = 0; line < end; line += HALF)
        for (size_t g = 0; g < groups; g++) {
            __m128i row[HALF];
            __m256i q[4];
            float scale[HALF] = {0};
            for (size_t i = 0; i < HALF; i++) {
                row[i] = _mm_set1_epi8(16);
                if (line + i >= lines)
                    continue;
                size_t at = (line + i) * from->step + g;
                const void *bytes = from->mantissa + at * LANES;
                row[i] = _mm_loadu_si128((const __m128i *)bytes);
                scale[i] = from->scale[at];
            }
            for (int i = 0; i < 4; i++) {
                q[i] = _mm256_setr_m128i(row[i], row[i + 4]);
                q[i] = _mm256_sub_epi8(q[i], _mm256_set1_epi8(16));
            }
            transpose_words(q);
            store_quads(q, _mm256_loadu_ps(scale), to,
                        line / SL_BFP_PANEL * to->groups + to->first + g,
                        line / HALF % 2);
        }
}

/* --- entries
 * --------------------------------------------------------------------------------- */

/* Values beyond the limit lie only in tensors of the largest exponent. */
static enum sl_bfp_round way_of(const struct sl_bfp_source *s)
{
    if (s->round == SL_BFP_TRUNCATE && s->exponent_t < SL_BFP_EXPONENT_MAX)
        return TRUNCATE_PLAIN;
    return s->round;
}

static void pack_rows_avx2(const struct sl_bfp_source *s, const struct sl_bfp_rows *to)
{
    struct sums sums = {_mm256_setzero_si256(), _mm256_setzero_si256()};
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

static void pack_columns_avx2(const struct sl_bfp_source *s,
                              const struct sl_bfp_columns *to)
{
    struct sums sums = {_mm256_setzero_si256(), _mm256_setzero_si256()};
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
