/* SPDX-License-Identifier: Apache-2.0 */
/* plot_term.h - plots as lines of text: braille dots and block characters where the
 * environment says UTF-8 (the first of LC_ALL, LC_CTYPE, LANG that is set), ASCII
 * elsewhere. No colours, no cursor moves: the output can go to a file. Allocates nothing.
 * Ask ferror() whether it arrived. Thread: any, as long as none changes the environment.
 */
#ifndef SL_COMMON_PLOT_TERM_H
#define SL_COMMON_PLOT_TERM_H

#include <stdbool.h>
#include <stdio.h>

#include "common/plot.h"

#define SL_PLOT_TERM_WIDTH_MAX 200
#define SL_PLOT_TERM_HEIGHT_MAX 60

bool sl_plot_term_utf8(void);

/* The curve through (x[i], y[i]), i = 0..n-1; points that are not finite are passed over.
 * Lines are at most `width` columns (24 to SL_PLOT_TERM_WIDTH_MAX, moved into this
 * range); the plot has `height` lines (3 to SL_PLOT_TERM_HEIGHT_MAX, likewise) between
 * title and x axis. */
void sl_plot_term_curve(FILE *to, const char *title, const double *x, const double *y,
                        size_t n, int width, int height);

/* Counts as shades: a line a row, up to `height` lines; neighbouring rows and columns
 * share a cell, which shows their mean, where there are more. Width and height as above.
 */
void sl_plot_term_heat(FILE *to, const struct sl_plot_heat *h, int width, int height);

#endif
