/* SPDX-License-Identifier: Apache-2.0 */
#include "common/report.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/mem.h"

struct sl_report {
    int fd; /* -1: nowhere */
};

enum sl_code sl_report_open(const char *path, struct sl_report **ret, struct sl_err *err)
{
    struct sl_report *r = sl_calloc(1, sizeof(*r));
    if (r == NULL)
        return sl_err_set(err, SL_E_NOMEM, "report: no memory");
    r->fd = -1;
    if (path != NULL) {
        r->fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0644);
        if (r->fd < 0) {
            int e = errno;
            free(r);
            return sl_err_errno(err, e, "report %s", path);
        }
    }
    *ret = r;
    return SL_OK;
}

void sl_report_close(struct sl_report *r)
{
    if (r == NULL)
        return;
    if (r->fd >= 0)
        close(r->fd);
    free(r);
}

static enum sl_code put(int fd, const char *text, size_t n, struct sl_err *err)
{
    ssize_t done;
    do
        done = write(fd, text, n);
    while (done < 0 && errno == EINTR);
    if (done == (ssize_t)n)
        return SL_OK;
    int e = done < 0 ? errno : ENOSPC;
    off_t end = lseek(fd, 0, SEEK_END);
    if (done > 0 && end >= done && ftruncate(fd, end - done) != 0)
        e = errno;
    return sl_err_errno(err, e, "report: write %zu bytes", n);
}

enum sl_code sl_report_write(struct sl_report *r, const json_t *line, struct sl_err *err)
{
    if (!json_is_object(line))
        return sl_err_set(err, SL_E_BUG, "report: a line must be an object");
    if (r->fd < 0)
        return SL_OK;
    char *text = json_dumps(line, JSON_COMPACT | JSON_REAL_PRECISION(17));
    if (text == NULL)
        return sl_err_set(err, SL_E_NOMEM, "report: no memory for a line");
    size_t n = strlen(text);
    text[n] = '\n'; /* in the place of the closing zero: one write for all */
    enum sl_code rc = put(r->fd, text, n + 1, err);
    free(text);
    return rc;
}

json_t *sl_report_real(double v)
{
    return isfinite(v) ? json_real(v) : json_null();
}

static enum sl_code read_lines(FILE *f, const char *path, json_t *all, struct sl_err *err)
{
    char *line = NULL;
    size_t cap = 0, total = 0, number = 0;
    enum sl_code rc = SL_OK;
    ssize_t n;
    while (rc == SL_OK && (n = getline(&line, &cap, f)) > 0) {
        number++;
        total += (size_t)n;
        json_t *object = json_loadb(line, (size_t)n, JSON_REJECT_DUPLICATES, NULL);
        if (total > SL_REPORT_MAX)
            rc = sl_err_set(err, SL_E_LIMIT, "report %s: over %zu bytes", path, SL_REPORT_MAX);
        else if (line[n - 1] != '\n' && number > 1)
            ; /* the writer ended in the middle of it */
        else if (!json_is_object(object))
            rc = sl_err_set(err, SL_E_INPUT, "report %s: line %zu is no JSON object", path,
                            number);
        else if (json_array_append(all, object) != 0)
            rc = sl_err_set(err, SL_E_NOMEM, "report %s: no memory", path);
        json_decref(object);
    }
    if (rc == SL_OK && ferror(f))
        rc = sl_err_errno(err, errno, "report %s", path);
    free(line);
    return rc;
}

enum sl_code sl_report_read(const char *path, json_t **ret, struct sl_err *err)
{
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return sl_err_errno(err, errno, "report %s", path);
    json_t *all = json_array();
    enum sl_code rc = all != NULL ? read_lines(f, path, all, err)
                                  : sl_err_set(err, SL_E_NOMEM, "report %s: no memory", path);
    fclose(f);
    if (rc == SL_OK)
        *ret = all;
    else
        json_decref(all);
    return rc;
}
