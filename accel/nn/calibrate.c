/* SPDX-License-Identifier: Apache-2.0 */
#include "accel/nn/calibrate.h"

#include <cblas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "accel/nn/calibrate_parts.h"
#include "common/mem.h"

#define BLOCK 64         /* samples a rank-k update takes at once */
#define LENGTH_MIN 1e-12 /* features shorter than this have no direction */

/* LAPACK's Cholesky, as in OpenBLAS: A = L L^T, and the solution of A X = B. */
extern void dpotrf_(const char *uplo, const int *n, double *a, const int *lda, int *info);
extern void dpotrs_(const char *uplo, const int *n, const int *nrhs, const double *a,
                    const int *lda, double *b, const int *ldb, int *info);

/* --- shape
 * ------------------------------------------------------------------------------------- */

size_t sl_calib_n_v(const struct sl_calib_shape *s)
{
    return sl_calib_triangle(s->width) * (s->balanced ? s->classes : 1);
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
        add_compensated(v + sl_calib_triangle(i), v_low + sl_calib_triangle(i), square + i * width, i + 1);
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
        size_t got = pick(z, labels, n, width, (int32_t)k, rows), at = k * sl_calib_triangle(width);
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

/* --- solution
 * ---------------------------------------------------------------------------------- */

/* The lower triangle, row-major, is the upper one for LAPACK. */
bool sl_calib_cholesky(double *a, size_t width)
{
    int n = (int)width, info;
    dpotrf_("U", &n, a, &n, &info);
    for (size_t i = 0; i < width; i++) /* NaN is no pivot that LAPACK stops at */
        if (!isfinite(a[i * width + i]))
            return false;
    return info == 0;
}

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
        const double *v = c->v + k * sl_calib_triangle(width);
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
    while (!sl_calib_cholesky(a, width) && lambda <= most) {
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
