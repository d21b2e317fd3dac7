/* SPDX-License-Identifier: Apache-2.0 */
/* Term Revealing: digits, budgets, cells, products, and the unit. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "accel/accel.h"
#include "accel/check/cases.h"
#include "accel/kernels/cpu.h"
#include "accel/kernels/kernels.h"
#include "accel/nn/train.h"
#include "accel/units/tr.h"
#include "common/dataset.h"
#include "common/rng.h"

#define CODE_MAX 16384 /* 2^14 */

static struct sl_rng stream(uint64_t seed)
{
    struct sl_rng r;
    sl_rng_init(&r, &(struct sl_rng_id){.seed = seed, .purpose = SL_RNG_TEST});
    return r;
}

static void fill(float *v, size_t n, uint64_t seed, float spread)
{
    struct sl_rng r = stream(seed);
    for (size_t i = 0; i < n; i++)
        v[i] = spread * (2.0f * sl_rng_f32(&r) - 1.0f);
}

static int bits_in(unsigned v)
{
    return __builtin_popcount(v);
}

/* --- encoders ------------------------------------------------------------------------
 */

static int16_t codes[2 * CODE_MAX + 1];
static uint16_t plus[3][2 * CODE_MAX + 1], minus[3][2 * CODE_MAX + 1];

/* All codes, all encoders, of one kernel variant. */
static void encode_all(uint32_t cpu)
{
    struct sl_tr_ops ops;
    sl_tr_ops_init(&ops, cpu);
    for (int i = 0; i <= 2 * CODE_MAX; i++)
        codes[i] = (int16_t)(i - CODE_MAX);
    for (int enc = SL_TR_NAF; enc <= SL_TR_BINARY; enc++)
        ops.encode((enum sl_tr_encoder)enc, codes, 2 * CODE_MAX + 1, plus[enc],
                   minus[enc]);
}

static void digits_decode_to_their_code(void **state)
{
    uint32_t cpu;
    for (size_t level = 0; sl_cases_cpu(level, &cpu); level++) {
        encode_all(cpu);
        for (int enc = 0; enc < 3; enc++)
            for (int i = 0; i <= 2 * CODE_MAX; i++) {
                assert_int_equal(plus[enc][i] - minus[enc][i], codes[i]);
                assert_int_equal(plus[enc][i] & minus[enc][i], 0);
            }
    }
}

static void naf_is_sparse_and_minimal(void **state)
{
    encode_all(0);
    for (int i = 0; i <= 2 * CODE_MAX; i++) {
        unsigned naf = plus[0][i] | minus[0][i], window = plus[1][i] | minus[1][i];
        unsigned binary = plus[2][i] | minus[2][i];
        assert_int_equal(naf & naf >> 1, 0);
        assert_true(bits_in(naf) <= bits_in(window));
        assert_true(bits_in(window) <= bits_in(binary));
    }
}

/* The digest's table: mode c and bits i + 1, i. */
static void scan_naf(unsigned n, unsigned *p, unsigned *m)
{
    int c = 0;
    *p = *m = 0;
    for (int i = 0; i < 16; i++) {
        int b0 = n >> i & 1, b1 = n >> (i + 1) & 1;
        if (c == 0 && b0 == 1) {
            *(b1 == 0 ? p : m) |= 1u << i;
            c = b1;
        } else if (c == 1 && b0 == 0) {
            *(b1 == 0 ? p : m) |= 1u << i;
            c = b1;
        }
    }
}

/* From the top with bits i + 1, i, i - 1: 010 emits +2^i and skips one, 011 +2^(i+1), 110
 * -2^i. */
static void scan_window(unsigned n, unsigned *p, unsigned *m)
{
    *p = *m = 0;
    for (int i = 15; i >= 0; i--) {
        unsigned w =
            (n >> (i + 1) & 1) << 2 | (n >> i & 1) << 1 | (i > 0 ? n >> (i - 1) & 1 : 0);
        if (w == 2) {
            *p |= 1u << i;
            i--;
        } else if (w == 3) {
            *p |= 1u << (i + 1);
        } else if (w == 6) {
            *m |= 1u << i;
        }
    }
}

static void encoders_equal_their_scans(void **state)
{
    uint32_t cpu;
    for (size_t level = 0; sl_cases_cpu(level, &cpu); level++) {
        encode_all(cpu);
        for (unsigned n = 0; n <= CODE_MAX; n++) {
            unsigned p, m, at = n + CODE_MAX;
            scan_naf(n, &p, &m);
            assert_true(plus[0][at] == p && minus[0][at] == m);
            scan_window(n, &p, &m);
            assert_true(plus[1][at] == p && minus[1][at] == m);
            assert_true(plus[2][at] == n && minus[2][at] == 0);
        }
    }
}

static void term_statistics_are_the_digests(void **state)
{
    static const struct {
        unsigned bits;
        double mean[3];
        int max[3];
    } want[] = {{7, {2.77, 2.88, 3.50}, {4, 5, 7}}, {8, {3.11, 3.25, 4.00}, {5, 6, 8}}};
    encode_all(0);
    for (size_t w = 0; w < 2; w++)
        for (int enc = 0; enc < 3; enc++) {
            double sum = 0.0;
            int max = 0;
            for (int n = 0; n < 1 << want[w].bits; n++) {
                int terms = bits_in(plus[enc][n + CODE_MAX] | minus[enc][n + CODE_MAX]);
                sum += terms;
                max = terms > max ? terms : max;
            }
            assert_true(fabs(sum / (1 << want[w].bits) - want[w].mean[enc]) < 0.006);
            assert_int_equal(max, want[w].max[enc]);
        }
}

