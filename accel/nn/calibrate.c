/* SPDX-License-Identifier: Apache-2.0 */
#include "accel/nn/calibrate.h"

#include <cblas.h>
#include <endian.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/mem.h"

#define MAGIC "SLCALIB1"
#define HEADER 40
#define BLOCK 64         /* samples a rank-k update takes at once */
#define LENGTH_MIN 1e-12 /* features shorter than this have no direction */
#define SLACK 1e-9       /* what rounding may take from a bound, relative to n */

/* LAPACK's Cholesky, as in OpenBLAS: A = L L^T, and the solution of A X = B. */
extern void dpotrf_(const char *uplo, const int *n, double *a, const int *lda, int *info);
extern void dpotrs_(const char *uplo, const int *n, const int *nrhs, const double *a,
                    const int *lda, double *b, const int *ldb, int *info);

/* --- shape
 * ------------------------------------------------------------------------------------- */

static size_t triangle(size_t width)
{
    return width * (width + 1) / 2;
}

size_t sl_calib_n_v(const struct sl_calib_shape *s)
{
    return triangle(s->width) * (s->balanced ? s->classes : 1);
}

size_t sl_calib_n_u(const struct sl_calib_shape *s)
{
    return (size_t)s->width * s->classes;
}

static enum sl_code check_shape(const struct sl_calib_shape *s, struct sl_err *err)
{
    if (s->width <= 65536 && s->classes <= 65536 &&
        sl_calib_n_v(s) + sl_calib_n_u(s) <= SL_CALIB_VALUES_MAX)
        return SL_OK;
    return sl_err_set(err, SL_E_LIMIT,
                      "calibration of %u features for %u classes%s: more than %zu values",
                      s->width, s->classes, s->balanced ? ", balanced" : "",
                      SL_CALIB_VALUES_MAX);
}

enum sl_code sl_calib_shape_of(const struct sl_model *m, bool balanced,
                               struct sl_calib_shape *ret, struct sl_err *err)
{
    struct sl_head_info h;
    if (!sl_model_head(m, &h) || (!h.fixed && h.bias == SIZE_MAX))
        return sl_err_set(err, SL_E_INPUT,
                          "calibration: the model does not end in a fixed head or a dense layer "
                          "with a bias");
    struct sl_calib_shape s = {.width = (uint32_t)h.width + !h.fixed,
                               .classes = (uint32_t)h.classes,
                               .bias = !h.fixed,
                               .balanced = balanced};
    enum sl_code rc = check_shape(&s, err);
    if (rc == SL_OK)
        *ret = s;
    return rc;
}

/* --- life
 * -------------------------------------------------------------------------------------- */

enum sl_code sl_calib_init(struct sl_calib *c, const struct sl_calib_shape *s,
                           struct sl_err *err)
{
    *c = (struct sl_calib){.shape = *s};
    enum sl_code rc = check_shape(s, err);
    if (rc != SL_OK)
        return rc;
    c->counts = sl_calloc(s->classes, sizeof(*c->counts));
    c->v = sl_calloc(sl_calib_n_v(s), sizeof(*c->v));
    c->v_low = sl_calloc(sl_calib_n_v(s), sizeof(*c->v_low));
    c->u = sl_calloc(sl_calib_n_u(s), sizeof(*c->u));
    c->u_low = sl_calloc(sl_calib_n_u(s), sizeof(*c->u_low));
    if (c->counts != NULL && c->v != NULL && c->v_low != NULL && c->u != NULL && c->u_low != NULL)
        return SL_OK;
    sl_calib_deinit(c);
    return sl_err_set(err, SL_E_NOMEM, "calibration of %u features", s->width);
}

void sl_calib_deinit(struct sl_calib *c)
{
    if (c == NULL)
        return;
    free(c->counts);
    free(c->v);
    free(c->v_low);
    free(c->u);
    free(c->u_low);
    *c = (struct sl_calib){0};
}

void sl_calib_clear(struct sl_calib *c)
{
    size_t n_v = sl_calib_n_v(&c->shape), n_u = sl_calib_n_u(&c->shape);
    c->n = c->n_zero = 0;
    memset(c->counts, 0, c->shape.classes * sizeof(*c->counts));
    memset(c->v, 0, n_v * sizeof(*c->v));
    memset(c->v_low, 0, n_v * sizeof(*c->v_low));
    memset(c->u, 0, n_u * sizeof(*c->u));
    memset(c->u_low, 0, n_u * sizeof(*c->u_low));
}

