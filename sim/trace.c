/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/trace.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/file.h"

#define LINE_MAX_BYTES 256

void sl_trace_deinit(struct sl_trace *t)
{
    if (t == NULL)
        return;
    free(t->value);
    *t = (struct sl_trace){0};
}

/* Numbers of one line (closed by a zero byte) into ret; false when they are not exactly
 * n. */
static bool parse_row(const char *line, size_t n, double *ret)
{
    for (size_t i = 0; i < n; i++) {
        char *end;
        ret[i] = strtod(line, &end);
        if (end == line || !isfinite(ret[i]) || ret[i] <= 0)
            return false;
        while (*end == ' ' || *end == '\t')
            end++;
        if (i + 1 < n && *end++ != ',')
            return false;
        line = end;
    }
    return *line == '\0';
}

/* Cuts comment, CR and blanks at the end; returns the first byte that is not blank. */
static char *trim(char *line)
{
    line[strcspn(line, "#\r")] = '\0';
    size_t n = strlen(line);
    while (n > 0 && isspace((unsigned char)line[n - 1]))
        line[--n] = '\0';
    while (isspace((unsigned char)*line))
        line++;
    return line;
}

static enum sl_code add_row(struct sl_trace *t, size_t *cap, const char *line,
                            const char *where, size_t number, struct sl_err *err)
{
    if (t->n_rows == *cap) {
        size_t more = *cap == 0 ? 64 : 2 * *cap;
        double *v = realloc(t->value, more * t->n_columns * sizeof(*v));
        if (v == NULL)
            return sl_err_set(err, SL_E_NOMEM, "%s: trace", where);
        t->value = v;
        *cap = more;
    }
    if (!parse_row(line, t->n_columns, t->value + t->n_rows * t->n_columns))
        return sl_err_set(err, SL_E_INPUT,
                          "%s:%zu: not a row of %zu numbers above 0 separated by commas",
                          where, number, t->n_columns);
    t->n_rows++;
    return SL_OK;
}

enum sl_code sl_trace_parse(const char *where, const char *text, size_t n,
                            size_t n_columns, struct sl_trace *ret, struct sl_err *err)
{
    struct sl_trace t = {.n_columns = n_columns};
    size_t cap = 0, number = 0;
    enum sl_code rc = SL_OK;
    for (size_t at = 0; at < n && rc == SL_OK;) {
        const char *nl = memchr(text + at, '\n', n - at);
        size_t len = nl == NULL ? n - at : (size_t)(nl - (text + at));
        char buf[LINE_MAX_BYTES];
        number++;
        if (len >= sizeof(buf) || memchr(text + at, '\0', len) != NULL) {
            rc = sl_err_set(err, SL_E_INPUT,
                            "%s:%zu: line of more than %zu bytes, or a zero byte", where,
                            number, sizeof(buf) - 1);
            break;
        }
        memcpy(buf, text + at, len);
        buf[len] = '\0';
        at += len + 1;
        char *line = trim(buf);
        if (line[0] == '\0' || (t.n_rows == 0 && isalpha((unsigned char)line[0])))
            continue;
        rc = add_row(&t, &cap, line, where, number, err);
    }
    if (rc == SL_OK && t.n_rows == 0)
        rc = sl_err_set(err, SL_E_INPUT, "%s: no rows (at least one wanted)", where);
    if (rc != SL_OK) {
        sl_trace_deinit(&t);
        return rc;
    }
    *ret = t;
    return SL_OK;
}

enum sl_code sl_trace_load(const char *path, size_t n_columns, struct sl_trace *ret,
                           struct sl_err *err)
{
    uint8_t *text = NULL;
    size_t n = 0;
    enum sl_code rc = sl_file_read(path, SL_TRACE_BYTES_MAX, &text, &n, err);
    if (rc == SL_OK)
        rc = sl_trace_parse(path, (const char *)text, n, n_columns, ret, err);
    free(text);
    return rc;
}