/* --- budgets -------------------------------------------------------------------------
 */

#define GROUP 40

struct term {
    int exponent;
    size_t index;
};

static int falling(const void *a, const void *b)
{
    const struct term *x = a, *y = b;
    if (x->exponent != y->exponent)
        return y->exponent - x->exponent;
    return (x->index > y->index) - (x->index < y->index);
}

/* All terms sorted by exponent, then index; the first k stay. Returns their number;
 * *ret_dropped is the largest exponent dropped, -1 for none. */
static size_t sort_terms(const uint16_t *p, const uint16_t *m, size_t g, size_t k,
                         int16_t *value, int *ret_dropped)
{
    struct term t[GROUP * 16];
    size_t n = 0;
    for (size_t i = 0; i < g; i++) {
        value[i] = 0;
        for (int e = 0; e < 16; e++)
            if (((p[i] | m[i]) >> e & 1) != 0)
                t[n++] = (struct term){e, i};
    }
    qsort(t, n, sizeof(*t), falling);
    for (size_t i = 0; i < n && i < k; i++) {
        int sign = (p[t[i].index] >> t[i].exponent & 1) != 0 ? 1 : -1;
        value[t[i].index] = (int16_t)(value[t[i].index] + sign * (1 << t[i].exponent));
    }
    *ret_dropped = n > k ? t[k].exponent : -1;
    return n < k ? n : k;
}

static void random_codes(int16_t *q, size_t n, struct sl_rng *r, int max)
{
    for (size_t i = 0; i < n; i++) {
        q[i] = (int16_t)((int)(sl_rng_u32(r) % (uint32_t)(2 * max + 1)) - max);
        if (i > 0 && sl_rng_u32(r) % 4 == 0)
            q[i] = (int16_t)(sl_rng_u32(r) % 2 == 0 ? q[i - 1] : -q[i - 1]);
    }
}

static void the_largest_terms_stay_and_ties_go_to_the_lowest_index(void **state)
{
    struct sl_rng r = stream(1);
    uint32_t cpu;
    int16_t q[GROUP], got[GROUP], want[GROUP];
    uint16_t p[GROUP], m[GROUP];
    for (size_t level = 0; sl_cases_cpu(level, &cpu); level++) {
        struct sl_tr_ops ops;
        sl_tr_ops_init(&ops, cpu);
        for (int round = 0; round < 3000; round++) {
            enum sl_tr_encoder enc = (enum sl_tr_encoder)(round % 3);
            size_t g = 1 + sl_rng_u32(&r) % GROUP, k = 1 + sl_rng_u32(&r) % (3 * GROUP);
            int dropped;
            random_codes(q, g, &r, round % 2 == 0 ? 128 : CODE_MAX);
            ops.encode(enc, q, g, p, m);
            size_t kept = sort_terms(p, m, g, k, want, &dropped);
            struct sl_tr_out out = {.value = got};
            sl_tr_reveal(&ops, enc, g, (unsigned)k, &(struct sl_tr_lines){1, g, 1}, q,
                         &out);
            assert_memory_equal(got, want, g * sizeof(*got));
            assert_int_equal(out.terms, kept);
        }
    }
}

static void reveal_one(enum sl_tr_encoder enc, size_t g, unsigned k, const int16_t *q,
                       int16_t *ret)
{
    struct sl_tr_ops ops;
    struct sl_tr_out out = {.value = ret};
    sl_tr_ops_init(&ops, sl_cpu_detect());
    sl_tr_reveal(&ops, enc, g, k, &(struct sl_tr_lines){1, g, 1}, q, &out);
}

static void the_worked_groups_come_out(void **state)
{
    int16_t v[4];
    const int16_t a[] = {81, 6, 11}, b[] = {12, -12, 5, 12}, c[] = {87, -45, 3, 119};
    reveal_one(SL_TR_BINARY, 3, 4, a, v);
    assert_true(v[0] == 80 && v[1] == 4 && v[2] == 8);
    reveal_one(SL_TR_NAF, 3, 4, a, v);
    assert_true(v[0] == 80 && v[1] == 8 && v[2] == 16);
    reveal_one(SL_TR_WINDOW, 3, 4, a, v);
    assert_true(v[0] == 80 && v[1] == 8 && v[2] == 8);
    reveal_one(SL_TR_NAF, 4, 3, b, v);
    assert_true(v[0] == 16 && v[1] == -16 && v[2] == 0 && v[3] == 16);
    reveal_one(SL_TR_NAF, 4, 6, c, v);
    assert_true(v[0] == 88 && v[1] == -48 && v[2] == 0 && v[3] == 128);
    reveal_one(SL_TR_NAF, 4, SL_TR_BUDGET_MAX, c, v);
    assert_memory_equal(v, c, sizeof(v));
}

static void a_budget_for_all_terms_changes_nothing(void **state)
{
    struct sl_rng r = stream(2);
    int16_t q[GROUP], v[GROUP];
    for (int round = 0; round < 300; round++) {
        random_codes(q, GROUP, &r, CODE_MAX);
        for (int enc = 0; enc < 3; enc++) {
            reveal_one((enum sl_tr_encoder)enc, GROUP, GROUP * 15, q, v);
            assert_memory_equal(q, v, sizeof(v));
        }
    }
}

