/* SPDX-License-Identifier: Apache-2.0 */
#include "accel/units/tr.h"

#include <float.h>
#include <math.h>
#include <string.h>

struct sl_tr_options sl_tr_defaults(void)
{
    return (struct sl_tr_options){.bits_w = 8,
                                  .bits_x = 8,
                                  .g = 8,
                                  .k = 12,
                                  .s = 3,
                                  .enc = SL_TR_NAF,
                                  .rows = 64,
                                  .cols = 128,
                                  .hz = 170e6,
                                  .e_pair = 1.0,
                                  .e_bit = 0.01};
}

static enum sl_code check_range(const char *what, unsigned value, unsigned lo,
                                unsigned hi, struct sl_err *err)
{
    if (value >= lo && value <= hi)
        return SL_OK;
    return sl_err_set(err, SL_E_RANGE, "term revealing: %s %u (%u to %u)", what, value,
                      lo, hi);
}

enum sl_code sl_tr_check(const struct sl_tr_options *o, struct sl_err *err)
{
    enum sl_code rc =
        check_range("bits_w", o->bits_w, SL_TR_BITS_MIN, SL_TR_BITS_MAX, err);
    if (rc == SL_OK)
        rc = check_range("bits_x", o->bits_x, SL_TR_BITS_MIN, SL_TR_BITS_MAX, err);
    if (rc == SL_OK)
        rc = check_range("g", o->g, 1, SL_TR_G_MAX, err);
    if (rc == SL_OK)
        rc = check_range("k", o->k, 1, SL_TR_BUDGET_MAX, err);
    if (rc == SL_OK)
        rc = check_range("s", o->s, 1, SL_TR_BITS_MAX + 1, err);
    if (rc == SL_OK)
        rc = check_range("enc", o->enc, SL_TR_NAF, SL_TR_BINARY, err);
    if (rc == SL_OK)
        rc = check_range("rows", o->rows, 1, SL_TR_ARRAY_MAX, err);
    if (rc == SL_OK)
        rc = check_range("cols", o->cols, 1, SL_TR_ARRAY_MAX, err);
    if (rc == SL_OK && !(o->hz > 0.0 && o->e_pair >= 0.0 && o->e_bit >= 0.0))
        rc = sl_err_set(err, SL_E_RANGE,
                        "term revealing: hz %g, e_pair %g, e_bit %g (above 0; not below "
                        "0)",
                        o->hz, o->e_pair, o->e_bit);
    return rc;
}

/* --- codes ---------------------------------------------------------------------------
 */

static enum sl_code largest(const struct sl_tr_ops *ops, const float *x, size_t n,
                            float *ret, struct sl_err *err)
{
    uint32_t bits = ops->max_bits(x, n);
    if (bits >= 0x7f800000u)
        return sl_err_set(
            err, SL_E_INPUT,
            "term revealing: Inf or NaN in the tensor (finite values only)");
    memcpy(ret, &bits, sizeof(*ret));
    return SL_OK;
}

static float scale_of(float max, unsigned bits)
{
    return max / (float)(1u << (bits - 1));
}

enum sl_code sl_tr_scale(const struct sl_tr_ops *ops, const float *x, size_t n,
                         unsigned bits, float *ret_sf, bool *ret_zero, struct sl_err *err)
{
    float max;
    enum sl_code rc = largest(ops, x, n, &max, err);
    if (rc != SL_OK)
        return rc;
    float sf = scale_of(max, bits);
    *ret_zero = sf < FLT_MIN;
    *ret_sf = *ret_zero ? 1.0f : sf;
    return SL_OK;
}

enum sl_code sl_tr_check_scale(float sf, struct sl_err *err)
{
    if (isfinite(sf) && sf >= FLT_MIN)
        return SL_OK;
    return sl_err_set(err, SL_E_RANGE,
                      "term revealing: scale %g (finite, at least 2^-126)", (double)sf);
}

enum sl_code sl_tr_quantise(const struct sl_tr_ops *ops, const float *x, size_t n,
                            unsigned bits, const float *sf, int16_t *ret_q, float *ret_sf,
                            struct sl_err *err)
{
    float scale;
    bool zero;
    enum sl_code rc = sf == NULL ? SL_OK : sl_tr_check_scale(*sf, err);
    if (rc == SL_OK)
        rc = sl_tr_scale(ops, x, n, bits, &scale, &zero, err);
    if (rc != SL_OK)
        return rc;
    if (sf != NULL)
        scale = *sf;
    if (sf == NULL && zero)
        memset(ret_q, 0, n * sizeof(*ret_q));
    else
        ops->quantise(x, n, scale, (int16_t)(1 << (bits - 1)), ret_q);
    *ret_sf = scale;
    return SL_OK;
}

/* --- digits --------------------------------------------------------------------------
 */

struct sl_tr_lines sl_tr_lines_axis(const size_t *dim, unsigned n_dims, unsigned axis)
{
    struct sl_tr_lines l = {1, 1, 1};
    for (unsigned d = 0; d < n_dims; d++)
        *(d < axis ? &l.n0 : d == axis ? &l.len : &l.n1) *= dim[d];
    return l;
}

