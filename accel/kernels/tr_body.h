/* SPDX-License-Identifier: Apache-2.0 */
/* tr_body.h - definition of the Term Revealing kernels, compiled once an instruction set;
 * OPS_NAME is the table it makes. The file that includes it defines BAND, the columns of
 * 16 bits in one of its vectors, and tile(), the inner product. Loops run over lanes of
 * 16 bits without branches, so that compilers vectorise them. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "accel/kernels/tr_ops.h"

/* sums[r][j] = the dot products of `rows` rows of a with the first 16 * strips columns of
 * a panel; strips <= SL_TR_TILE / 16. The other sums are undefined. */
static void tile(size_t rows, size_t strips, size_t pairs, const int16_t *a, size_t lda,
                 const int16_t *panel, int32_t sums[SL_TR_ROWS][SL_TR_TILE]);

static uint32_t max_bits(const float *x, size_t n)
{
    uint32_t max = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, x + i, sizeof(bits));
        bits &= 0x7fffffffu;
        max = bits > max ? bits : max;
    }
    return max;
}

static void quantise(const float *restrict x, size_t n, float sf, int16_t limit,
                     int16_t *restrict q)
{
    const float top = (float)limit;
    for (size_t i = 0; i < n; i++) {
        float a = fabsf(x[i]);
        float t = a / sf + 0.5f;
        t = t < top ? t : top;
        int32_t code = a < FLT_MIN ? 0 : (int32_t)t;
        q[i] = (int16_t)(x[i] < 0.0f ? -code : code);
    }
}

/* --- digits --------------------------------------------------------------------------
 */

/* Planes of a magnitude n <= 2^14. */
static inline uint16_t plus_of(enum sl_tr_encoder enc, uint16_t n)
{
    uint16_t up = (uint16_t)(n << 1), down = (uint16_t)(n >> 1);
    if (enc == SL_TR_NAF)
        return (uint16_t)((uint16_t)((uint16_t)(up + n) & (uint16_t)~n) >> 1);
    if (enc == SL_TR_WINDOW) /* lone ones, and one above the top of each run */
        return (uint16_t)((n & ~up & ~down) | (uint16_t)((n & up & ~down) << 1));
    return n;
}

static inline uint16_t minus_of(enum sl_tr_encoder enc, uint16_t n)
{
    uint16_t up = (uint16_t)(n << 1), down = (uint16_t)(n >> 1);
    if (enc == SL_TR_NAF)
        return (uint16_t)((uint16_t)(n & (uint16_t) ~(uint16_t)(up + n)) >> 1);
    if (enc == SL_TR_WINDOW)
        return (uint16_t)(n & ~up & down); /* the end of each run */
    return 0;
}

static inline uint16_t magnitude(int16_t q)
{
    return (uint16_t)(q < 0 ? -q : q);
}

static inline void encode_as(enum sl_tr_encoder enc, const int16_t *restrict q, size_t n,
                             uint16_t *restrict plus, uint16_t *restrict minus)
{
    for (size_t i = 0; i < n; i++) {
        uint16_t p = plus_of(enc, magnitude(q[i])), m = minus_of(enc, magnitude(q[i]));
        plus[i] = q[i] < 0 ? m : p;
        minus[i] = q[i] < 0 ? p : m;
    }
}

static void encode(enum sl_tr_encoder enc, const int16_t *q, size_t n, uint16_t *plus,
                   uint16_t *minus)
{
    if (enc == SL_TR_NAF)
        encode_as(SL_TR_NAF, q, n, plus, minus);
    else if (enc == SL_TR_WINDOW)
        encode_as(SL_TR_WINDOW, q, n, plus, minus);
    else
        encode_as(SL_TR_BINARY, q, n, plus, minus);
}

/* A bound on the digits of a code. */
static unsigned digits_max(enum sl_tr_encoder enc, unsigned bits)
{
    if (enc == SL_TR_NAF)
        return (bits + 1) / 2;
    return enc == SL_TR_WINDOW ? (2 * bits + 2) / 3 : bits;
}

static inline uint16_t without_lowest(uint16_t digits)
{
    return (uint16_t)(digits & (uint16_t)(digits - 1));
}

