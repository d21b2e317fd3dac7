/* SPDX-License-Identifier: Apache-2.0 */
/* bfp_body.h - the packed forms by plain loops over 16 lanes, written so that compilers
 * vectorise them. A file that includes it makes its table of these functions.
 * t = significand >> shift is |x| 2^(m + 7 - E') without its fraction: the product with a
 * power of two is exact where it is 1 or more, and below that t is 0 either way. */
#include <string.h>

#include "accel/kernels/bfp_ops.h"

#define LANES SL_BFP_GROUP
/* Before a loop over registers: up to eight of them. */
#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 8")
#endif
#define BIAS 127
#define ABS_BITS 0x7fffffffu
#define LEAST_FIELD (BIAS - SL_BFP_EXPONENT_MAX) /* of a group that is not zeros */
#define LARGEST_FIELD (BIAS + SL_BFP_EXPONENT_MAX)
#define LARGEST_BITS (((uint32_t)LARGEST_FIELD << 23) | 0x7fffffu)

static inline uint32_t bits_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof(bits));
    return bits;
}

static inline float float_of(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof(x));
    return x;
}

/* Of numbers below 2^31: compared as signed ones, which every instruction set can. */
static inline uint32_t larger(uint32_t a, uint32_t b)
{
    return (int32_t)a > (int32_t)b ? a : b;
}

static inline uint32_t smaller(uint32_t a, uint32_t b)
{
    return (int32_t)a < (int32_t)b ? a : b;
}

static uint32_t largest(const float *x, size_t n)
{
    uint32_t max = 0;
    for (size_t i = 0; i < n; i++)
        max = larger(max, bits_of(x[i]) & ABS_BITS);
    return max;
}

/* 2^e as a float, and 0 for a group of zeros. */
static inline float power(int32_t e, uint32_t zero)
{
    return float_of(zero ? 0u : (uint32_t)(e + BIAS) << 23);
}

/* Biased E' of a group whose largest |x| has these bits. */
static inline uint32_t group_field(const struct sl_bfp_source *s, uint32_t largest_bits)
{
    uint32_t own = smaller(largest_bits >> 23, LARGEST_FIELD);
    uint32_t least = (uint32_t)((int32_t)BIAS + s->exponent_t + 256) - s->code_max;
    return larger(own + 256, least) - 256; /* code_max may exceed the bias */
}

static inline uint32_t is_zeros(uint32_t largest_bits)
{
    return largest_bits >> 23 < LEAST_FIELD;
}

static inline uint32_t mixed_byte(uint64_t z)
{
    z += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (uint32_t)(z >> 56); /* the last step of splitmix64 leaves the upper byte */
}

/* 16 values of one line or of 16 lines, and what they become. */
struct strip {
    float x[LANES];
    int32_t v[LANES];
};

static inline void strip_load(struct strip *t, const float *x, size_t n, size_t step)
{
    if (n == LANES && step == 1) {
        memcpy(t->x, x, sizeof(t->x));
        return;
    }
    memset(t->x, 0, sizeof(t->x));
    if (step == 1)
        memcpy(t->x, x, n * sizeof(*x));
    else
        for (size_t i = 0; i < n; i++)
            t->x[i] = x[i * step];
}

static inline void strip_noise(const struct sl_bfp_source *s, uint64_t number,
                               uint64_t step, size_t n, uint32_t ret[LANES])
{
    memset(ret, 0, LANES * sizeof(*ret));
    if (s->round == SL_BFP_CTR)
        for (size_t i = 0; i < LANES; i++)
            ret[i] = mixed_byte(s->key + number + i * step);
    else if (s->round == SL_BFP_GIVEN)
        for (size_t i = 0; i < n; i++)
            ret[i] = s->given[number + i * step];
    else if (s->round == SL_BFP_NEAREST)
        for (size_t i = 0; i < LANES; i++)
            ret[i] = 128;
}

/* Factors: x of lane i times factor[i] is its t with eight bits below the kept ones. */
static inline void strip_convert(const struct sl_bfp_source *s, struct strip *t,
                                 const float factor[LANES], const uint32_t noise[LANES])
{
    const int32_t top = (1 << s->m) - 1;
    for (size_t i = 0; i < LANES; i++) {
        float a = float_of(smaller(bits_of(t->x[i]) & ABS_BITS, LARGEST_BITS));
        int32_t v = ((int32_t)(a * factor[i]) + (int32_t)noise[i]) >> 8;
        v = v < top ? v : top;
        int32_t sign = -(int32_t)(bits_of(t->x[i]) >> 31);
        t->v[i] = (v ^ sign) - sign;
    }
}