/* --- sums
 * -------------------------------------------------------------------------------------- */

typedef double lanes __attribute__((vector_size(4 * sizeof(double))));
#define LANES (sizeof(lanes) / sizeof(double))

/* sum + low += x: what the sum's rounding takes away goes to low (Knuth's TwoSum), which stays within half
 * a unit of the sum's last place. */
#define ADD_COMPENSATED(type, sum, low, x)                                                         \
    do {                                                                                           \
        type high = (sum) + (x), part = high - (sum);                                              \
        type rest = ((sum) - (high - part)) + ((x) - part) + (low);                                \
        (sum) = high + rest;                                                                       \
        (low) = rest - ((sum) - high);                                                             \
    } while (0)

/* n of each */
static void add_compensated(double *restrict sum, double *restrict low, const double *restrict x,
                            size_t n)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        lanes s, l, a;
        memcpy(&s, sum + i, sizeof(s));
        memcpy(&l, low + i, sizeof(l));
        memcpy(&a, x + i, sizeof(a));
        ADD_COMPENSATED(lanes, s, l, a);
        memcpy(sum + i, &s, sizeof(s));
        memcpy(low + i, &l, sizeof(l));
    }
    for (; i < n; i++)
        ADD_COMPENSATED(double, sum[i], low[i], x[i]);
}

/* v += z^T z of rows [n, width]; square [width, width] is scratch. The block is added up in plain
 * doubles: products of two floats are exact, and a short sum of them all but is. */
static void add_moments(double *v, double *v_low, const double *rows, size_t n, size_t width,
                        double *square)
{
    cblas_dsyrk(CblasRowMajor, CblasLower, CblasTrans, (int)width, (int)n, 1.0, rows,
                (int)width, 0.0, square, (int)width);
    for (size_t i = 0; i < width; i++)
        add_compensated(v + triangle(i), v_low + triangle(i), square + i * width, i + 1);
}

/* The block's samples of class c, in order, to `rows`. */
static size_t pick(const double *z, const int32_t *labels, size_t n, size_t width, int32_t c,
                   double *rows)
{
    size_t got = 0;
    for (size_t i = 0; i < n; i++)
        if (labels[i] == c)
            memcpy(rows + got++ * width, z + i * width, width * sizeof(*rows));
    return got;
}

static void add_block(struct sl_calib *c, const double *z, const int32_t *labels, size_t n,
                      double *square, double *rows)
{
    size_t width = c->shape.width;
    for (size_t i = 0; i < n; i++) {
        size_t at = (size_t)labels[i] * width;
        add_compensated(c->u + at, c->u_low + at, z + i * width, width);
        c->counts[labels[i]]++;
        c->n_zero += cblas_dasum((int)width, z + i * width, 1) == 0;
    }
    c->n += n;
    if (!c->shape.balanced) {
        add_moments(c->v, c->v_low, z, n, width, square);
        return;
    }
    for (uint32_t k = 0; k < c->shape.classes; k++) {
        size_t got = pick(z, labels, n, width, (int32_t)k, rows), at = k * triangle(width);
        if (got > 0)
            add_moments(c->v + at, c->v_low + at, rows, got, width, square);
    }
}

enum sl_code sl_calib_add(struct sl_calib *c, const double *z, const int32_t *labels, size_t n,
                          struct sl_err *err)
{
    size_t width = c->shape.width;
    double *square = sl_calloc(width * width, sizeof(*square));
    double *rows = c->shape.balanced ? sl_calloc(BLOCK * width, sizeof(*rows)) : NULL;
    enum sl_code rc = SL_OK;
    if (square == NULL || (c->shape.balanced && rows == NULL))
        rc = sl_err_set(err, SL_E_NOMEM, "calibration of %zu features", width);
    for (size_t at = 0; rc == SL_OK && at < n; at += BLOCK)
        add_block(c, z + at * width, labels + at, n - at < BLOCK ? n - at : BLOCK, square,
                  rows);
    free(square);
    free(rows);
    return rc;
}