/* All but the `drop` lowest digits are what is left of `beyond`: as long as `beyond`,
 * which starts as the digits without their s lowest, has digits, one more than s is
 * there, and the lowest goes. `times` bounds how often. */
static inline uint16_t largest(uint16_t digits, unsigned s, unsigned times)
{
    uint16_t beyond = digits;
    for (unsigned i = 0; i < s; i++)
        beyond = without_lowest(beyond);
    for (unsigned i = 0; i < times; i++) {
        digits = beyond != 0 ? without_lowest(digits) : digits;
        beyond = without_lowest(beyond);
    }
    return digits;
}

static inline int16_t capped(enum sl_tr_encoder enc, int16_t q, unsigned s,
                             unsigned times)
{
    uint16_t p = plus_of(enc, magnitude(q)), m = minus_of(enc, magnitude(q));
    uint16_t kept = largest(p | m, s, times);
    int16_t v = (int16_t)((p & kept) - (m & kept));
    return q < 0 ? (int16_t)-v : v;
}

/* s and times are constants after inlining, so that the loops within a lane unroll. */
#define CAP_LOOP(enc, s, times)                                                          \
    do {                                                                                 \
        for (size_t i = 0; i < n; i++)                                                   \
            v[i] = capped(enc, q[i], s, times);                                          \
    } while (0)

static void cap_naf(const int16_t *q, size_t n, unsigned s, unsigned times, int16_t *v)
{
    if (s == 3 && times == 1)
        CAP_LOOP(SL_TR_NAF, 3, 1);
    else if (s == 2 && times == 2)
        CAP_LOOP(SL_TR_NAF, 2, 2);
    else if (s == 1 && times == 3)
        CAP_LOOP(SL_TR_NAF, 1, 3);
    else
        CAP_LOOP(SL_TR_NAF, s, times);
}

static void cap(enum sl_tr_encoder enc, unsigned bits, const int16_t *q, size_t n,
                unsigned s, int16_t *v)
{
    unsigned max = digits_max(enc, bits);
    if (s >= max) {
        memmove(v, q, n * sizeof(*q));
        return;
    }
    if (enc == SL_TR_NAF)
        cap_naf(q, n, s, max - s, v);
    else if (enc == SL_TR_WINDOW)
        CAP_LOOP(SL_TR_WINDOW, s, max - s);
    else
        CAP_LOOP(SL_TR_BINARY, s, max - s);
}

/* --- group budget --------------------------------------------------------------------
 */

typedef uint16_t band __attribute__((vector_size(BAND * sizeof(uint16_t))));

static inline band band_load(const uint16_t *x)
{
    band v;
    memcpy(&v, x, sizeof(v));
    return v;
}

static inline bool band_any(band v)
{
    uint64_t w[sizeof(v) / sizeof(uint64_t)], any = 0;
    memcpy(w, &v, sizeof(w));
    for (size_t i = 0; i < sizeof(w) / sizeof(w[0]); i++)
        any |= w[i];
    return any != 0;
}

/* Receding water over BAND groups at once: digits above the surface stay (`keep`, a mask
 * of exponents). The first exponent that has more digits than the budget has left becomes
 * `edge`, of which `left` digits stay; below it none do. */
struct surface {
    band keep, edge, left;
};

static inline struct surface recede(size_t g, uint16_t budget, const band *digits)
{
    struct surface s = {{0}, {0}, {0}};
    band seen = {0};
    s.left = s.left + budget;
    for (size_t i = 0; i < g; i++)
        seen |= digits[i];
    for (int e = 15; e >= 0; e--) {
        const uint16_t bit = (uint16_t)(1u << e);
        if (!band_any(seen & bit))
            continue;
        band count = {0};
        for (size_t i = 0; i < g; i++)
            count += digits[i] >> e & 1;
        band open = (band)(s.edge == 0), fits = (band)(count <= s.left) & open;
        s.keep |= bit & fits;
        s.left -= count & fits;
        s.edge |= bit & open & ~fits;
        if (!band_any((band)(s.edge == 0)))
            break;
    }
    return s;
}