static void revealing_twice_and_with_other_signs_is_the_same(void **state)
{
    struct sl_rng r = stream(3);
    int16_t q[16], v[16], again[16];
    for (int round = 0; round < 500; round++) {
        unsigned k = 1 + sl_rng_u32(&r) % 40;
        random_codes(q, 16, &r, 128);
        reveal_one(SL_TR_NAF, 16, k, q, v);
        reveal_one(SL_TR_NAF, 16, k, v, again);
        assert_memory_equal(v, again, sizeof(v));
        for (int i = 0; i < 16; i++)
            q[i] = (int16_t)-q[i];
        reveal_one(SL_TR_NAF, 16, k, q, again);
        for (int i = 0; i < 16; i++)
            assert_int_equal(again[i], -v[i]);
    }
}

static void without_ties_a_permuted_group_gives_a_permuted_result(void **state)
{
    /* single terms of all different exponents, so that nothing ties */
    int16_t q[12], permuted[12], v[12], w[12];
    struct sl_rng r = stream(4);
    uint32_t order[12];
    for (uint32_t i = 0; i < 12; i++) {
        q[i] = (int16_t)(1 << i);
        order[i] = i;
    }
    for (unsigned k = 1; k <= 12; k++) {
        sl_rng_shuffle_u32(&r, order, 12);
        for (int i = 0; i < 12; i++)
            permuted[i] = q[order[i]];
        for (int enc = 0; enc < 3; enc++) {
            reveal_one((enum sl_tr_encoder)enc, 12, k, q, v);
            reveal_one((enum sl_tr_encoder)enc, 12, k, permuted, w);
            for (int i = 0; i < 12; i++)
                assert_int_equal(w[i], v[order[i]]);
        }
    }
}

static void the_water_never_rises_with_the_budget(void **state)
{
    struct sl_rng r = stream(5);
    struct sl_tr_ops ops;
    int16_t q[16], v[16], unused[16];
    uint16_t p[16], m[16], pv[16], mv[16];
    sl_tr_ops_init(&ops, sl_cpu_detect());
    for (int round = 0; round < 200; round++) {
        int last = 16;
        random_codes(q, 16, &r, 128);
        ops.encode(SL_TR_NAF, q, 16, p, m);
        for (unsigned k = 1; k < 70; k++) {
            int dropped = -1;
            reveal_one(SL_TR_NAF, 16, k, q, v);
            ops.encode(SL_TR_NAF, v, 16, pv, mv);
            for (int i = 0; i < 16; i++)
                for (int e = 15; e > dropped; e--)
                    if (((p[i] | m[i]) & ~(pv[i] | mv[i])) >> e & 1)
                        dropped = e;
            int want;
            sort_terms(p, m, 16, k, unused, &want);
            assert_int_equal(dropped, want);
            assert_true(dropped <= last);
            last = dropped;
        }
        assert_int_equal(last, -1);
    }
}

static void a_cap_is_a_budget_for_one_value(void **state)
{
    uint32_t cpu;
    static int16_t got[2 * CODE_MAX + 1], want[2 * CODE_MAX + 1];
    for (size_t level = 0; sl_cases_cpu(level, &cpu); level++) {
        struct sl_tr_ops ops;
        sl_tr_ops_init(&ops, cpu);
        for (int i = 0; i <= 2 * CODE_MAX; i++)
            codes[i] = (int16_t)(i - CODE_MAX);
        for (unsigned bits = SL_TR_BITS_MIN; bits <= SL_TR_BITS_MAX; bits += 1)
            for (unsigned s = 1; s <= bits + 1; s++)
                for (int enc = 0; enc < 3; enc++) {
                    int limit = 1 << (bits - 1);
                    size_t n = (size_t)(2 * limit + 1);
                    const int16_t *q = codes + CODE_MAX - limit;
                    struct sl_tr_out out = {.value = want};
                    ops.cap((enum sl_tr_encoder)enc, bits, q, n, s, got);
                    sl_tr_reveal(&ops, (enum sl_tr_encoder)enc, 1, s,
                                 &(struct sl_tr_lines){1, n, 1}, q, &out);
                    assert_memory_equal(got, want, n * sizeof(*got));
                }
    }
}

static void few_naf_terms_are_near_the_value(void **state)
{
    struct sl_tr_ops ops;
    sl_tr_ops_init(&ops, sl_cpu_detect());
    for (unsigned j = 1; j <= 4; j++)
        for (int n = 1; n <= CODE_MAX; n++) {
            int16_t q = (int16_t)n, v;
            ops.cap(SL_TR_NAF, SL_TR_BITS_MAX, &q, 1, j, &v);
            assert_true(v >= 0);
            assert_true(abs(n - v) < n * ldexp(1.0, 1 - 2 * (int)j));
        }
}

static void larger_groups_lose_less_at_the_same_share(void **state)
{
    enum { N = 4096 };
    static int16_t q[N], v[N];
    struct sl_rng r = stream(6);
    double last = 1e30;
    for (int i = 0; i < N; i++) { /* about Gaussian: a sum of uniform draws */
        float sum = 0.0f;
        for (int j = 0; j < 12; j++)
            sum += sl_rng_f32(&r) - 0.5f;
        q[i] = (int16_t)fmaxf(-128.0f, fminf(128.0f, 32.0f * sum));
    }
    for (size_t g = 1; g <= 64; g *= 4) {
        struct sl_tr_ops ops;
        struct sl_tr_out out = {.value = v};
        double error = 0.0;
        sl_tr_ops_init(&ops, sl_cpu_detect());
        sl_tr_reveal(&ops, SL_TR_NAF, g, (unsigned)g, &(struct sl_tr_lines){1, N, 1}, q,
                     &out);
        for (int i = 0; i < N; i++)
            error += (double)(q[i] - v[i]) * (q[i] - v[i]);
        assert_true(error <= last);
        last = error;
    }
}

