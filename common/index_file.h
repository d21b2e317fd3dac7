/* SPDX-License-Identifier: Apache-2.0 */
/* index_file.h - text files of whole numbers that say who gets what (DESIGN section 6):
 *   partition   CLIENT N IDX IDX ...     N samples of a client
 *   selection   ROUND CLIENT CLIENT ...  cohort of a round
 *   steps       CLIENT STEPS             local steps of a client
 * One row a line, numbers separated by spaces or tabs; # starts a comment; empty lines and CR LF
 * are allowed. The first number of a row is its id; no id comes twice, nor a number within a
 * row. Owns: the arrays of a table. Thread: any; a table is constant once read. */
#ifndef SL_COMMON_INDEX_FILE_H
#define SL_COMMON_INDEX_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

#define SL_INDEX_FILE_BYTES_MAX ((size_t)1 << 29)
#define SL_STEPS_MAX 1000000

enum sl_index_file { SL_INDEX_PARTITION, SL_INDEX_SELECTION, SL_INDEX_STEPS };

/* Rows in ascending order of id. Row r holds value[offset[r]] to value[offset[r + 1] - 1], in the
 * order of the file, one or more. */
struct sl_index_table {
    size_t n_rows;
    uint32_t *id;    /* [n_rows] */
    size_t *offset;  /* [n_rows + 1] */
    uint32_t *value; /* [offset[n_rows]] */
};

void sl_index_table_deinit(struct sl_index_table *t); /* NULL and {0} allowed */

/* Reads a text of n bytes; `where` names it. SL_E_INPUT or SL_E_LIMIT: "WHERE:LINE: what
 * (allowed)". A text without rows is SL_E_INPUT. */
enum sl_code sl_index_parse(enum sl_index_file kind, const char *where, const char *text,
                            size_t n, struct sl_index_table *ret, struct sl_err *err);
/* The same from a file. */
enum sl_code sl_index_load(enum sl_index_file kind, const char *path,
                           struct sl_index_table *ret, struct sl_err *err);

/* Writes a table as text, to be read back equal; *ret (closed by a zero byte) is the caller's to
 * free(). NULL when there is no memory. */
char *sl_index_format(enum sl_index_file kind, const struct sl_index_table *t, size_t *ret_n);

/* Values of the row with this id, *ret_n of them; NULL (and 0) when there is none. */
const uint32_t *sl_index_find(const struct sl_index_table *t, uint32_t id, size_t *ret_n);

#endif
