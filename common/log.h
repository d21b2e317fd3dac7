/* SPDX-License-Identifier: Apache-2.0 */
/* log.h - one line a message on standard error, for programs (libraries report errors instead).
 * A line starts with UTC time and level, or with the journal's "<N>" when JOURNAL_STREAM is set.
 * Control characters are escaped, so text of a peer cannot forge a line; a message beyond
 * SL_LOG_LINE bytes is cut. Thread: any; each line is a single write. */
#ifndef SL_COMMON_LOG_H
#define SL_COMMON_LOG_H

#include <stdatomic.h>
#include <stdbool.h>

#define SL_LOG_LINE 1024

enum sl_log_level { SL_LOG_ERROR, SL_LOG_WARN, SL_LOG_INFO, SL_LOG_DEBUG };

struct sl_log {
    int fd;
    bool journal;
    atomic_int level; /* least urgent level that is written */
};

/* Writes to fd (2 in programs; not owned). Reads the environment: once, before threads start. */
void sl_log_init(struct sl_log *log, int fd, enum sl_log_level level);
void sl_log_set_level(struct sl_log *log, enum sl_log_level level);

/* log NULL: nothing is written. Failure to write is ignored. */
void sl_log(struct sl_log *log, enum sl_log_level level, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#endif