static void lines_along_any_axis_are_grouped_with_their_tails(void **state)
{
    enum { A = 3, B = 13, C = 70 };
    static int16_t q[A * B * C], got[A * B * C], line[C], want[C];
    struct sl_rng r = stream(7);
    struct sl_tr_ops ops;
    const size_t dim[] = {A, B, C};
    sl_tr_ops_init(&ops, sl_cpu_detect());
    random_codes(q, A * B * C, &r, 128);
    for (unsigned axis = 0; axis < 3; axis++) {
        struct sl_tr_lines l = sl_tr_lines_axis(dim, 3, axis);
        struct sl_tr_out out = {.value = got};
        sl_tr_reveal(&ops, SL_TR_NAF, 5, 6, &l, q, &out);
        for (size_t i0 = 0; i0 < l.n0; i0++)
            for (size_t i1 = 0; i1 < l.n1; i1++)
                for (size_t k0 = 0; k0 < l.len; k0 += 5) {
                    size_t g = l.len - k0 < 5 ? l.len - k0 : 5;
                    for (size_t i = 0; i < g; i++)
                        line[i] = q[(i0 * l.len + k0 + i) * l.n1 + i1];
                    reveal_one(SL_TR_NAF, g, 6, line, want);
                    for (size_t i = 0; i < g; i++)
                        assert_int_equal(got[(i0 * l.len + k0 + i) * l.n1 + i1], want[i]);
                }
    }
}

/* --- cells and cost ------------------------------------------------------------------
 */

static void a_cell_counts_to_the_integer_product(void **state)
{
    struct sl_rng r = stream(8);
    struct sl_tr_ops ops;
    int16_t x[8], w[8], vx[8], vw[8];
    uint16_t xp[8], xm[8], wp[8], wm[8];
    sl_tr_ops_init(&ops, sl_cpu_detect());
    for (int round = 0; round < 2000; round++) {
        enum sl_tr_encoder enc = (enum sl_tr_encoder)(round % 3);
        unsigned k = 1 + sl_rng_u32(&r) % 24, s = 1 + sl_rng_u32(&r) % 4;
        struct sl_tr_out ox = {.plus = xp, .minus = xm, .value = vx};
        struct sl_tr_out ow = {.plus = wp, .minus = wm, .value = vw};
        int32_t coefficient[SL_TR_COEFFICIENTS];
        uint64_t pairs;
        int64_t want = 0;
        random_codes(x, 8, &r, 256);
        random_codes(w, 8, &r, 256);
        sl_tr_reveal(&ops, enc, 1, s, &(struct sl_tr_lines){1, 8, 1}, x, &ox);
        sl_tr_reveal(&ops, enc, 8, k, &(struct sl_tr_lines){1, 8, 1}, w, &ow);
        for (int i = 0; i < 8; i++)
            want += (int64_t)vx[i] * vw[i];
        assert_true(sl_tr_cell(8, xp, xm, wp, wm, coefficient, &pairs) == want);
        assert_true(pairs <= (uint64_t)k * s);
        assert_int_equal(pairs, sl_tr_pairs(1, 8, 1, xp, xm, wp, wm));
    }
}

static void the_worked_product_takes_eight_pairs(void **state)
{
    const int16_t w[] = {87, -45, 3, 119}, x[] = {9, 0, -14, 30};
    static const int32_t want[15] = {0, 0, 0, -1, 0, -1, -1, 1, -2, 0, 1, 0, 1, 0, 0};
    struct sl_tr_ops ops;
    uint16_t xp[4], xm[4], wp[4], wm[4];
    struct sl_tr_out ox = {.plus = xp, .minus = xm}, ow = {.plus = wp, .minus = wm};
    int32_t coefficient[SL_TR_COEFFICIENTS];
    uint64_t pairs;
    sl_tr_ops_init(&ops, sl_cpu_detect());
    sl_tr_reveal(&ops, SL_TR_NAF, 1, 2, &(struct sl_tr_lines){1, 4, 1}, x, &ox);
    sl_tr_reveal(&ops, SL_TR_NAF, 4, 6, &(struct sl_tr_lines){1, 4, 1}, w, &ow);
    assert_int_equal(sl_tr_cell(4, xp, xm, wp, wm, coefficient, &pairs), 4632);
    assert_int_equal(pairs, 8);
    assert_memory_equal(coefficient, want, sizeof(want));
}

static void cycles_and_bits_follow_their_formulas(void **state)
{
    struct sl_tr_options o = sl_tr_defaults();
    assert_int_equal(sl_tr_bound(&o, 10, 20, 17), 10 * 20 * 3 * 12 * 3);
    assert_int_equal(sl_tr_cycles(&o, 64, 128, 3), 3 * 12 * 3 + 64 + 128);
    assert_int_equal(sl_tr_cycles(&o, 65, 128, 3), 2 * 3 * 12 * 3 + 64 + 128);
    assert_int_equal(sl_tr_bits(&o, 100), 100 * 5);
    o.bits_w = 9;
    assert_int_equal(sl_tr_bits(&o, 100), 100 * 6);
}

