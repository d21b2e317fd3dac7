/* SPDX-License-Identifier: Apache-2.0 */
/* plot.h - what terminal and SVG plots share: the data they take, axes with round
 * numbers, and tables folded to the room there is. Draws nothing. Owns nothing. Thread:
 * any. */
#ifndef SL_COMMON_PLOT_H
#define SL_COMMON_PLOT_H

#include <stddef.h>
#include <stdint.h>

/* A line through n points in their order. Points with NaN or infinity are passed over:
 * their neighbours are joined. All borrowed. */
struct sl_plot_series {
    const char *name; /* for the legend */
    const double *x, *y;
    size_t n;
};

/* counts[rows, cols], row-major; borrowed. A name says what is numbered, such as
 * "client". */
struct sl_plot_heat {
    const char *title, *row_name, *col_name;
    const uint64_t *counts;
    size_t rows, cols;
};

/* --- axes ------------------------------------------------------------------------- */

#define SL_PLOT_LABEL 32 /* bytes of a tick's label with the closing zero */

/* lo < hi, both finite. Ticks stand at multiples of step, from first to last. */
struct sl_plot_axis {
    double lo, hi, step;
    int64_t first, last; /* multiples of step; last < first: no tick */
    int digits;          /* behind the point; -1: powers of ten */
};

/* The range of values already seen; lo > hi while there is none. */
struct sl_plot_range {
    double lo, hi;
};

#define SL_PLOT_RANGE_NONE ((struct sl_plot_range){1, 0})

/* Widens a range to values[0..n-1] whose partner in other[0..n-1] is finite, too; what is
 * not finite is passed over, what is beyond +-1e300 counts as that. */
void sl_plot_range_add(struct sl_plot_range *r, const double *values, const double *other,
                       size_t n);

/* An axis over the range with at most about `ticks` (>= 1) ticks at 1, 2 or 5 times a
 * power of ten. round_out: ends moved out to ticks. An empty range gives 0 to 1; a single
 * value lies in the middle. */
struct sl_plot_axis sl_plot_axis_fit(const struct sl_plot_range *range, int ticks,
                                     int round_out);

/* Where v lies: 0 at lo, 1 at hi; v clamped to the axis. */
double sl_plot_axis_place(const struct sl_plot_axis *a, double v);
/* The value of tick k, and its label. */
double sl_plot_axis_tick(const struct sl_plot_axis *a, int64_t k);
void sl_plot_axis_label(const struct sl_plot_axis *a, int64_t k, char ret[SL_PLOT_LABEL]);

/* --- tables ----------------------------------------------------------------------- */

/* A table drawn as rows x cols cells, each of which stands for up to per_row x per_col
 * counts. */
struct sl_plot_fold {
    size_t rows, cols, per_row, per_col;
    double most; /* largest mean of a cell */
};

/* Folds to at most max_rows x max_cols cells (both >= 1). */
struct sl_plot_fold sl_plot_fold_fit(const struct sl_plot_heat *h, size_t max_rows,
                                     size_t max_cols);
/* The mean of a cell's counts. */
double sl_plot_fold_mean(const struct sl_plot_heat *h, const struct sl_plot_fold *f,
                         size_t row, size_t col);

#endif