/* Returns the budget that BAND groups left unused, column by column. */
static inline uint64_t reveal_band(size_t g, uint16_t budget, uint16_t *plus,
                                   uint16_t *minus)
{
    band digits[SL_TR_G_MAX];
    uint64_t unused = 0;
    for (size_t i = 0; i < g; i++)
        digits[i] = band_load(plus + i * SL_TR_TILE) | band_load(minus + i * SL_TR_TILE);
    struct surface s = recede(g, budget, digits);
    for (size_t i = 0; i < g; i++, plus += SL_TR_TILE, minus += SL_TR_TILE) {
        band stays = (band)((digits[i] & s.edge) != 0) & (band)(s.left != 0);
        band mask = s.keep | (s.edge & stays);
        s.left += stays; /* all ones: one less */
        band p = band_load(plus) & mask, m = band_load(minus) & mask;
        memcpy(plus, &p, sizeof(p));
        memcpy(minus, &m, sizeof(m));
    }
    for (size_t j = 0; j < BAND; j++)
        unused += s.left[j];
    return unused;
}

static uint64_t reveal(size_t g, unsigned k, uint16_t *plus, uint16_t *minus)
{
    const uint16_t budget = (uint16_t)(k < 0xffff ? k : 0xffff);
    uint64_t unused = 0;
    for (size_t j = 0; j < SL_TR_TILE; j += BAND)
        unused += reveal_band(g, budget, plus + j, minus + j);
    return (uint64_t)SL_TR_TILE * budget - unused;
}

/* --- products ------------------------------------------------------------------------
 */

static void finish_row(const struct sl_tr_finish *f, const int32_t *restrict sums,
                       size_t n, const float *restrict bias, float *restrict c)
{
    float v[SL_TR_TILE];
    for (size_t j = 0; j < n; j++)
        v[j] = (float)sums[j] * f->scale;
    if (bias != NULL)
        for (size_t j = 0; j < n; j++)
            v[j] += bias[j];
    if (f->alpha != 1.0f)
        for (size_t j = 0; j < n; j++)
            v[j] *= f->alpha;
    if (f->accumulate)
        for (size_t j = 0; j < n; j++)
            c[j] += v[j];
    else
        memcpy(c, v, n * sizeof(*c));
}

/* Panel by panel, and in each the rows of a. ints: [m, n], else f. */
static void multiply(size_t m, size_t n, size_t pairs, const int16_t *a, size_t lda,
                     const int16_t *packed, const struct sl_tr_finish *f, int32_t *ints)
{
    int32_t sums[SL_TR_ROWS][SL_TR_TILE];
    for (size_t j = 0; j < n; j += SL_TR_TILE, packed += pairs * SL_TR_TILE * 2) {
        size_t wide = n - j < SL_TR_TILE ? n - j : SL_TR_TILE;
        for (size_t i = 0; i < m; i += SL_TR_ROWS) {
            size_t rows = m - i < SL_TR_ROWS ? m - i : SL_TR_ROWS;
            tile(rows, (wide + 15) / 16, pairs, a + i * lda, lda, packed, sums);
            for (size_t r = 0; r < rows; r++)
                if (ints != NULL)
                    memcpy(ints + (i + r) * n + j, sums[r], wide * sizeof(*ints));
                else
                    finish_row(f, sums[r], wide, f->bias == NULL ? NULL : f->bias + j,
                               f->c + (i + r) * f->ldc + j);
        }
    }
}

static void product(size_t m, size_t n, size_t pairs, const int16_t *a, size_t lda,
                    const int16_t *packed, const struct sl_tr_finish *f)
{
    multiply(m, n, pairs, a, lda, packed, f, NULL);
}

static void product_int(size_t m, size_t n, size_t pairs, const int16_t *a, size_t lda,
                        const int16_t *packed, int32_t *ret)
{
    multiply(m, n, pairs, a, lda, packed, NULL, ret);
}

const struct sl_tr_ops OPS_NAME = {
    .max_bits = max_bits,
    .quantise = quantise,
    .encode = encode,
    .cap = cap,
    .reveal = reveal,
    .product = product,
    .product_int = product_int,
};
