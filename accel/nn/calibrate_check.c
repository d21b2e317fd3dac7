/* SPDX-License-Identifier: Apache-2.0 */
/* Statistics that come from outside: their bytes, and whether any samples could have them. */
#include <cblas.h>
#include <endian.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "accel/nn/calibrate_parts.h"
#include "common/mem.h"

#define MAGIC "SLCALIB1"
#define HEADER 40
#define SLACK 1e-9 /* what rounding may take from a bound, relative to n */

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
        sum += v[sl_calib_triangle(i) + i];
    return sum;
}

/* V over all classes, at place i of the triangle. */
static double v_at(const struct sl_calib *c, size_t i)
{
    size_t step = sl_calib_triangle(c->shape.width);
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
        got += trace(c->v + k * sl_calib_triangle(width), width);
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
    size_t width = c->shape.width, row = sl_calib_triangle(width - 1);
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
    return sl_calib_cholesky(a, width);
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
        good = spread_is_semidefinite(c, c->v + k * sl_calib_triangle(width), k, k + 1, a);
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