/* --- products ------------------------------------------------------------------------
 */

static void products_are_exact_for_every_shape(void **state)
{
    static const size_t shapes[][3] = {/* m n k */
                                       {1, 1, 1},   {6, 64, 2},  {7, 65, 3},
                                       {5, 16, 33}, {13, 80, 7}, {6, 130, 64},
                                       {12, 10, 31}};
    struct sl_rng r = stream(9);
    uint32_t cpu;
    for (size_t level = 0; sl_cases_cpu(level, &cpu); level++) {
        struct sl_tr_ops ops;
        sl_tr_ops_init(&ops, cpu);
        for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
            size_t m = shapes[i][0], n = shapes[i][1], k = shapes[i][2];
            size_t lda = 2 * SL_TR_PAIRS(k);
            static int16_t a[16 * 64], w[64 * 130], packed[64 * 192 * 2];
            static int64_t narrow[16 * 130], wide[16 * 130];
            static float c[16 * 130], bias[130];
            memset(a, 0, sizeof(a));
            fill(bias, n, 3, 9.0f);
            for (size_t j = 0; j < m; j++)
                random_codes(a + j * lda, k, &r, 128);
            random_codes(w, k * n, &r, 128);
            sl_tr_pack(w, n, false, k, n, packed);
            sl_tr_product_int(&ops, false, m, n, k, a, lda, packed, narrow);
            sl_tr_product_int(&ops, true, m, n, k, a, lda, packed, wide);
            for (size_t x = 0; x < m * n; x++)
                c[x] = 1.0f;
            struct sl_tr_finish f = {0.5f, 3.0f, bias, true, c, n};
            sl_tr_product(&ops, false, m, n, k, a, lda, packed, &f);
            for (size_t row = 0; row < m; row++)
                for (size_t col = 0; col < n; col++) {
                    int64_t want = 0;
                    for (size_t x = 0; x < k; x++)
                        want += (int64_t)a[row * lda + x] * w[x * n + col];
                    assert_true(narrow[row * n + col] == want);
                    assert_true(wide[row * n + col] == want);
                    float v = (float)want * 0.5f;
                    v += bias[col];
                    v *= 3.0f;
                    v = 1.0f + v;
                    assert_true(c[row * n + col] == v);
                }
        }
    }
}

static void bad_options_scales_and_tensors_are_refused(void **state)
{
    const struct sl_tr_options good = sl_tr_defaults();
    struct sl_tr_options o = good;
    struct sl_err err;
    struct sl_tr_ops ops;
    float x[3] = {1.0f, 2.0f, 3.0f}, sf = 7.0f;
    const float zero = 0.0f, tiny = 1e-39f, inf = INFINITY;
    int16_t q[3] = {9, 9, 9};
    assert_int_equal(sl_tr_check(&good, &err), SL_OK);
    o.bits_w = 1;
    assert_int_equal(sl_tr_check(&o, &err), SL_E_RANGE);
    assert_non_null(strstr(err.msg, "bits_w 1 (2 to 15)"));
    o = good;
    o.bits_x = 16;
    assert_int_equal(sl_tr_check(&o, &err), SL_E_RANGE);
    o = good;
    o.g = 0;
    assert_int_equal(sl_tr_check(&o, &err), SL_E_RANGE);
    o = good;
    o.k = 0;
    assert_int_equal(sl_tr_check(&o, &err), SL_E_RANGE);
    o = good;
    o.s = 0;
    assert_int_equal(sl_tr_check(&o, &err), SL_E_RANGE);
    o = good;
    o.hz = NAN;
    assert_int_equal(sl_tr_check(&o, &err), SL_E_RANGE);
    sl_tr_ops_init(&ops, sl_cpu_detect());
    assert_int_equal(sl_tr_quantise(&ops, x, 3, 8, &zero, q, &sf, &err), SL_E_RANGE);
    assert_int_equal(sl_tr_quantise(&ops, x, 3, 8, &tiny, q, &sf, &err), SL_E_RANGE);
    assert_int_equal(sl_tr_quantise(&ops, x, 3, 8, &inf, q, &sf, &err), SL_E_RANGE);
    for (int i = 0; i < 3; i++) {
        float old = x[i];
        x[i] = i == 1 ? NAN : -INFINITY;
        assert_int_equal(sl_tr_quantise(&ops, x, 3, 8, NULL, q, &sf, &err), SL_E_INPUT);
        x[i] = old;
    }
    assert_true(q[0] == 9 && q[2] == 9 && sf == 7.0f);
}

/* --- the unit ------------------------------------------------------------------------
 */

static struct sl_kernels kernels;

static struct sl_unit_ctx context(const struct sl_unit_bytes *b,
                                  const struct sl_tr_options *o)
{
    struct sl_unit_ctx c = {.unit = &sl_matmul_tr, .kernels = &kernels, .version = 1};
    c.options.tr = o;
    c.scratch = aligned_alloc(64, (b->scratch + 63) / 64 * 64);
    c.keep = b->keep == 0 ? NULL : calloc(1, b->keep);
    return c;
}

static void leave(struct sl_unit_ctx *c)
{
    free(c->scratch);
    free(c->keep);
}

/* As the digest says, step by step: x [m, k], w [n, k] with groups of `len` consecutive k
 * in each run. */
