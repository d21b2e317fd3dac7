/* SPDX-License-Identifier: Apache-2.0 */
#include "common/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define TEXT_MAX 1024
#define LINE_MAX_BYTES (4 * TEXT_MAX + 64)

struct sl_log {
    FILE *stream;
    atomic_int level;
    bool journal;
    pthread_mutex_t lock;
};

struct sl_log *sl_log_new(FILE *stream, enum sl_log_level level)
{
    struct sl_log *log = calloc(1, sizeof(*log));
    if (log == NULL)
        return NULL;
    log->stream = stream;
    log->journal = getenv("JOURNAL_STREAM") != NULL;
    atomic_init(&log->level, (int)level);
    pthread_mutex_init(&log->lock, NULL);
    return log;
}

void sl_log_free(struct sl_log *log)
{
    if (log == NULL)
        return;
    pthread_mutex_destroy(&log->lock);
    free(log);
}

void sl_log_set_level(struct sl_log *log, enum sl_log_level level)
{
    atomic_store(&log->level, (int)level);
}

/* Prefix of a line; returns its length. */
static size_t prefix(const struct sl_log *log, enum sl_log_level level, char *out, size_t cap)
{
    static const struct {
        int priority; /* syslog's */
        const char *name;
    } levels[] = {{3, "error"}, {4, "warn"}, {6, "info"}, {7, "debug"}};
    if (log->journal)
        return (size_t)snprintf(out, cap, "<%d>", levels[level].priority);
    struct timespec now;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    size_t n = strftime(out, cap, "%Y-%m-%dT%H:%M:%S", &tm);
    return n + (size_t)snprintf(out + n, cap - n, ".%03ldZ %s: ", now.tv_nsec / 1000000,
                                levels[level].name);
}

static size_t escape(const char *text, char *out)
{
    size_t n = 0;
    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;
        if (c >= 0x20 && c != 0x7f) {
            out[n++] = (char)c;
            continue;
        }
        n += (size_t)snprintf(out + n, 5, "\\x%02x", c);
    }
    return n;
}

void sl_log_write(struct sl_log *log, enum sl_log_level level, const char *fmt, ...)
{
    if (log == NULL || (int)level > atomic_load(&log->level))
        return;
    char text[TEXT_MAX], line[LINE_MAX_BYTES];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    size_t n = prefix(log, level, line, 64);
    n += escape(text, line + n);
    line[n++] = '\n';
    pthread_mutex_lock(&log->lock);
    fwrite(line, 1, n, log->stream); /* nowhere to report a failure to */
    fflush(log->stream);
    pthread_mutex_unlock(&log->lock);
}