/* A tile of the tensor: elements k0 .. k0 + g - 1 of up to SL_TR_TILE lines, lines side
 * by side. */
struct tile {
    size_t first, wide; /* lines */
    size_t k0, g;
    size_t base[SL_TR_TILE]; /* of element k0 of each line */
    size_t step;             /* from an element to the next */
    int16_t q[SL_TR_G_MAX * SL_TR_TILE];
    uint16_t plus[SL_TR_G_MAX * SL_TR_TILE], minus[SL_TR_G_MAX * SL_TR_TILE];
};

static void tile_place(struct tile *t, const struct sl_tr_lines *l)
{
    t->step = l->n1;
    for (size_t j = 0; j < t->wide; j++) {
        size_t line = t->first + j;
        t->base[j] = (line / l->n1 * l->len + t->k0) * l->n1 + line % l->n1;
    }
}

static void tile_load(struct tile *t, const int16_t *q)
{
    if (t->wide < SL_TR_TILE)
        memset(t->q, 0, t->g * SL_TR_TILE * sizeof(*t->q));
    for (size_t j = 0; j < t->wide; j++)
        for (size_t i = 0; i < t->g; i++)
            t->q[i * SL_TR_TILE + j] = q[t->base[j] + i * t->step];
}

static void tile_store(const struct tile *t, const struct sl_tr_out *out)
{
    for (size_t j = 0; j < t->wide; j++)
        for (size_t i = 0; i < t->g; i++) {
            size_t to = t->base[j] + i * t->step;
            uint16_t p = t->plus[i * SL_TR_TILE + j], m = t->minus[i * SL_TR_TILE + j];
            if (out->plus != NULL)
                out->plus[to] = p;
            if (out->minus != NULL)
                out->minus[to] = m;
            if (out->value != NULL)
                out->value[to] = (int16_t)(p - m);
        }
}

void sl_tr_reveal(const struct sl_tr_ops *ops, enum sl_tr_encoder enc, size_t g,
                  unsigned k, const struct sl_tr_lines *lines, const int16_t *q,
                  struct sl_tr_out *out)
{
    struct tile t;
    size_t n = lines->n0 * lines->n1;
    out->terms = 0;
    for (t.first = 0; t.first < n; t.first += SL_TR_TILE) {
        t.wide = n - t.first < SL_TR_TILE ? n - t.first : SL_TR_TILE;
        for (t.k0 = 0; t.k0 < lines->len; t.k0 += g) {
            t.g = lines->len - t.k0 < g ? lines->len - t.k0 : g;
            tile_place(&t, lines);
            tile_load(&t, q);
            ops->encode(enc, t.q, t.g * SL_TR_TILE, t.plus, t.minus);
            out->terms += ops->reveal(t.g, k, t.plus, t.minus);
            tile_store(&t, out);
        }
    }
}

uint64_t sl_tr_count(const uint16_t *plus, const uint16_t *minus, size_t n)
{
    uint64_t terms = 0;
    for (size_t i = 0; i < n; i++)
        terms += (unsigned)__builtin_popcount((unsigned)(plus[i] | minus[i]));
    return terms;
}

/* --- cost ----------------------------------------------------------------------------
 */

uint64_t sl_tr_pairs(size_t m, size_t k, size_t n, const uint16_t *x_plus,
                     const uint16_t *x_minus, const uint16_t *w_plus,
                     const uint16_t *w_minus)
{
    uint64_t pairs = 0;
    for (size_t i = 0; i < k; i++) {
        uint64_t x = 0;
        for (size_t r = 0; r < m; r++)
            x += sl_tr_count(x_plus + r * k + i, x_minus + r * k + i, 1);
        pairs += x * sl_tr_count(w_plus + i * n, w_minus + i * n, n);
    }
    return pairs;
}

uint64_t sl_tr_bound(const struct sl_tr_options *o, uint64_t m, uint64_t n, uint64_t len)
{
    return m * n * ((len + o->g - 1) / o->g) * o->k * o->s;
}

uint64_t sl_tr_cycles(const struct sl_tr_options *o, uint64_t m, uint64_t n,
                      uint64_t groups)
{
    uint64_t waves = (m + o->rows - 1) / o->rows * ((n + o->cols - 1) / o->cols);
    return waves * groups * o->k * o->s + o->rows + o->cols;
}

uint64_t sl_tr_bits(const struct sl_tr_options *o, uint64_t terms)
{
    unsigned exponent = 0;
    while (1u << exponent < o->bits_w)
        exponent++;
    return terms * (exponent + 2);
}

double sl_tr_energy(const struct sl_tr_options *o, const struct sl_unit_ledger *l)
{
    double sum = 0.0;
    for (int p = 0; p < SL_PASSES; p++)
        sum += o->e_pair * (double)l->work[p] + o->e_bit * (double)l->bits[p];
    return sum;
}

