/* SPDX-License-Identifier: Apache-2.0 */
#include "accel/units/bfp.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "common/rng.h"

#define E_LIMIT SL_BFP_EXPONENT_MAX
#define NO_VALUE INT32_MIN /* exponent of a value that counts as zero */

/* --- checks
 * ---------------------------------------------------------------------------------- */

enum sl_code sl_bfp_check(const struct sl_bfp_options *o, struct sl_err *err)
{
    if (o->g == 0)
        return sl_err_set(err, SL_E_RANGE, "group size g 0 (at least 1)");
    if (o->m < 1 || o->m > SL_BFP_M_MAX)
        return sl_err_set(err, SL_E_RANGE, "mantissa bits m %" PRIu32 " (1 to %d)", o->m,
                          SL_BFP_M_MAX);
    if (o->e != 0 && o->e != 3 && o->e != 4 && o->e != 8)
        return sl_err_set(err, SL_E_RANGE,
                          "exponent bits e %" PRIu32 " (3, 4, 8, or 0 for unlimited)",
                          o->e);
    if (o->round == SL_BFP_GIVEN && o->given == NULL)
        return sl_err_set(err, SL_E_RANGE, "given noise without its bytes");
    return SL_OK;
}

enum sl_code sl_bfp_check_product(uint32_t g, uint32_t mx, uint32_t my,
                                  struct sl_err *err)
{
    uint64_t x = (1u << mx) - 1, y = (1u << my) - 1;
    if ((uint64_t)g * x * y >= (uint64_t)1 << 24)
        return sl_err_set(err, SL_E_RANGE,
                          "groups of %" PRIu32 " with %" PRIu32 " by %" PRIu32
                          " mantissa bits: sums up to %" PRIu64 " (below 2^24)",
                          g, mx, my, (uint64_t)g * x * y);
    return SL_OK;
}

/* --- lines
 * ----------------------------------------------------------------------------------- */

struct sl_bfp_lines sl_bfp_lines_axis(const size_t *dim, unsigned n_dims, unsigned axis)
{
    struct sl_bfp_lines l = {.n0 = 1, .n1 = 1, .k = dim[axis], .step1 = 1};
    for (unsigned d = 0; d < axis; d++)
        l.n0 *= dim[d];
    for (unsigned d = axis + 1; d < n_dims; d++)
        l.n1 *= dim[d];
    l.step0 = l.k * l.n1;
    l.step_k = l.n1;
    return l;
}

size_t sl_bfp_line_count(const struct sl_bfp_lines *l)
{
    return l->n0 * l->n1;
}

size_t sl_bfp_groups(size_t k, uint32_t g)
{
    return k / g + (k % g != 0);
}

static size_t line_start(const struct sl_bfp_lines *l, size_t line)
{
    return line / l->n1 * l->step0 + line % l->n1 * l->step1;
}

/* --- noise
 * ----------------------------------------------------------------------------------- */

uint64_t sl_hash64(const uint64_t *v, size_t n)
{
    uint64_t h = 0;
    for (size_t i = 0; i < n; i++)
        h = sl_splitmix64_at(h ^ v[i], 0);
    return h;
}

uint8_t sl_bfp_noise(uint64_t key, uint64_t n)
{
    return (uint8_t)(sl_splitmix64_at(key + n, 0) >> 56);
}

static uint8_t lfsr_draw(uint8_t s)
{
    for (int i = 0; i < 8; i++) {
        unsigned bit = (unsigned)(s ^ (s >> 2) ^ (s >> 3) ^ (s >> 4)) & 1u;
        s = (uint8_t)((unsigned)(s >> 1) | (bit << 7));
    }
    return s;
}

void sl_bfp_lfsr_table(uint8_t ret[SL_BFP_PERIOD][SL_BFP_LANES])
{
    for (unsigned lane = 0; lane < SL_BFP_LANES; lane++) {
        uint8_t s = (uint8_t)(1 + 15 * lane);
        for (unsigned d = 0; d < SL_BFP_PERIOD; d++)
            ret[d][lane] = s = lfsr_draw(s);
    }
}

/* --- conversion
 * ------------------------------------------------------------------------------ */

uint32_t sl_bfp_code_max(uint32_t e)
{
    return (1u << (e == 0 ? SL_BFP_E_MAX : e)) - 1;
}

float sl_bfp_value(int32_t mantissa, int32_t exponent, uint32_t m)
{
    return ldexpf((float)mantissa, exponent - (int32_t)m + 1);
}

/* A value taken apart: exponent (NO_VALUE for what counts as zero) and significand. */
struct parts {
    int32_t exponent;
    uint32_t significand;
    bool negative, infinite;
};

