/* SPDX-License-Identifier: Apache-2.0 */
/* page.h - what an experiment shows at its end, written once and kept twice: as plain
 * text and as one HTML page that needs nothing else (style and SVG inside, no script).
 * Failures to write are remembered and reported by finish. Owns: its memory. Thread: one.
 */
#ifndef SL_SIM_EXPERIMENT_PAGE_H
#define SL_SIM_EXPERIMENT_PAGE_H

#include <stddef.h>
#include <stdio.h>

#include "common/error.h"
#include "common/plot_svg.h"

#define SL_PAGE_COLUMNS 16

struct sl_page;

/* Text goes to `text` (borrowed) at once. dir (borrowed): where the files go; NULL = no
 * files. title: of the page. */
enum sl_code sl_page_new(FILE *text, const char *dir, const char *title,
                         struct sl_page **ret, struct sl_err *err);
void sl_page_free(struct sl_page *p); /* NULL allowed */

void sl_page_heading(struct sl_page *p, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
void sl_page_paragraph(struct sl_page *p, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* A table: begin with the columns' names (NULL at the end), then cells row by row; end
 * closes it. An unfinished row is filled up. */
void sl_page_table_begin(struct sl_page *p, const char *const *columns);
void sl_page_cell(struct sl_page *p, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
void sl_page_table_end(struct sl_page *p);

/* A line chart, in the page and as DIR/<name>.svg. */
void sl_page_plot(struct sl_page *p, const char *name, const struct sl_plot_lines *plot);

/* Writes DIR/report.html. */
enum sl_code sl_page_finish(struct sl_page *p, struct sl_err *err);

#endif