/* What the features of a pass go to: blocks of BLOCK samples, whatever the batches were. */
struct collector {
    struct sl_calib *c;
    double *z; /* [BLOCK, width] */
    int32_t labels[BLOCK];
    size_t n;
    double *square, *rows;
    bool finite;
};

static void flush(struct collector *k)
{
    add_block(k->c, k->z, k->labels, k->n, k->square, k->rows);
    k->n = 0;
}

/* z of a feature vector of n values. */
static void place_features(const struct sl_calib_shape *s, const float *h, size_t n, double *z)
{
    double square = 0, factor = 1;
    for (size_t i = 0; i < n; i++)
        square += (double)h[i] * (double)h[i];
    if (!s->bias)
        factor = sqrt(square) <= LENGTH_MIN ? 0 : 1 / sqrt(square);
    for (size_t i = 0; i < n; i++)
        z[i] = factor * (double)h[i];
    if (s->bias)
        z[n] = 1;
}

static void take_features(void *ctx, const float *h, const int32_t *labels, size_t n)
{
    struct collector *k = ctx;
    const struct sl_calib_shape *s = &k->c->shape;
    size_t width = s->width - s->bias;
    for (size_t i = 0; i < n; i++, h += width) {
        for (size_t j = 0; j < width; j++)
            k->finite = k->finite && isfinite(h[j]);
        if (!k->finite)
            return;
        place_features(s, h, width, k->z + k->n * s->width);
        k->labels[k->n++] = labels[i];
        if (k->n == BLOCK)
            flush(k);
    }
}

enum sl_code sl_calib_collect(struct sl_calib *c, struct sl_trainer *t, const float *values,
                              const struct sl_samples *samples, struct sl_err *err)
{
    size_t width = c->shape.width;
    struct collector k = {.c = c,
                          .z = sl_calloc(BLOCK * width, sizeof(double)),
                          .square = sl_calloc(width * width, sizeof(double)),
                          .rows = sl_calloc(BLOCK * width, sizeof(double)),
                          .finite = true};
    enum sl_code rc = k.z == NULL || k.square == NULL || k.rows == NULL
                          ? sl_err_set(err, SL_E_NOMEM, "calibration of %zu features", width)
                          : sl_features(t, values, samples, take_features, &k, err);
    if (rc == SL_OK && !k.finite)
        rc = sl_err_set(err, SL_E_FAILED, "calibration: a feature is not finite");
    if (rc == SL_OK)
        flush(&k);
    free(k.z);
    free(k.square);
    free(k.rows);
    return rc;
}

void sl_calib_merge(struct sl_calib *sum, const struct sl_calib *c)
{
    size_t n_v = sl_calib_n_v(&c->shape), n_u = sl_calib_n_u(&c->shape);
    sum->n += c->n;
    sum->n_zero += c->n_zero;
    for (uint32_t k = 0; k < c->shape.classes; k++)
        sum->counts[k] += c->counts[k];
    add_compensated(sum->v, sum->v_low, c->v, n_v);
    add_compensated(sum->v, sum->v_low, c->v_low, n_v);
    add_compensated(sum->u, sum->u_low, c->u, n_u);
    add_compensated(sum->u, sum->u_low, c->u_low, n_u);
}

/* --- bytes
 * ------------------------------------------------------------------------------------- */

uint64_t sl_calib_bytes(const struct sl_calib_shape *s)
{
    return HEADER + 8 * ((uint64_t)s->classes + sl_calib_n_v(s) + sl_calib_n_u(s));
}

static uint8_t *put32(uint8_t *to, uint32_t x)
{
    x = htole32(x);
    memcpy(to, &x, sizeof(x));
    return to + sizeof(x);
}

static uint8_t *put64(uint8_t *to, uint64_t x)
{
    x = htole64(x);
    memcpy(to, &x, sizeof(x));
    return to + sizeof(x);
}

static uint8_t *put_reals(uint8_t *to, const double *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t bits;
        memcpy(&bits, &x[i], sizeof(bits));
        to = put64(to, bits);
    }
    return to;
}

static uint64_t get64(const uint8_t *from)
{
    uint64_t x;
    memcpy(&x, from, sizeof(x));
    return le64toh(x);
}