static void product_by_definition(const struct sl_tr_options *o, size_t m, size_t n,
                                  size_t k, const float *x, float sf_x, const float *w,
                                  float sf_w, size_t run, float *c)
{
    static int16_t qx[4000], qw[8000];
    for (size_t i = 0; i < m * k; i++) {
        qx[i] = (int16_t)fminf(fabsf(x[i]) / sf_x + 0.5f, (float)(1 << (o->bits_x - 1)));
        qx[i] = x[i] < 0.0f ? (int16_t)-qx[i] : qx[i];
        reveal_one(o->enc, 1, o->s, &qx[i], &qx[i]);
    }
    for (size_t i = 0; i < n * k; i++) {
        qw[i] = (int16_t)fminf(fabsf(w[i]) / sf_w + 0.5f, (float)(1 << (o->bits_w - 1)));
        qw[i] = w[i] < 0.0f ? (int16_t)-qw[i] : qw[i];
    }
    for (size_t j = 0; j < n; j++)
        for (size_t at = 0; at < k; at += run)
            for (size_t i = 0; i < run; i += o->g) {
                size_t g = run - i < o->g ? run - i : o->g;
                reveal_one(o->enc, g, o->k, qw + j * k + at + i, qw + j * k + at + i);
            }
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            int64_t dot = 0;
            for (size_t l = 0; l < k; l++)
                dot += (int64_t)qx[i * k + l] * qw[j * k + l];
            c[i * n + j] = (float)dot * (sf_w * sf_x);
        }
}

static float largest(const float *v, size_t n)
{
    float max = 0.0f;
    for (size_t i = 0; i < n; i++)
        max = fmaxf(max, fabsf(v[i]));
    return max;
}

static void forward_products_are_as_defined(void **state)
{
    enum { RM = 50, RN = 70, RK = 77 };
    static float x[RM * RK], w[RN * RK], want[RM * RN], got[RM * RN];
    struct sl_tr_options o = sl_tr_defaults();
    o.k = 9;
    fill(x, RM * RK, 1, 2.0f);
    fill(w, RN * RK, 2, 0.3f);
    product_by_definition(&o, RM, RN, RK, x, largest(x, RM * RK) / 128.0f, w,
                          largest(w, RN * RK) / 128.0f, RK, want);
    for (int keep = 0; keep < 2; keep++) {
        struct sl_unit_bytes b = {0};
        sl_matmul_tr.matmul_bytes(&(struct sl_unit_options){0}, RM, RN, RK, keep, &b);
        struct sl_unit_ctx c = context(&b, &o);
        struct sl_matmul op = {.pass = SL_PASS_FORWARD,
                               .m = RM,
                               .n = RN,
                               .k = RK,
                               .a = {x, RK, false, SL_ROLE_ACTIVATION},
                               .b = {w, RK, true, SL_ROLE_WEIGHT},
                               .alpha = 1.0f,
                               .c = got,
                               .ldc = RN};
        for (int turn = 0; turn < 2; turn++) {
            sl_matmul(&c, &op);
            assert_memory_equal(got, want, sizeof(want));
        }
        uint64_t weights =
            keep ? RN * RK : 2 * RN * RK; /* converted once, or each time */
        assert_int_equal(c.ledger.conversions[0], 2 * RM * RK + weights);
        assert_int_equal(c.ledger.work[0], 2 * sl_tr_bound(&o, RM, RN, RK));
        o.k = 20; /* another budget is seen without another version */
        sl_matmul(&c, &op);
        assert_memory_not_equal(got, want, sizeof(want));
        o.k = 9;
        x[5] = NAN;
        sl_matmul(&c, &op);
        for (size_t i = 0; i < RM * RN; i++)
            assert_true(isnan(got[i]));
        fill(x, RM * RK, 1, 2.0f);
        leave(&c);
    }
}

static void transposed_and_strided_operands_give_the_same(void **state)
{
    enum { TM = 9, TN = 11, TK = 70, LD = 83 };
    static float x[TM * TK], w[TN * TK], xt[TK * LD], wt[TK * LD], want[TM * TN],
        got[TM * LD];
    struct sl_unit_bytes b = {0};
    fill(x, TM * TK, 1, 1.0f);
    fill(w, TN * TK, 2, 1.0f);
    for (size_t k = 0; k < TK; k++) {
        for (size_t i = 0; i < TM; i++)
            xt[k * LD + i] = x[i * TK + k];
        for (size_t j = 0; j < TN; j++)
            wt[k * LD + j] = w[j * TK + k];
    }
    sl_matmul_tr.matmul_bytes(&(struct sl_unit_options){0}, TM, TN, TK, false, &b);
    for (int role = SL_ROLE_WEIGHT; role <= SL_ROLE_ACTIVATION; role++) {
        struct sl_unit_ctx c = context(&b, NULL);
        struct sl_matmul op = {.pass = SL_PASS_FORWARD,
                               .m = TM,
                               .n = TN,
                               .k = TK,
                               .a = {x, TK, false, SL_ROLE_ACTIVATION},
                               .b = {w, TK, true, (enum sl_role)role},
                               .alpha = 0.25f,
                               .c = want,
                               .ldc = TN};
        sl_matmul(&c, &op);
        op.a = (struct sl_operand){xt, LD, true, SL_ROLE_ACTIVATION};
        op.b = (struct sl_operand){wt, LD, false, (enum sl_role)role};
        op.c = got;
        op.ldc = LD;
        sl_matmul(&c, &op);
        for (size_t i = 0; i < TM; i++)
            assert_memory_equal(got + i * LD, want + i * TN, TN * sizeof(float));
        leave(&c);
    }
}