static struct parts take_apart(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof(bits));
    struct parts p = {.exponent = NO_VALUE, .negative = bits >> 31 != 0};
    uint32_t field = bits >> 23 & 0xff;
    if (field == 0)
        return p;
    p.infinite = field == 0xff;
    if (p.infinite)
        bits = 0x7f7fffff;
    p.exponent = (int32_t)(bits >> 23 & 0xff) - 127;
    p.significand = (bits & 0x7fffff) | 0x800000;
    return p;
}

/* Largest exponent of x[0], x[step], ...; NO_VALUE without values. */
static int32_t largest_exponent(const float *x, size_t n, size_t step)
{
    int32_t largest = NO_VALUE;
    for (size_t i = 0; i < n; i++) {
        int32_t e = take_apart(x[i * step]).exponent;
        largest = e > largest ? e : largest;
    }
    return largest;
}

/* E of a group; NO_VALUE for one that is coded as all zeros. */
static int32_t limited(int32_t largest)
{
    if (largest < -E_LIMIT)
        return NO_VALUE;
    return largest > E_LIMIT ? E_LIMIT : largest;
}

static enum sl_code refuse_nan(const struct sl_bfp_lines *l, const float *x,
                               struct sl_err *err)
{
    for (size_t line = 0; line < sl_bfp_line_count(l); line++)
        for (size_t k = 0; k < l->k; k++)
            if (isnan(x[line_start(l, line) + k * l->step_k]))
                return sl_err_set(err, SL_E_INPUT,
                                  "NaN at element %zu of line %zu (numbers only)", k,
                                  line);
    return SL_OK;
}

static int32_t tensor_exponent(const struct sl_bfp_lines *l, const float *x)
{
    int32_t largest = -E_LIMIT;
    for (size_t line = 0; line < sl_bfp_line_count(l); line++) {
        int32_t e = limited(largest_exponent(x + line_start(l, line), l->k, l->step_k));
        largest = e > largest ? e : largest;
    }
    return largest;
}

static uint32_t magnitude(const struct parts *p, int32_t exponent, uint32_t m, uint32_t r)
{
    uint32_t largest = (1u << m) - 1;
    if (p->exponent == NO_VALUE)
        return 0;
    if (p->exponent > exponent)
        return largest;
    int32_t shift = 16 - (int32_t)m + exponent - p->exponent;
    uint32_t t = shift >= 24 ? 0 : p->significand >> shift;
    uint32_t kept = (t + r) >> 8;
    return kept < largest ? kept : largest;
}

struct conversion {
    const struct sl_bfp_options *o;
    const struct sl_bfp_lines *l;
    const float *x;
    struct sl_bfp_out *out;
    uint8_t lfsr[SL_BFP_PERIOD][SL_BFP_LANES];
};

static uint32_t noise_of(const struct conversion *c, size_t line, size_t k, size_t place)
{
    uint64_t slices = sl_bfp_groups(c->l->k, SL_BFP_LANES);
    switch (c->o->round) {
    case SL_BFP_TRUNCATE:
        break;
    case SL_BFP_NEAREST:
        return 128;
    case SL_BFP_CTR:
        return sl_bfp_noise(c->o->key, (uint64_t)line * c->l->k + k);
    case SL_BFP_LFSR:
        return c->lfsr[(c->o->lfsr_start + line * slices + k / SL_BFP_LANES) %
                       SL_BFP_PERIOD][k % SL_BFP_LANES];
    case SL_BFP_GIVEN:
        return c->o->given[place];
    }
    return 0;
}

static void convert_group(const struct conversion *c, size_t line, size_t group)
{
    struct sl_bfp_out *out = c->out;
    size_t first = group * c->o->g, last = first + c->o->g;
    size_t start = line_start(c->l, line), step = c->l->step_k;
    last = last < c->l->k ? last : c->l->k;
    int32_t e =
        limited(largest_exponent(c->x + start + first * step, last - first, step));
    uint32_t code = sl_bfp_code_max(c->o->e);
    if (e != NO_VALUE && (uint32_t)(out->exponent_t - e) < code)
        code = (uint32_t)(out->exponent_t - e);
    int32_t exponent = out->exponent_t - (int32_t)code;
    size_t at = line * sl_bfp_groups(c->l->k, c->o->g) + group;
    if (out->code != NULL)
        out->code[at] = (uint8_t)code;
    if (out->exponent != NULL)
        out->exponent[at] = (int16_t)exponent;
    for (size_t k = first; k < last; k++) {
        size_t place = start + k * step;
        struct parts p = take_apart(c->x[place]);
        uint32_t r = noise_of(c, line, k, place);
        int32_t v = e == NO_VALUE ? 0 : (int32_t)magnitude(&p, exponent, c->o->m, r);
        v = p.negative ? -v : v;
        out->n_inf += p.infinite;
        if (out->mantissa != NULL)
            out->mantissa[place] = (int16_t)v;
        if (out->value != NULL)
            out->value[place] = sl_bfp_value(v, exponent, c->o->m);
        if (out->noise != NULL)
            out->noise[place] = (uint8_t)r;
    }
}