static const uint8_t *get_reals(const uint8_t *from, double *x, size_t n)
{
    for (size_t i = 0; i < n; i++, from += 8) {
        uint64_t bits = get64(from);
        memcpy(&x[i], &bits, sizeof(bits));
    }
    return from;
}

/* All of the shape, in front of the statistics. */
static void put_shape(const struct sl_calib_shape *s, uint8_t *to)
{
    memcpy(to, MAGIC, 8);
    to = put32(to + 8, s->width);
    to = put32(to, s->classes);
    to = put32(to, s->bias);
    put32(to, s->balanced);
}

void sl_calib_write(const struct sl_calib *c, uint8_t *ret)
{
    put_shape(&c->shape, ret);
    ret = put64(ret + 24, c->n);
    ret = put64(ret, c->n_zero);
    for (uint32_t k = 0; k < c->shape.classes; k++)
        ret = put64(ret, c->counts[k]);
    ret = put_reals(ret, c->v, sl_calib_n_v(&c->shape));
    put_reals(ret, c->u, sl_calib_n_u(&c->shape));
}

enum sl_code sl_calib_read(struct sl_calib *c, const uint8_t *bytes, size_t n,
                           struct sl_err *err)
{
    uint8_t shape[24];
    put_shape(&c->shape, shape);
    if (n != sl_calib_bytes(&c->shape))
        return sl_err_set(err, SL_E_REJECTED, "statistics of %zu bytes (%" PRIu64 " expected)", n,
                          sl_calib_bytes(&c->shape));
    if (memcmp(bytes, shape, sizeof(shape)) != 0)
        return sl_err_set(err, SL_E_REJECTED, "statistics of another shape");
    c->n = get64(bytes + 24);
    c->n_zero = get64(bytes + 32);
    bytes += HEADER;
    for (uint32_t k = 0; k < c->shape.classes; k++, bytes += 8)
        c->counts[k] = get64(bytes);
    bytes = get_reals(bytes, c->v, sl_calib_n_v(&c->shape));
    get_reals(bytes, c->u, sl_calib_n_u(&c->shape));
    memset(c->v_low, 0, sl_calib_n_v(&c->shape) * sizeof(*c->v_low));
    memset(c->u_low, 0, sl_calib_n_u(&c->shape) * sizeof(*c->u_low));
    return SL_OK;
}

/* --- checks
 * ------------------------------------------------------------------------------------ */

static enum sl_code check_counts(const struct sl_calib *c, const struct sl_calib_limits *l,
                                 struct sl_err *err)
{
    uint64_t sum = 0;
    if (c->n > l->max_samples || (l->exact && c->n != l->max_samples))
        return sl_err_set(err, SL_E_REJECTED, "statistics of %" PRIu64 " samples (%s%" PRIu64
                          " enrolled)", c->n, l->exact ? "" : "at most ", l->max_samples);
    for (uint32_t k = 0; k < c->shape.classes; k++)
        if (__builtin_add_overflow(sum, c->counts[k], &sum))
            return sl_err_set(err, SL_E_REJECTED, "statistics: counts beyond 2^64");
    if (sum != c->n || c->n_zero > c->n)
        return sl_err_set(err, SL_E_REJECTED,
                          "statistics: classes of %" PRIu64 " samples together, %" PRIu64
                          " without direction, of %" PRIu64, sum, c->n_zero, c->n);
    return SL_OK;
}

static enum sl_code check_finite(const struct sl_calib *c, struct sl_err *err)
{
    for (size_t i = 0; i < sl_calib_n_v(&c->shape); i++)
        if (!isfinite(c->v[i]))
            return sl_err_set(err, SL_E_REJECTED, "statistics: V has a value that is not finite");
    for (size_t i = 0; i < sl_calib_n_u(&c->shape); i++)
        if (!isfinite(c->u[i]))
            return sl_err_set(err, SL_E_REJECTED, "statistics: U has a value that is not finite");
    return SL_OK;
}

static double trace(const double *v, size_t width)
{
    double sum = 0;
    for (size_t i = 0; i < width; i++)
        sum += v[triangle(i) + i];
    return sum;
}

