/* SPDX-License-Identifier: Apache-2.0 */
#include "common/plot.h"

#include <math.h>
#include <stdio.h>

#define VALUE_MAX 1e300
#define NARROWEST                                                                        \
    1e-9            /* of the larger end: a range below it has no digits left to show */
#define TINY 1e-290 /* as good as 0: steps below it would round to 0 */
#define DIGITS_MAX 6
#define PLAIN_MAX 1e7 /* larger ends are labelled in powers of ten */
#define SLACK 1e-6    /* of a step: an end this near a tick is that tick */

/* --- axes ------------------------------------------------------------------------- */

void sl_plot_range_add(struct sl_plot_range *r, const double *values, const double *other,
                       size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(values[i]) || !isfinite(other[i]))
            continue;
        double v = fmax(-VALUE_MAX, fmin(VALUE_MAX, values[i]));
        *r = r->lo > r->hi ? (struct sl_plot_range){v, v}
                           : (struct sl_plot_range){fmin(r->lo, v), fmax(r->hi, v)};
    }
}

/* Ends far enough apart to be told from each other. */
static struct sl_plot_range widened(const struct sl_plot_range *r)
{
    if (r->lo > r->hi)
        return (struct sl_plot_range){0, 1};
    double most = fmax(fabs(r->lo), fabs(r->hi));
    if (r->hi - r->lo > fmax(most * NARROWEST, TINY))
        return *r;
    double half = most > TINY ? most / 10 : 0.5;
    return (struct sl_plot_range){r->lo - half, r->hi + half};
}

/* The smallest of 1, 2, 5 times a power of ten that is not below `raw`. */
static double round_step(double raw)
{
    double power = pow(10, floor(log10(raw)));
    double times = raw / power;
    return (times <= 1 + SLACK   ? 1
            : times <= 2 + SLACK ? 2
            : times <= 5 + SLACK ? 5
                                 : 10) *
           power;
}

struct sl_plot_axis sl_plot_axis_fit(const struct sl_plot_range *range, int ticks,
                                     int round_out)
{
    struct sl_plot_range r = widened(range);
    struct sl_plot_axis a = {.lo = r.lo, .hi = r.hi};
    a.step = round_step((r.hi - r.lo) / (ticks > 1 ? ticks : 1));
    if (round_out) {
        a.first = (int64_t)floor(r.lo / a.step + SLACK);
        a.last = (int64_t)ceil(r.hi / a.step - SLACK);
        a.lo = (double)a.first * a.step;
        a.hi = (double)a.last * a.step;
    } else {
        a.first = (int64_t)ceil(r.lo / a.step - SLACK);
        a.last = (int64_t)floor(r.hi / a.step + SLACK);
    }
    int digits = -(int)floor(log10(a.step) + SLACK);
    a.digits = digits < 0 ? 0 : digits;
    if (a.digits > DIGITS_MAX || fmax(fabs(a.lo), fabs(a.hi)) >= PLAIN_MAX)
        a.digits = -1;
    return a;
}

double sl_plot_axis_place(const struct sl_plot_axis *a, double v)
{
    return fmax(0, fmin(1, (v - a->lo) / (a->hi - a->lo)));
}

double sl_plot_axis_tick(const struct sl_plot_axis *a, int64_t k)
{
    return (double)k * a->step;
}

void sl_plot_axis_label(const struct sl_plot_axis *a, int64_t k, char ret[SL_PLOT_LABEL])
{
    double v = sl_plot_axis_tick(a, k);
    if (a->digits < 0)
        snprintf(ret, SL_PLOT_LABEL, "%.4g", v);
    else
        snprintf(ret, SL_PLOT_LABEL, "%.*f", a->digits, v);
}

/* --- tables ----------------------------------------------------------------------- */

static size_t divide_up(size_t n, size_t by)
{
    return n / by + (n % by != 0);
}

double sl_plot_fold_mean(const struct sl_plot_heat *h, const struct sl_plot_fold *f,
                         size_t row, size_t col)
{
    size_t r0 = row * f->per_row, c0 = col * f->per_col;
    size_t r1 = h->rows - r0 < f->per_row ? h->rows : r0 + f->per_row;
    size_t c1 = h->cols - c0 < f->per_col ? h->cols : c0 + f->per_col;
    double sum = 0;
    for (size_t r = r0; r < r1; r++)
        for (size_t c = c0; c < c1; c++)
            sum += (double)h->counts[r * h->cols + c];
    return sum / ((double)(r1 - r0) * (double)(c1 - c0));
}

struct sl_plot_fold sl_plot_fold_fit(const struct sl_plot_heat *h, size_t max_rows,
                                     size_t max_cols)
{
    struct sl_plot_fold f = {.per_row = 1, .per_col = 1};
    if (h->rows == 0 || h->cols == 0)
        return f;
    f.per_row = divide_up(h->rows, max_rows);
    f.per_col = divide_up(h->cols, max_cols);
    f.rows = divide_up(h->rows, f.per_row);
    f.cols = divide_up(h->cols, f.per_col);
    for (size_t r = 0; r < f.rows; r++)
        for (size_t c = 0; c < f.cols; c++)
            f.most = fmax(f.most, sl_plot_fold_mean(h, &f, r, c));
    return f;
}