/* Adds `sign` for each pair of a digit of x and one of w. */
static uint64_t add_pairs(uint16_t x, uint16_t w, int32_t sign,
                          int32_t coefficient[SL_TR_COEFFICIENTS])
{
    uint64_t pairs = 0;
    for (int ex = 0; ex < 16; ex++)
        for (int ew = 0; ew < 16; ew++)
            if ((x >> ex & 1) != 0 && (w >> ew & 1) != 0) {
                coefficient[ex + ew] += sign;
                pairs++;
            }
    return pairs;
}

int64_t sl_tr_cell(size_t n, const uint16_t *x_plus, const uint16_t *x_minus,
                   const uint16_t *w_plus, const uint16_t *w_minus,
                   int32_t ret[SL_TR_COEFFICIENTS], uint64_t *ret_pairs)
{
    uint64_t pairs = 0;
    int64_t sum = 0;
    memset(ret, 0, SL_TR_COEFFICIENTS * sizeof(*ret));
    for (size_t i = 0; i < n; i++) {
        pairs += add_pairs(x_plus[i], w_plus[i], 1, ret);
        pairs += add_pairs(x_minus[i], w_minus[i], 1, ret);
        pairs += add_pairs(x_plus[i], w_minus[i], -1, ret);
        pairs += add_pairs(x_minus[i], w_plus[i], -1, ret);
    }
    for (int e = 0; e < SL_TR_COEFFICIENTS; e++)
        sum += ret[e] * (INT64_C(1) << e);
    *ret_pairs = pairs;
    return sum;
}

/* --- products ------------------------------------------------------------------------
 */

bool sl_tr_is_wide(const struct sl_tr_options *o, size_t len)
{
    return len >= (size_t)1 << 31 >> (o->bits_w + o->bits_x);
}

size_t sl_tr_packed_values(size_t k, size_t n)
{
    return (n + SL_TR_TILE - 1) / SL_TR_TILE * SL_TR_PAIRS(k) * SL_TR_TILE * 2;
}

void sl_tr_pack(const int16_t *values, size_t ld, bool transposed, size_t k, size_t n,
                int16_t *ret_packed)
{
    size_t step_k = transposed ? 1 : ld, step_n = transposed ? ld : 1;
    for (size_t j = 0; j < n; j += SL_TR_TILE, values += SL_TR_TILE * step_n) {
        size_t wide = n - j < SL_TR_TILE ? n - j : SL_TR_TILE;
        for (size_t i = 0; i < k; i += 2, ret_packed += 2 * SL_TR_TILE) {
            const int16_t *even = values + i * step_k;
            size_t to_odd = i + 1 < k ? step_k : 0;
            for (size_t c = 0; c < wide; c++) {
                ret_packed[2 * c] = even[c * step_n];
                ret_packed[2 * c + 1] = to_odd == 0 ? 0 : even[c * step_n + to_odd];
            }
            memset(ret_packed + 2 * wide, 0,
                   2 * (SL_TR_TILE - wide) * sizeof(*ret_packed));
        }
    }
}

static int64_t wide_dot(size_t k, const int16_t *a, const int16_t *packed)
{
    int64_t sum = 0;
    for (size_t i = 0; i < k; i++)
        sum += (int64_t)a[i] * packed[i / 2 * SL_TR_TILE * 2 + i % 2];
    return sum;
}

static const int16_t *packed_column(const int16_t *packed, size_t k, size_t j)
{
    return packed + j / SL_TR_TILE * SL_TR_PAIRS(k) * SL_TR_TILE * 2 + j % SL_TR_TILE * 2;
}

static void product_wide(size_t m, size_t n, size_t k, const int16_t *a, size_t lda,
                         const int16_t *packed, const struct sl_tr_finish *f)
{
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            float *c = f->c + i * f->ldc + j;
            float v =
                (float)wide_dot(k, a + i * lda, packed_column(packed, k, j)) * f->scale;
            if (f->bias != NULL)
                v += f->bias[j];
            if (f->alpha != 1.0f)
                v *= f->alpha;
            *c = f->accumulate ? *c + v : v;
        }
}

void sl_tr_product(const struct sl_tr_ops *ops, bool wide, size_t m, size_t n, size_t k,
                   const int16_t *a, size_t lda, const int16_t *packed,
                   const struct sl_tr_finish *f)
{
    if (wide)
        product_wide(m, n, k, a, lda, packed, f);
    else
        ops->product(m, n, SL_TR_PAIRS(k), a, lda, packed, f);
}

void sl_tr_product_int(const struct sl_tr_ops *ops, bool wide, size_t m, size_t n,
                       size_t k, const int16_t *a, size_t lda, const int16_t *packed,
                       int64_t *ret)
{
    if (!wide) {
        uint8_t *narrow = (uint8_t *)(ret + m * n) - m * n * sizeof(int32_t);
        ops->product_int(m, n, SL_TR_PAIRS(k), a, lda, packed, (int32_t *)(void *)narrow);
        for (size_t i = 0; i < m * n; i++) { /* the upper half, widened in order */
            int32_t sum;
            memcpy(&sum, narrow + i * sizeof(sum), sizeof(sum));
            ret[i] = sum;
        }
        return;
    }
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++)
            ret[i * n + j] = wide_dot(k, a + i * lda, packed_column(packed, k, j));
}