/* V over all classes, at place i of the triangle. */
static double v_at(const struct sl_calib *c, size_t i)
{
    size_t step = triangle(c->shape.width);
    double sum = 0;
    for (uint32_t k = 0; k < (c->shape.balanced ? c->shape.classes : 1); k++)
        sum += c->v[k * step + i];
    return sum;
}

static enum sl_code check_lengths(const struct sl_calib *c, struct sl_err *err)
{
    size_t width = c->shape.width;
    double got = 0, want = (double)(c->n - c->n_zero);
    for (uint32_t k = 0; k < (c->shape.balanced ? c->shape.classes : 1); k++)
        got += trace(c->v + k * triangle(width), width);
    if (!(fabs(got - want) <= SLACK * (double)c->n))
        return sl_err_set(err, SL_E_REJECTED, "statistics: trace of V is %.12g (%.12g expected)",
                          got, want);
    for (uint32_t k = 0; k < c->shape.classes; k++) {
        double length = cblas_dnrm2((int)width, c->u + k * width, 1);
        if (!(length <= (double)c->counts[k] * (1 + SLACK)))
            return sl_err_set(err, SL_E_REJECTED, "statistics: sum of class %u has length %.9g "
                              "(at most %" PRIu64 ", its samples)", k, length, c->counts[k]);
    }
    return SL_OK;
}

/* The 1 behind every feature vector: its row of V is the sum of U's columns. */
static enum sl_code check_bias(const struct sl_calib *c, struct sl_err *err)
{
    size_t width = c->shape.width, row = triangle(width - 1);
    for (size_t j = 0; j < width; j++) {
        double want = 0, size = 0;
        for (uint32_t k = 0; k < c->shape.classes; k++) {
            want += c->u[k * width + j];
            size += fabs(c->u[k * width + j]);
        }
        if (!(fabs(v_at(c, row + j) - want) <= SLACK * (size + (double)c->n)))
            return sl_err_set(err, SL_E_REJECTED, "statistics: V and U contradict each other in "
                              "the column of the bias, at %zu", j);
    }
    for (uint32_t k = 0; k < c->shape.classes; k++)
        if (!(fabs(c->u[k * width + width - 1] - (double)c->counts[k]) <= SLACK * (double)c->n))
            return sl_err_set(err, SL_E_REJECTED, "statistics: class %u has %" PRIu64
                              " samples, its bias %.9g", k, c->counts[k],
                              c->u[k * width + width - 1]);
    return SL_OK;
}

/* a [width, width] -= u u^T / n of class k */
static void subtract_mean(const struct sl_calib *c, uint32_t k, double *a)
{
    size_t width = c->shape.width;
    if (c->counts[k] > 0)
        cblas_dsyr(CblasRowMajor, CblasLower, (int)width, -1.0 / (double)c->counts[k],
                   c->u + k * width, 1, a, (int)width);
}

/* The lower triangle, row-major, is the upper one for LAPACK. */
static bool cholesky(double *a, size_t width)
{
    int n = (int)width, info;
    dpotrf_("U", &n, a, &n, &info);
    for (size_t i = 0; i < width; i++) /* NaN is no pivot that LAPACK stops at */
        if (!isfinite(a[i * width + i]))
            return false;
    return info == 0;
}

/* Is v (of class k, or of all) less the outer means semidefinite, but for rounding? */
static bool spread_is_semidefinite(const struct sl_calib *c, const double *v, uint32_t first,
                                   uint32_t end, double *a)
{
    size_t width = c->shape.width;
    double give = SLACK * trace(v, width);
    const double *from = v;
    for (size_t i = 0; i < width; i++)
        for (size_t j = 0; j <= i; j++)
            a[i * width + j] = *from++;
    for (uint32_t k = first; k < end; k++)
        subtract_mean(c, k, a);
    for (size_t i = 0; i < width; i++)
        a[i * width + i] += give > 0 ? give : 1e-300;
    return cholesky(a, width);
}

