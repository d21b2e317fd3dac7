/* SPDX-License-Identifier: Apache-2.0 */
#include "common/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static const struct {
    const char *name;
    int journal; /* syslog(3) severity */
} levels[] = {{"error", 3}, {"warn", 4}, {"info", 6}, {"debug", 7}};

void sl_log_init(struct sl_log *log, int fd, enum sl_log_level level)
{
    log->fd = fd;
    log->journal = getenv("JOURNAL_STREAM") != NULL;
    atomic_init(&log->level, (int)level);
}

void sl_log_set_level(struct sl_log *log, enum sl_log_level level)
{
    atomic_store(&log->level, (int)level);
}

static size_t prefix(const struct sl_log *log, enum sl_log_level level, char *out, size_t cap)
{
    if (log->journal)
        return (size_t)snprintf(out, cap, "<%d>", levels[level].journal);
    struct timespec now;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    size_t n = strftime(out, cap, "%Y-%m-%dT%H:%M:%S", &tm);
    return n + (size_t)snprintf(out + n, cap - n, ".%03dZ %s ", (int)(now.tv_nsec / 1000000),
                                levels[level].name);
}

/* At most 4 bytes out per byte in. */
static size_t escape(const char *text, char *out)
{
    static const char hex[] = "0123456789abcdef";
    size_t n = 0;
    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;
        if (c >= 0x20 && c != 0x7f) {
            out[n++] = (char)c;
            continue;
        }
        out[n++] = '\\';
        out[n++] = 'x';
        out[n++] = hex[c >> 4];
        out[n++] = hex[c & 15];
    }
    return n;
}

void sl_log(struct sl_log *log, enum sl_log_level level, const char *fmt, ...)
{
    if (log == NULL || (int)level > atomic_load(&log->level))
        return;
    char text[SL_LOG_LINE], line[64 + 4 * SL_LOG_LINE];
    va_list args;
    va_start(args, fmt);
    int printed = vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    if (printed < 0)
        return;
    size_t n = prefix(log, level, line, 64);
    n += escape(text, line + n);
    line[n++] = '\n';
    while (write(log->fd, line, n) < 0 && errno == EINTR)
        ;
}