/* Shares of the sums, shifted to the common step: field is E' biased, f8 the factor of
 * m = 8 - 7, that is 2^(3 - E') for four kept bits. */
static inline void strip_sums(const struct sl_bfp_source *s, const struct strip *t,
                              const float factor4[LANES], const uint32_t shift[LANES])
{
    int64_t difference = 0, coarse = 0;
    for (size_t i = 0; i < LANES; i++) {
        float a = float_of(smaller(bits_of(t->x[i]) & ABS_BITS, LARGEST_BITS));
        int32_t v = (int32_t)(a * factor4[i]);
        difference += (v & 3) << shift[i];
        coarse += (v & ~3) << shift[i];
    }
    s->sums->difference += difference;
    s->sums->coarse += coarse;
}

/* What the groups of a block need, by lane. */
struct group_lanes {
    float factor[LANES], scale[LANES], factor4[LANES];
    uint32_t shift[LANES];
};

static inline void groups_of(const struct sl_bfp_source *s, const uint32_t max[LANES],
                             struct group_lanes *ret)
{
    for (size_t i = 0; i < LANES; i++) {
        int32_t e = (int32_t)group_field(s, max[i]) - BIAS;
        uint32_t zero = is_zeros(max[i]);
        ret->factor[i] = power((int32_t)s->m + 7 - e, zero);
        ret->scale[i] = power(e - (int32_t)s->m + 1, zero);
        ret->factor4[i] = power(3 - e, zero);
        ret->shift[i] =
            zero ? 0 : (uint32_t)(e - s->exponent_t + (int32_t)s->code_max) & 31;
    }
}

static inline void spread(const struct group_lanes *g, size_t lane,
                          struct group_lanes *ret)
{
    for (size_t i = 0; i < LANES; i++) {
        ret->factor[i] = g->factor[lane];
        ret->factor4[i] = g->factor4[lane];
        ret->shift[i] = g->shift[lane];
    }
}

/* A group of each of up to 16 lines: mantissas [line][k]. */
struct block {
    int8_t v[LANES][LANES];
    float scale[LANES];
};

static void block_across(const struct sl_bfp_source *s, size_t line, size_t lines,
                         size_t k, size_t ks, struct block *ret)
{
    struct strip t[LANES];
    struct group_lanes g;
    uint32_t max[LANES] = {0}, noise[LANES];
    for (size_t j = 0; j < LANES; j++) {
        strip_load(&t[j], s->x + line * s->line_step + (k + j) * s->k_step,
                   j < ks ? lines : 0, s->line_step);
        for (size_t i = 0; i < LANES; i++)
            max[i] = larger(max[i], bits_of(t[j].x[i]) & ABS_BITS);
    }
    groups_of(s, max, &g);
    for (size_t j = 0; j < LANES; j++) {
        strip_noise(s, s->first + line * s->number_step + k + j, s->number_step,
                    j < ks ? lines : 0, noise);
        strip_convert(s, &t[j], g.factor, noise);
        if (s->sums != NULL)
            strip_sums(s, &t[j], g.factor4, g.shift);
    }
    for (size_t q = 0; q < LANES; q += 4) { /* four values of a line make a word */
        uint32_t word[LANES];
        for (size_t i = 0; i < LANES; i++)
            word[i] =
                ((uint32_t)t[q].v[i] & 0xff) | ((uint32_t)t[q + 1].v[i] & 0xff) << 8 |
                ((uint32_t)t[q + 2].v[i] & 0xff) << 16 | (uint32_t)t[q + 3].v[i] << 24;
        for (size_t i = 0; i < LANES; i++)
            for (size_t b = 0; b < 4; b++)
                ret->v[i][q + b] = (int8_t)(word[i] >> (8 * b));
    }
    memcpy(ret->scale, g.scale, sizeof(ret->scale));
}

static void block_along(const struct sl_bfp_source *s, size_t line, size_t lines,
                        size_t k, size_t ks, struct block *ret)
{
    struct strip t[LANES];
    struct group_lanes g, own;
    uint32_t max[LANES] = {0}, noise[LANES];
    for (size_t i = 0; i < LANES; i++) {
        strip_load(&t[i], s->x + (line + i) * s->line_step + k, i < lines ? ks : 0, 1);
        for (size_t j = 0; j < LANES; j++)
            max[i] = larger(max[i], bits_of(t[i].x[j]) & ABS_BITS);
    }
    groups_of(s, max, &g);
    for (size_t i = 0; i < LANES; i++) {
        spread(&g, i, &own);
        strip_noise(s, s->first + (line + i) * s->number_step + k, 1, i < lines ? ks : 0,
                    noise);
        strip_convert(s, &t[i], own.factor, noise);
        if (s->sums != NULL)
            strip_sums(s, &t[i], own.factor4, own.shift);
        for (size_t j = 0; j < LANES; j++)
            ret->v[i][j] = (int8_t)t[i].v[j];
    }
    memcpy(ret->scale, g.scale, sizeof(ret->scale));
}