static enum sl_code check_spread(const struct sl_calib *c, struct sl_err *err)
{
    size_t width = c->shape.width;
    double *a = sl_calloc(width * width, sizeof(*a));
    bool good = true;
    if (a == NULL)
        return sl_err_set(err, SL_E_NOMEM, "calibration of %zu features", width);
    if (!c->shape.balanced)
        good = spread_is_semidefinite(c, c->v, 0, c->shape.classes, a);
    for (uint32_t k = 0; c->shape.balanced && good && k < c->shape.classes; k++)
        good = spread_is_semidefinite(c, c->v + k * triangle(width), k, k + 1, a);
    free(a);
    return good ? SL_OK
                : sl_err_set(err, SL_E_REJECTED,
                             "statistics: V less the classes' means is not semidefinite");
}

enum sl_code sl_calib_check(const struct sl_calib *c, const struct sl_calib_limits *l,
                            struct sl_err *err)
{
    enum sl_code rc = check_counts(c, l, err);
    if (rc == SL_OK)
        rc = check_finite(c, err);
    if (rc == SL_OK)
        rc = c->shape.bias ? check_bias(c, err) : check_lengths(c, err);
    return rc == SL_OK ? check_spread(c, err) : rc;
}

/* --- solution
 * ---------------------------------------------------------------------------------- */

/* What a sample of class k weighs. */
static double weight_of(const struct sl_calib *c, uint32_t k)
{
    uint32_t there = 0;
    if (!c->shape.balanced)
        return 1;
    for (uint32_t i = 0; i < c->shape.classes; i++)
        there += c->counts[i] > 0;
    return c->counts[k] == 0 ? 0 : (double)c->n / ((double)there * (double)c->counts[k]);
}

/* a [width, width], lower: V + lambda I */
static void fill(const struct sl_calib *c, double lambda, double *a)
{
    size_t width = c->shape.width;
    memset(a, 0, width * width * sizeof(*a));
    for (uint32_t k = 0; k < (c->shape.balanced ? c->shape.classes : 1); k++) {
        const double *v = c->v + k * triangle(width);
        double w = weight_of(c, k);
        for (size_t i = 0; i < width; i++)
            for (size_t j = 0; j <= i; j++)
                a[i * width + j] += w * *v++;
    }
    for (size_t i = 0; i < width; i++)
        a[i * width + i] += lambda;
}

static void solve_into(const struct sl_calib *c, const double *a, double lambda,
                       const double *w0, double *ret_w)
{
    size_t width = c->shape.width;
    int n = (int)width, classes = (int)c->shape.classes, info;
    for (uint32_t k = 0; k < c->shape.classes; k++)
        for (size_t i = 0; i < width; i++) {
            size_t at = k * width + i;
            ret_w[at] = weight_of(c, k) * c->u[at] + (w0 == NULL ? 0 : lambda * w0[at]);
        }
    dpotrs_("U", &n, &classes, a, &n, ret_w, &n, &info);
}

enum sl_code sl_calib_solve(const struct sl_calib *c, double lambda, const double *w0,
                            double *ret_w, double *ret_lambda, struct sl_err *err)
{
    size_t width = c->shape.width;
    double n = (double)c->n, most = 1e6 * n > lambda ? 1e6 * n : lambda;
    if (c->n == 0)
        return sl_err_set(err, SL_E_FAILED, "calibration of no samples");
    double *a = sl_calloc(width * width, sizeof(*a));
    if (a == NULL)
        return sl_err_set(err, SL_E_NOMEM, "calibration of %zu features", width);
    fill(c, lambda, a);
    while (!cholesky(a, width) && lambda <= most) {
        lambda = lambda == 0 ? 1e-12 * n : 10 * lambda;
        fill(c, lambda, a);
    }
    if (lambda <= most) {
        solve_into(c, a, lambda, w0, ret_w);
        *ret_lambda = lambda;
    }
    free(a);
    return lambda <= most ? SL_OK
                          : sl_err_set(err, SL_E_FAILED, "calibration: no Cholesky factor up to "
                                       "lambda %g", most);
}

void sl_calib_apply(const struct sl_calib_shape *s, const double *w, const struct sl_model *m,
                    float *values)
{
    struct sl_head_info h;
    if (!sl_model_head(m, &h))
        return;
    for (size_t k = 0; k < h.classes; k++) {
        for (size_t i = 0; i < h.width; i++)
            values[h.weight + k * h.width + i] = (float)w[k * s->width + i];
        if (s->bias)
            values[h.bias + k] = (float)w[k * s->width + h.width];
    }
}