enum sl_code sl_bfp_convert(const struct sl_bfp_options *o, const struct sl_bfp_lines *l,
                            const float *x, struct sl_bfp_out *out, struct sl_err *err)
{
    enum sl_code rc = sl_bfp_check(o, err);
    if (rc == SL_OK)
        rc = refuse_nan(l, x, err);
    if (rc != SL_OK)
        return rc;
    struct conversion c = {.o = o, .l = l, .x = x, .out = out};
    if (o->round == SL_BFP_LFSR)
        sl_bfp_lfsr_table(c.lfsr);
    out->exponent_t = tensor_exponent(l, x);
    out->n_inf = 0;
    for (size_t line = 0; line < sl_bfp_line_count(l); line++)
        for (size_t group = 0; group < sl_bfp_groups(l->k, o->g); group++)
            convert_group(&c, line, group);
    return SL_OK;
}

enum sl_code sl_bfp_tensor_exponent(const struct sl_bfp_lines *l, const float *x,
                                    int32_t *ret, struct sl_err *err)
{
    enum sl_code rc = refuse_nan(l, x, err);
    if (rc == SL_OK)
        *ret = tensor_exponent(l, x);
    return rc;
}

size_t sl_bfp_place(const struct sl_bfp_lines *l, size_t line, size_t k)
{
    return line_start(l, line) + k * l->step_k;
}

void sl_bfp_numbered_noise(const struct sl_bfp_options *o, const struct sl_bfp_lines *l,
                           uint8_t *ret)
{
    struct conversion c = {.o = o, .l = l};
    if (o->round == SL_BFP_LFSR)
        sl_bfp_lfsr_table(c.lfsr);
    for (size_t line = 0; line < sl_bfp_line_count(l); line++)
        for (size_t k = 0; k < l->k; k++)
            *ret++ = (uint8_t)noise_of(&c, line, k, sl_bfp_place(l, line, k));
}

/* --- products
 * -------------------------------------------------------------------------------- */

int32_t sl_bfp_dot(const int16_t *x, const int16_t *y, size_t n)
{
    int32_t sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += x[i] * y[i];
    return sum;
}

static int32_t chunk_of(int16_t v, unsigned chunk)
{
    int32_t magnitude = (v < 0 ? -v : v) >> (2 * chunk) & 3;
    return v < 0 ? -magnitude : magnitude;
}

void sl_bfp_dot_chunks(const int16_t *x, const int16_t *y, size_t n,
                       int32_t ret[SL_BFP_CHUNKS][SL_BFP_CHUNKS])
{
    for (unsigned i = 0; i < SL_BFP_CHUNKS; i++)
        for (unsigned j = 0; j < SL_BFP_CHUNKS; j++) {
            ret[i][j] = 0;
            for (size_t k = 0; k < n; k++)
                ret[i][j] += chunk_of(x[k], i) * chunk_of(y[k], j);
        }
}

uint32_t sl_bfp_passes(uint32_t mx, uint32_t my)
{
    return (mx + 1) / 2 * ((my + 1) / 2);
}

/* Products of group `group` of two lines, summed. */
static int32_t group_product(uint32_t g, size_t k, const struct sl_bfp_line *a,
                             const struct sl_bfp_line *b, size_t group)
{
    size_t first = group * g, last = k - first < g ? k : first + g;
    int32_t sum = 0;
    for (size_t i = first; i < last; i++)
        sum += a->mantissa[i * a->step] * b->mantissa[i * b->step];
    return sum;
}

float sl_bfp_add_line(float acc, uint32_t g, size_t k, const struct sl_bfp_line *a,
                      const struct sl_bfp_line *b)
{
    for (size_t j = 0; j < sl_bfp_groups(k, g); j++) {
        int32_t e =
            a->exponent[j] - (int32_t)a->m + 1 + b->exponent[j] - (int32_t)b->m + 1;
        acc += ldexpf((float)group_product(g, k, a, b, j), e);
    }
    return acc;
}

static struct sl_bfp_line line_of(const struct sl_bfp_gemm *p,
                                  const struct sl_bfp_operand *o, size_t line)
{
    return (struct sl_bfp_line){o->mantissa + line * o->step_line, o->step_k,
                                o->exponent + line * sl_bfp_groups(p->k, p->g), o->m};
}

/* Least exponent of a group with values. */
static int32_t least_exponent(const struct sl_bfp_operand *o)
{
    int32_t least = o->exponent_t - (int32_t)sl_bfp_code_max(o->e);
    return least < -E_LIMIT ? -E_LIMIT : least;
}