static void convolutions_group_channels_at_one_kernel_position(void **state)
{
    static const struct sl_conv_geometry list[] = {{10, 5, 6, 7, 5, 6, 3, 1, 1},
                                                   {3, 8, 7, 4, 4, 3, 3, 2, 1},
                                                   {9, 4, 4, 3, 4, 4, 1, 1, 0}};
    static float x[2000], w[2000], y[2000], rows[4000], filters[4000], want[2000];
    for (size_t i = 0; i < sizeof(list) / sizeof(list[0]); i++) {
        const struct sl_conv_geometry *g = &list[i];
        size_t kk = g->kernel * g->kernel, taps = g->in_c * kk, n = 2;
        size_t places = (size_t)g->out_h * g->out_w,
               in = (size_t)g->in_c * g->in_h * g->in_w;
        struct sl_tr_options o = sl_tr_defaults();
        struct sl_unit_bytes b = {0};
        fill(x, n * in, 3, 1.0f);
        fill(w, g->out_c * taps, 4, 1.0f);
        sl_matmul_tr.conv_bytes(&(struct sl_unit_options){0}, g, n, &b);
        struct sl_unit_ctx c = context(&b, &o);
        for (int turn = 0; turn < 2; turn++)
            sl_matmul_tr.conv_forward(&c, g, n, x, w, y);
        /* taps in the order position, channel: groups are runs of channels */
        for (size_t f = 0; f < g->out_c; f++)
            for (size_t t = 0; t < taps; t++)
                filters[f * taps + t] = w[f * taps + t % g->in_c * kk + t / g->in_c];
        for (size_t s = 0; s < n; s++) {
            for (size_t p = 0; p < places; p++)
                for (size_t t = 0; t < taps; t++) {
                    size_t pos = t / g->in_c, ch = t % g->in_c;
                    size_t py = p / g->out_w * g->stride + pos / g->kernel;
                    size_t px = p % g->out_w * g->stride + pos % g->kernel;
                    bool inside = py >= g->pad && py - g->pad < g->in_h && px >= g->pad &&
                                  px - g->pad < g->in_w;
                    rows[p * taps + t] =
                        inside ? x[s * in + (ch * g->in_h + py - g->pad) * g->in_w + px -
                                   g->pad]
                               : 0.0f;
                }
            product_by_definition(&o, places, g->out_c, taps, rows,
                                  largest(x, n * in) / 128.0f, filters,
                                  largest(w, g->out_c * taps) / 128.0f, g->in_c, want);
            for (size_t p = 0; p < places; p++)
                for (size_t f = 0; f < g->out_c; f++)
                    assert_true(y[(s * g->out_c + f) * places + p] ==
                                want[p * g->out_c + f]);
        }
        uint64_t groups = kk * ((g->in_c + o.g - 1) / o.g);
        assert_int_equal(c.ledger.work[0],
                         2 * n * places * g->out_c * groups * o.k * o.s);
        assert_int_equal(c.ledger.conversions[0], 2 * n * in + g->out_c * taps);
        leave(&c);
    }
}

/* --- training and budgets ------------------------------------------------------------
 */

struct bench {
    struct sl_model *model;
    struct sl_dataset set;
    struct sl_trainer *trainer;
    float *start, *end;
};

static void bench_open(struct bench *b, const struct sl_matmul_unit *unit,
                       const struct sl_tr_options *o)
{
    struct sl_layer_spec l[4] = {
        sl_layer_default(SL_LAYER_FLATTEN), sl_layer_default(SL_LAYER_DENSE),
        sl_layer_default(SL_LAYER_RELU), sl_layer_default(SL_LAYER_DENSE)};
    struct sl_dataset_source source = {
        .kind = "synthetic", .path = "height=4,width=4,classes=4,train=200,test=8"};
    struct sl_err err;
    l[1].out = 40;
    l[3].out = 4;
    *b = (struct bench){0};
    assert_int_equal(sl_dataset_load(&source, &b->set, &err), SL_OK);
    struct sl_model_spec spec = {l, 4};
    assert_int_equal(sl_model_new(&spec, &(struct sl_shape){3, {1, 4, 4}}, 4,
                                  SL_LOSS_SOFTMAX_CE, &b->model, &err),
                     SL_OK);
    struct sl_trainer_options to = {
        .max_batch = 64, .unit = unit, .unit_options = {.tr = o}};
    assert_int_equal(sl_trainer_new(b->model, &to, &b->trainer, &err), SL_OK);
    size_t n = sl_model_layout(b->model)->n_values;
    b->start = calloc(n, sizeof(float));
    b->end = calloc(n, sizeof(float));
    sl_model_init_uniform(b->model, 2, b->start);
}

static void bench_close(struct bench *b)
{
    sl_trainer_free(b->trainer);
    sl_model_free(b->model);
    sl_dataset_deinit(&b->set);
    free(b->start);
    free(b->end);
}

static struct sl_train_result train(struct bench *b)
{
    struct sl_samples s = {.set = &b->set, .n = b->set.n};
    struct sl_train_spec ts = {
        .lr = 0.1, .batch_size = 20, .epochs = 5, .local_steps = -1, .seed = 1};
    struct sl_train_result r;
    struct sl_err err;
    if (sl_train(b->trainer, b->start, &s, &ts, b->end, &r, &err) != SL_OK)
        fail_msg("%s", err.msg);
    return r;
}

