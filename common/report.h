/* SPDX-License-Identifier: Apache-2.0 */
/* report.h - run reports: one JSON object a line. Each line reaches the file in one write.
 * JSON has no NaN or infinity: sl_report_real makes null of them. Thread: one at a time. */
#ifndef SL_COMMON_REPORT_H
#define SL_COMMON_REPORT_H

#include <jansson.h>

#include "common/error.h"

#define SL_REPORT_MAX ((size_t)256 << 20) /* bytes of a report that is read */

struct sl_report;

/* Creates or empties the file. path NULL: writes go nowhere. Caller closes. */
enum sl_code sl_report_open(const char *path, struct sl_report **ret, struct sl_err *err);
void sl_report_close(struct sl_report *r); /* NULL allowed */

/* Borrows `line`, an object. Doubles are written with 17 digits. A line cut short by a full disk
 * is taken back. */
enum sl_code sl_report_write(struct sl_report *r, const json_t *line, struct sl_err *err);

/* New reference: the number, or null for NaN and infinities. */
json_t *sl_report_real(double v);

/* New array of the file's objects. A last line without its newline is dropped, unless it is the
 * only one; any other line that is no object is SL_E_INPUT with its number. */
enum sl_code sl_report_read(const char *path, json_t **ret, struct sl_err *err);

#endif
