/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/experiment/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/file.h"

#define RESULTS_MAX ((size_t)256 << 20)
#define CANONICAL (JSON_COMPACT | JSON_SORT_KEYS | JSON_REAL_PRECISION(17))

static enum sl_code no_memory(struct sl_err *err)
{
    return sl_err_set(err, SL_E_NOMEM, "results of the experiment");
}

static enum sl_code keep(struct sl_results_log *l, json_t *line, struct sl_err *err)
{
    char *key = json_dumps(json_object_get(line, "cell"), CANONICAL);
    int failed = key == NULL || json_object_set(l->by_cell, key, line) != 0;
    free(key);
    return failed ? no_memory(err) : SL_OK;
}

static enum sl_code read_line(struct sl_results_log *l, const char *text, size_t n,
                              size_t number, struct sl_err *err)
{
    json_t *line = json_loadb(text, n, JSON_REJECT_DUPLICATES, NULL);
    enum sl_code rc;
    if (json_is_object(json_object_get(line, "cell")) &&
        json_is_object(json_object_get(line, "result")))
        rc = keep(l, line, err);
    else
        rc = sl_err_set(err, SL_E_INPUT, "%s: line %zu is no result of an experiment",
                        l->path, number);
    json_decref(line);
    return rc;
}

/* Reads whole lines and takes a cut one off. */
static enum sl_code read_all(struct sl_results_log *l, struct sl_err *err)
{
    uint8_t *bytes = NULL;
    size_t n = 0, done = 0, number = 0;
    enum sl_code rc = sl_file_read(l->path, RESULTS_MAX, &bytes, &n, err);
    while (rc == SL_OK && done < n) {
        const char *from = (const char *)bytes + done;
        const char *end = memchr(from, '\n', n - done);
        if (end == NULL)
            break;
        rc = read_line(l, from, (size_t)(end - from), ++number, err);
        done += (size_t)(end - from) + 1;
    }
    if (rc == SL_OK && done < n && ftruncate(l->fd, (off_t)done) != 0)
        rc = sl_err_errno(err, errno, "%s", l->path);
    free(bytes);
    return rc;
}

static enum sl_code open_files(struct sl_results_log *l, const char *dir,
                               struct sl_err *err)
{
    char lock[sizeof(l->path)];
    int n = snprintf(l->path, sizeof(l->path), "%s/results.jsonl", dir);
    if (n < 0 || (size_t)n >= sizeof(l->path))
        return sl_err_set(err, SL_E_USAGE, "--out %.40s...: name too long", dir);
    enum sl_code rc = sl_dir_make(dir, 0777, err);
    if (rc != SL_OK) /* a file of this name, or one we may not make: the user's choice */
        return sl_err_wrap(err, rc == SL_E_IO ? SL_E_INPUT : rc, "--out");
    snprintf(lock, sizeof(lock), "%s/lock", dir);
    rc = sl_file_lock(lock, &l->lock, err);
    if (rc == SL_E_EXISTS)
        return sl_err_set(err, rc, "%s: another process is running experiments there",
                          dir);
    if (rc != SL_OK)
        return rc;
    l->fd = open(l->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (l->fd < 0)
        return sl_err_errno(err, errno, "%s", l->path);
    return sl_dir_sync(dir, err);
}

enum sl_code sl_results_log_open(struct sl_results_log *l, const char *dir,
                                 struct sl_err *err)
{
    *l = (struct sl_results_log){.fd = -1, .lock = -1, .by_cell = json_object()};
    enum sl_code rc = l->by_cell == NULL ? no_memory(err) : open_files(l, dir, err);
    if (rc == SL_OK)
        rc = read_all(l, err);
    if (rc != SL_OK)
        sl_results_log_close(l);
    return rc;
}

void sl_results_log_close(struct sl_results_log *l)
{
    if (l->fd >= 0)
        close(l->fd);
    if (l->lock >= 0)
        close(l->lock);
    json_decref(l->by_cell);
    *l = (struct sl_results_log){.fd = -1, .lock = -1};
}

const json_t *sl_results_log_find(const struct sl_results_log *l, const json_t *cell)
{
    char *key = json_dumps(cell, CANONICAL);
    const json_t *line = key == NULL ? NULL : json_object_get(l->by_cell, key);
    free(key);
    return line;
}

static enum sl_code put(struct sl_results_log *l, const char *text, size_t n,
                        struct sl_err *err)
{
    ssize_t done;
    do
        done = write(l->fd, text, n);
    while (done < 0 && errno == EINTR);
    if (done == (ssize_t)n)
        return fdatasync(l->fd) == 0 ? SL_OK : sl_err_errno(err, errno, "%s", l->path);
    int e = done < 0 ? errno : ENOSPC;
    off_t end = lseek(l->fd, 0, SEEK_END);
    if (done > 0 && end >= done && ftruncate(l->fd, end - done) != 0)
        e = errno;
    return sl_err_errno(err, e, "%s", l->path);
}

enum sl_code sl_results_log_append(struct sl_results_log *l, const json_t *cell,
                                   json_t *result, double wall_s, struct sl_err *err)
{
    json_t *line = json_pack("{s:O, s:O, s:f, s:s}", "cell", cell, "result", result,
                             "wall_s", wall_s, "version", SL_VERSION);
    char *text = line == NULL ? NULL : json_dumps(line, CANONICAL);
    enum sl_code rc = text == NULL ? no_memory(err) : SL_OK;
    if (rc == SL_OK) {
        size_t n = strlen(text);
        text[n] = '\n'; /* in the place of the closing zero: one write for all */
        rc = put(l, text, n + 1, err);
    }
    if (rc == SL_OK)
        rc = keep(l, line, err);
    free(text);
    json_decref(line);
    return rc;
}
