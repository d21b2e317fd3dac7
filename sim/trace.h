/* SPDX-License-Identifier: Apache-2.0 */
/* trace.h - a table of positive numbers from a CSV file: what devices or links were
 * measured to do. One row a line, numbers separated by commas; # starts a comment; empty
 * lines are skipped, and so is a first line that begins with a letter (a heading). Owns:
 * its values. Thread: any. */
#ifndef SL_SIM_TRACE_H
#define SL_SIM_TRACE_H

#include <stddef.h>

#include "common/error.h"

#define SL_TRACE_BYTES_MAX ((size_t)16 << 20)

struct sl_trace {
    double *value; /* [n_rows, n_columns] */
    size_t n_rows, n_columns;
};

void sl_trace_deinit(struct sl_trace *t); /* NULL and {0} allowed */

/* Reads n bytes of text; every row must have n_columns finite numbers > 0. `where` names
 * the text in messages, which say line and what is allowed. SL_E_INPUT, SL_E_NOMEM. */
enum sl_code sl_trace_parse(const char *where, const char *text, size_t n,
                            size_t n_columns, struct sl_trace *ret, struct sl_err *err);
enum sl_code sl_trace_load(const char *path, size_t n_columns, struct sl_trace *ret,
                           struct sl_err *err);

#endif
