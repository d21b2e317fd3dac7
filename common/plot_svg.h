/* SPDX-License-Identifier: Apache-2.0 */
/* plot_svg.h - plots as SVG 1.1 documents that need nothing else: no style sheet, no
 * script, no font beyond the viewer's sans-serif. Text from the caller is escaped; what
 * is no UTF-8 or no character of XML becomes '?'. Numbers are written as the "C" locale
 * does. Thread: any. */
#ifndef SL_COMMON_PLOT_SVG_H
#define SL_COMMON_PLOT_SVG_H

#include <stdio.h>

#include "common/error.h"
#include "common/plot.h"

/* All borrowed. Names may be NULL or empty: then nothing is written there. */
struct sl_plot_lines {
    const char *title, *x_name, *y_name;
    const struct sl_plot_series *series;
    size_t n_series; /* a legend is drawn for two and more */
};

/* A line chart, 720 x 440 and the legend's rows. SL_E_IO, SL_E_NOSPACE when `to` can't be
 * written (it is flushed). */
enum sl_code sl_plot_svg_lines(FILE *to, const struct sl_plot_lines *p,
                               struct sl_err *err);

/* A heat map: rows down, columns across, 720 wide; counts are written into the cells
 * where they have room. More than 200 rows or 100 columns are folded: a cell shows the
 * mean of neighbours. Errors as above. */
enum sl_code sl_plot_svg_heat(FILE *to, const struct sl_plot_heat *h, struct sl_err *err);

#endif