static void block_of(const struct sl_bfp_source *s, size_t line, size_t k,
                     struct block *ret)
{
    size_t lines = s->lines - line < LANES ? s->lines - line : LANES;
    size_t ks = s->k - k < LANES ? s->k - k : LANES;
    if (s->line_step == 1)
        block_across(s, line, lines, k, ks, ret);
    else
        block_along(s, line, lines, k, ks, ret);
}

static void pack_rows(const struct sl_bfp_source *s, const struct sl_bfp_rows *to)
{
    struct block b;
    for (size_t line = 0; line < s->lines; line += LANES)
        for (size_t k = 0; k < s->k; k += LANES) {
            block_of(s, line, k, &b);
            for (size_t i = 0; i < LANES && line + i < s->lines && to->mantissa; i++) {
                size_t at = (line + i) * to->step + k / LANES;
                for (size_t j = 0; j < LANES; j++)
                    to->mantissa[at * LANES + j] = (uint8_t)(b.v[i][j] + 16);
                to->scale[at] = b.scale[i];
            }
        }
}

/* A block as group `group` of a panel. */
static void store_columns(const struct block *b, const struct sl_bfp_columns *to,
                          size_t panel, size_t group)
{
    size_t at = panel * to->groups + group;
    int8_t *m = to->mantissa + at * SL_BFP_PANEL_BYTES;
    for (size_t q = 0; q < SL_BFP_QUADS; q++)
        for (size_t i = 0; i < SL_BFP_PANEL; i++)
            memcpy(m + (q * SL_BFP_PANEL + i) * 4, &b->v[i][q * 4], 4);
    for (size_t i = 0; i < SL_BFP_PANEL; i++) {
        int32_t sum = 0;
        for (size_t j = 0; j < LANES; j++)
            sum += b->v[i][j];
        to->start[at * SL_BFP_PANEL + i] = -16 * sum;
        to->scale[at * SL_BFP_PANEL + i] = b->scale[i];
    }
}

static void pack_columns(const struct sl_bfp_source *s, const struct sl_bfp_columns *to)
{
    struct block b;
    for (size_t line = 0; line < s->lines; line += LANES)
        for (size_t k = 0; k < s->k; k += LANES) {
            block_of(s, line, k, &b);
            store_columns(&b, to, line / LANES, to->first + k / LANES);
        }
}

static inline void rows_to_columns(const struct sl_bfp_rows *from, size_t lines,
                                   size_t groups, const struct sl_bfp_columns *to)
{
    for (size_t line = 0; line < lines; line += LANES)
        for (size_t g = 0; g < groups; g++) {
            struct block b = {0};
            for (size_t i = 0; i < LANES && line + i < lines; i++) {
                size_t at = (line + i) * from->step + g;
                for (size_t j = 0; j < LANES; j++)
                    b.v[i][j] = (int8_t)(from->mantissa[at * LANES + j] - 16);
                b.scale[i] = from->scale[at];
            }
            store_columns(&b, to, line / LANES, to->first + g);
        }
}

static inline void values(const struct sl_bfp_source *s, float *to, size_t k_step)
{
    struct block b;
    for (size_t line = 0; line < s->lines; line += LANES)
        for (size_t k = 0; k < s->k; k += LANES) {
            block_of(s, line, k, &b);
            for (size_t j = 0; j < LANES && k + j < s->k; j++)
                for (size_t i = 0; i < LANES && line + i < s->lines; i++)
                    to[(k + j) * k_step + line + i] = (float)b.v[i][j] * b.scale[i];
        }
}

/* 16 outputs of a row, for one channel of y. */
static inline void direct_strip(const struct sl_bfp_direct *d, const float *x,
                                const float *w, float acc[LANES])
{
    size_t taps = d->kernel * d->kernel;
    for (size_t i = 0; i < LANES; i++)
        acc[i] = 0.0f;
    for (size_t t = 0; t < taps; t++, w += d->channels * d->out_c) {
        const float *at = x + t / d->kernel * d->width + t % d->kernel;
        float sum[LANES];
        for (size_t i = 0; i < LANES; i++)
            sum[i] = at[i] * w[0];
        for (size_t c = 1; c < d->channels; c++)
            for (size_t i = 0; i < LANES; i++)
                sum[i] += at[c * d->plane + i] * w[c * d->out_c];
        for (size_t i = 0; i < LANES; i++)
            acc[i] += sum[i];
    }
}

