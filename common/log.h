/* SPDX-License-Identifier: Apache-2.0 */
/* log.h - one line an event, for programs; libraries report errors to their callers instead.
 * Lines go to a stream (stderr) as "2026-01-02T03:04:05.678Z warn: text", or, when systemd collects
 * them (JOURNAL_STREAM is set), as "<4>text". Control characters are escaped, so that one event is
 * one line whatever a peer sent. Thread: any; lines do not mix. */
#ifndef SL_COMMON_LOG_H
#define SL_COMMON_LOG_H

#include <stdio.h>

enum sl_log_level { SL_LOG_ERROR, SL_LOG_WARN, SL_LOG_INFO, SL_LOG_DEBUG };

struct sl_log;

/* NULL when there is no memory. The stream stays the caller's. */
struct sl_log *sl_log_new(FILE *stream, enum sl_log_level level);
void sl_log_free(struct sl_log *log); /* NULL allowed */
void sl_log_set_level(struct sl_log *log, enum sl_log_level level);

/* log NULL: nothing happens. At most 1 KiB of text is written. */
void sl_log_write(struct sl_log *log, enum sl_log_level level, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#endif