static struct sl_eval_result evaluate(struct bench *b, const float *values)
{
    struct sl_samples s = {.set = &b->set, .n = b->set.n};
    struct sl_eval_result r;
    struct sl_err err;
    if (sl_evaluate(b->trainer, values, &s, &r, &err) != SL_OK)
        fail_msg("%s", err.msg);
    return r;
}

static void a_model_trains_through_the_unit(void **state)
{
    struct bench b, fp32;
    bench_open(&b, &sl_matmul_tr, NULL);
    bench_open(&fp32, &sl_matmul_fp32, NULL);
    struct sl_train_result r = train(&b), want = train(&fp32);
    assert_true(r.first_loss > 1.0 && isfinite(r.loss_sum));
    struct sl_eval_result e = evaluate(&b, b.end), we = evaluate(&fp32, fp32.end);
    assert_true(e.correct >= b.set.n * 9 / 10);
    assert_true(fabs(r.loss_sum - want.loss_sum) < 0.1 * want.loss_sum);
    assert_true(e.correct + b.set.n / 20 >= we.correct);
    bench_close(&b);
    bench_close(&fp32);
}

static void one_model_is_evaluated_at_several_budgets(void **state)
{
    static const unsigned budgets[][2] = {{1, 2}, {2, 8}, {2, 14}, {3, 20}, {15, 4000}};
    struct bench fp32, b;
    struct sl_tr_options o = sl_tr_defaults();
    double losses[5], first;
    bench_open(&fp32, &sl_matmul_fp32, NULL);
    bench_open(&b, &sl_matmul_tr, &o);
    train(&fp32);
    double exact = evaluate(&fp32, fp32.end).loss_sum;
    for (size_t i = 0; i < 5; i++) {
        o.g = 16;
        o.s = budgets[i][0];
        o.k = budgets[i][1];
        losses[i] = evaluate(&b, fp32.end).loss_sum;
    }
    first = losses[0];
    assert_true(fabs(losses[4] - exact) < 0.02 * exact); /* 8 bits, no term dropped */
    assert_true(fabs(losses[3] - losses[4]) < 0.05 * exact);
    assert_true(fabs(losses[0] - exact) > fabs(losses[2] - exact));
    struct sl_tr_options small = o;
    small.s = budgets[0][0];
    small.k = budgets[0][1];
    sl_trainer_set_unit_options(b.trainer, &(struct sl_unit_options){.tr = &small});
    assert_true(evaluate(&b, fp32.end).loss_sum == first);
    bench_close(&fp32);
    bench_close(&b);
}

static void evaluation_is_the_same_on_every_kernel(void **state)
{
    struct bench b;
    double want = 0.0;
    uint32_t cpu;
    for (size_t level = 0; sl_cases_cpu(level, &cpu); level++) {
        struct sl_err err;
        bench_open(&b, &sl_matmul_tr, NULL);
        sl_trainer_free(b.trainer);
        struct sl_trainer_options to = {
            .max_batch = 33, .unit = &sl_matmul_tr, .cpu_off = ~cpu};
        assert_int_equal(sl_trainer_new(b.model, &to, &b.trainer, &err), SL_OK);
        double loss = evaluate(&b, b.start).loss_sum;
        assert_true(level == 0 || loss == want);
        want = loss;
        bench_close(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(digits_decode_to_their_code),
        cmocka_unit_test(naf_is_sparse_and_minimal),
        cmocka_unit_test(encoders_equal_their_scans),
        cmocka_unit_test(term_statistics_are_the_digests),
        cmocka_unit_test(the_largest_terms_stay_and_ties_go_to_the_lowest_index),
        cmocka_unit_test(the_worked_groups_come_out),
        cmocka_unit_test(a_budget_for_all_terms_changes_nothing),
        cmocka_unit_test(revealing_twice_and_with_other_signs_is_the_same),
        cmocka_unit_test(without_ties_a_permuted_group_gives_a_permuted_result),
        cmocka_unit_test(the_water_never_rises_with_the_budget),
        cmocka_unit_test(a_cap_is_a_budget_for_one_value),
        cmocka_unit_test(few_naf_terms_are_near_the_value),
        cmocka_unit_test(larger_groups_lose_less_at_the_same_share),
        cmocka_unit_test(lines_along_any_axis_are_grouped_with_their_tails),
        cmocka_unit_test(a_cell_counts_to_the_integer_product),
        cmocka_unit_test(the_worked_product_takes_eight_pairs),
        cmocka_unit_test(cycles_and_bits_follow_their_formulas),
        cmocka_unit_test(products_are_exact_for_every_shape),
        cmocka_unit_test(bad_options_scales_and_tensors_are_refused),
        cmocka_unit_test(forward_products_are_as_defined),
        cmocka_unit_test(transposed_and_strided_operands_give_the_same),
        cmocka_unit_test(convolutions_group_channels_at_one_kernel_position),
        cmocka_unit_test(a_model_trains_through_the_unit),
        cmocka_unit_test(one_model_is_evaluated_at_several_budgets),
        cmocka_unit_test(evaluation_is_the_same_on_every_kernel),
    };
    sl_accel_init();
    sl_kernels_init(&kernels, sl_cpu_detect());
    return cmocka_run_group_tests_name("tr", tests, NULL, NULL);
}