static inline void direct(const struct sl_bfp_direct *d)
{
    float acc[LANES];
    for (size_t o = 0; o < d->out_c; o++)
        for (size_t y = 0; y < d->out_h; y++)
            for (size_t x = 0; x < d->out_w; x += LANES) {
                size_t n = d->out_w - x < LANES ? d->out_w - x : LANES;
                direct_strip(d, d->x + y * d->width + x, d->w + o, acc);
                memcpy(d->y + (o * d->out_h + y) * d->out_w + x, acc, n * sizeof(*acc));
            }
}

/* By squares that stay in the first-level cache. */
static inline void transpose(const float *from, size_t rows, size_t cols, size_t ld_from,
                             float *to, size_t ld_to)
{
    for (size_t i0 = 0; i0 < rows; i0 += LANES)
        for (size_t j0 = 0; j0 < cols; j0 += LANES)
            for (size_t j = j0; j < j0 + LANES && j < cols; j++)
                for (size_t i = i0; i < i0 + LANES && i < rows; i++)
                    to[j * ld_to + i] = from[i * ld_from + j];
}

/* --- wide form
 * -------------------------------------------------------------------------------- */

static inline uint32_t noise_at(const struct sl_bfp_source *s, uint64_t number)
{
    if (s->round == SL_BFP_CTR)
        return mixed_byte(s->key + number);
    if (s->round == SL_BFP_GIVEN)
        return s->given[number];
    return s->round == SL_BFP_NEAREST ? 128 : 0;
}

static void wide_group(const struct sl_bfp_source *s, size_t line, size_t k, size_t n,
                       int16_t *ret_v, float *ret_scale)
{
    const float *x = s->x + line * s->line_step + k * s->k_step;
    const int32_t top = (1 << s->m) - 1;
    uint64_t number = s->first + line * s->number_step + k;
    uint32_t max = 0;
    for (size_t j = 0; j < n; j++)
        max = larger(max, bits_of(x[j * s->k_step]) & ABS_BITS);
    int32_t e = (int32_t)group_field(s, max) - BIAS;
    float factor = power((int32_t)s->m + 7 - e, is_zeros(max));
    for (size_t j = 0; j < n; j++) {
        uint32_t bits = bits_of(x[j * s->k_step]);
        float a = float_of(smaller(bits & ABS_BITS, LARGEST_BITS));
        int32_t v = ((int32_t)(a * factor) + (int32_t)noise_at(s, number + j)) >> 8;
        v = v < top ? v : top;
        ret_v[j] = (int16_t)(bits >> 31 ? -v : v);
    }
    *ret_scale = power(e - (int32_t)s->m + 1, is_zeros(max));
}

static void pack_wide(const struct sl_bfp_source *s, uint32_t g,
                      const struct sl_bfp_wide *to)
{
    for (size_t line = 0; line < s->lines; line++)
        for (size_t k = 0, i = 0; k < s->k; k += g, i++) {
            size_t at = line * to->step + i, n = s->k - k < g ? s->k - k : g;
            memset(to->mantissa + at * g, 0, g * sizeof(int16_t));
            wide_group(s, line, k, n, to->mantissa + at * g, &to->scale[at]);
        }
}

static inline int32_t wide_dot(const int16_t *x, const int16_t *y, size_t g)
{
    int32_t sum = 0;
    for (size_t i = 0; i < g; i++)
        sum += x[i] * y[i];
    return sum;
}

static void product_wide(const struct sl_bfp_wide_product *p)
{
    for (size_t i = 0; i < p->m; i++)
        for (size_t j = 0; j < p->n; j++) {
            size_t row = p->row == NULL ? i * p->row_step : p->row[i];
            float *c = &p->c[i * p->ldc + j], acc = p->resume ? *c : 0.0f;
            for (size_t t = 0; t < p->taps; t++)
                for (size_t k = 0; k < p->groups; k++) {
                    size_t a = row + p->tap[t].a + k;
                    size_t b = j * p->b.step + p->tap[t].b + k;
                    int32_t sum = wide_dot(p->a.mantissa + a * p->g,
                                           p->b.mantissa + b * p->g, p->g);
                    acc += (float)sum * p->b.scale[b] * p->a.scale[a];
                }
            *c = p->accumulate ? *c + p->alpha * acc : p->alpha * acc;
        }
}