static float exact_sum(const struct sl_bfp_gemm *p, const struct sl_bfp_line *a,
                       const struct sl_bfp_line *b)
{
    int32_t xmin = least_exponent(&p->a), ymin = least_exponent(&p->b);
    int64_t sum = 0;
    for (size_t j = 0; j < sl_bfp_groups(p->k, p->g); j++) {
        int64_t product = group_product(p->g, p->k, a, b, j);
        int32_t shift = a->exponent[j] - xmin + b->exponent[j] - ymin;
        if (product != 0) /* the exponent of a group of zeros is formal */
            sum += product * ((int64_t)1 << shift);
    }
    return ldexpf((float)sum, xmin - (int32_t)p->a.m + 1 + ymin - (int32_t)p->b.m + 1);
}

enum sl_code sl_bfp_gemm(const struct sl_bfp_gemm *p, float *ret_c, struct sl_err *err)
{
    enum sl_code rc = sl_bfp_check_product(p->g, p->a.m, p->b.m, err);
    if (rc != SL_OK)
        return rc;
    if (p->exact && (sl_bfp_code_max(p->a.e) > 15 || sl_bfp_code_max(p->b.e) > 15))
        return sl_err_set(err, SL_E_RANGE,
                          "exact sums with unlimited exponents (e 3 or 4)");
    for (size_t row = 0; row < p->rows; row++)
        for (size_t col = 0; col < p->cols; col++) {
            struct sl_bfp_line a = line_of(p, &p->a, row), b = line_of(p, &p->b, col);
            float v = p->exact ? exact_sum(p, &a, &b)
                               : sl_bfp_add_line(0.0f, p->g, p->k, &a, &b);
            ret_c[row * p->cols + col] = p->bias == NULL ? v : v + p->bias[col];
        }
    return SL_OK;
}

/* --- adaptive precision
 * ---------------------------------------------------------------------- */

/* Adds a value's share to the two sums. */
static void add_improvement(float x, int32_t exponent, double *num, double *den)
{
    struct parts p = take_apart(x);
    double q4 = sl_bfp_value((int32_t)magnitude(&p, exponent, 4, 0), exponent, 4);
    double q2 = sl_bfp_value((int32_t)magnitude(&p, exponent, 2, 0), exponent, 2);
    *num += q4 - q2; /* truncation: never below 0 */
    *den += q2;
}

/* E' of the group of element k of a line; NO_VALUE for a group of zeros. */
static int32_t exponent_at(uint32_t g, uint32_t e, const struct sl_bfp_lines *l,
                           const float *line, size_t k, int32_t exponent_t)
{
    size_t first = k / g * g, n = l->k - first < g ? l->k - first : g;
    int32_t own = limited(largest_exponent(line + first * l->step_k, n, l->step_k));
    int32_t code_max = (int32_t)sl_bfp_code_max(e);
    if (own == NO_VALUE)
        return NO_VALUE;
    return exponent_t - own < code_max ? own : exponent_t - code_max;
}

enum sl_code sl_bfp_improvement(uint32_t g, uint32_t e, const struct sl_bfp_lines *l,
                                const float *x, double *ret_num, double *ret_den,
                                struct sl_err *err)
{
    double num = 0.0, den = 0.0;
    enum sl_code rc = sl_bfp_check(&(struct sl_bfp_options){.g = g, .e = e, .m = 4}, err);
    if (rc == SL_OK)
        rc = refuse_nan(l, x, err);
    if (rc != SL_OK)
        return rc;
    int32_t exponent_t = tensor_exponent(l, x);
    /* order of storage: the axis with the larger step is the outer one */
    bool k_outside = l->step_k > l->step1 && l->n1 > 1;
    size_t outer = k_outside ? l->k : l->n1, inner = k_outside ? l->n1 : l->k;
    for (size_t i0 = 0; i0 < l->n0; i0++)
        for (size_t i = 0; i < outer; i++)
            for (size_t j = 0; j < inner; j++) {
                size_t k = k_outside ? i : j, i1 = k_outside ? j : i;
                const float *line = x + i0 * l->step0 + i1 * l->step1;
                int32_t own = exponent_at(g, e, l, line, k, exponent_t);
                if (own != NO_VALUE)
                    add_improvement(line[k * l->step_k], own, &num, &den);
            }
    *ret_num = num;
    *ret_den = den;
    return SL_OK;
}

double sl_bfp_threshold(double alpha, double beta, uint64_t i, uint64_t n_iterations,
                        uint32_t l, uint32_t n_layers)
{
    return alpha - beta * (double)i / (double)n_iterations - beta * (double)l / n_layers;
}

uint32_t sl_bfp_pick(double num, double den, double eps)
{
    return den != 0.0 && num / den < eps ? 2 : 4;
}
