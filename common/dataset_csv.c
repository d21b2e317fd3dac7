/* SPDX-License-Identifier: Apache-2.0 */
/* Tables of numbers: lines of comma-separated finite decimal numbers, one column of them (the
 * last, or the first) the label, an integer from 0. A first line without any number is a header.
 * Empty lines are passed over, CR LF ends a line like LF, spaces and tabs around a number are
 * allowed, quotes are not. A sample is 1 x 1 x columns. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/dataset_ops.h"
#include "common/dataset_stream.h"
#include "common/mem.h"
#include "common/rng.h"

#define FILE_BYTES_MAX ((size_t)1 << 30)
#define LINE_BYTES_MAX ((size_t)1 << 20)
#define COLUMNS_MAX 65536
#define NUMBER_BYTES_MAX 64
#define PATH_BYTES 1280
#define TEST_SHARE 5                   /* of one file, a row in five is a test sample */
#define SPLIT_SEED 0x7374617273706c74u /* constant, so that a file always splits alike */

struct cursor {
    const char *where;
    const char *at, *end;
    size_t line; /* number of the line last returned, from 1 */
};

struct span {
    const char *at;
    size_t n;
};

static struct span trimmed(const char *at, const char *end)
{
    while (at < end && (*at == ' ' || *at == '\t'))
        at++;
    while (at < end && (end[-1] == ' ' || end[-1] == '\t' || end[-1] == '\r'))
        end--;
    return (struct span){at, (size_t)(end - at)};
}

/* The next line that is not empty; false at the end. */
static bool next_line(struct cursor *c, struct span *ret)
{
    while (c->at < c->end) {
        const char *start = c->at;
        const char *nl = memchr(start, '\n', (size_t)(c->end - start));
        const char *stop = nl != NULL ? nl : c->end;
        c->at = nl != NULL ? nl + 1 : c->end;
        c->line++;
        *ret = trimmed(start, stop);
        if (ret->n > 0)
            return true;
    }
    return false;
}

/* Takes the first field off a line; false when the line is used up (at = NULL). */
static bool next_field(struct span *line, struct span *ret)
{
    if (line->at == NULL)
        return false;
    const char *end = line->at + line->n;
    const char *comma = memchr(line->at, ',', line->n);
    *ret = trimmed(line->at, comma != NULL ? comma : end);
    if (comma != NULL)
        *line = (struct span){comma + 1, (size_t)(end - comma - 1)};
    else
        *line = (struct span){NULL, 0};
    return true;
}

static bool is_number_text(struct span f)
{
    bool digit = false;
    for (size_t i = 0; i < f.n; i++) {
        if (f.at[i] >= '0' && f.at[i] <= '9')
            digit = true;
        else if (memchr("+-.eE", f.at[i], 5) == NULL)
            return false;
    }
    return digit && f.n < NUMBER_BYTES_MAX;
}

/* A decimal number that is finite as a float. */
static bool read_number(struct span f, float *ret)
{
    char text[NUMBER_BYTES_MAX], *stop;
    if (!is_number_text(f))
        return false;
    memcpy(text, f.at, f.n);
    text[f.n] = '\0';
    float v = strtof(text, &stop);
    if (*stop != '\0' || !isfinite(v))
        return false;
    *ret = v;
    return true;
}

static bool read_label(struct span f, int32_t *ret)
{
    int32_t v = 0;
    for (size_t i = 0; i < f.n; i++) {
        if (f.at[i] < '0' || f.at[i] > '9' || v >= SL_DATASET_CLASSES_MAX)
            return false;
        v = v * 10 + (f.at[i] - '0');
    }
    if (f.n == 0 || v >= SL_DATASET_CLASSES_MAX)
        return false;
    *ret = v;
    return true;
}

static bool is_header(struct span line)
{
    struct span f;
    float v;
    while (next_field(&line, &f))
        if (read_number(f, &v))
            return false;
    return true;
}

static size_t count_fields(struct span line)
{
    size_t n = 1;
    for (size_t i = 0; i < line.n; i++)
        n += line.at[i] == ',';
    return n;
}

/* First pass: passes a header by (c then stands behind it), counts rows and columns. */
static enum sl_code measure(struct cursor *c, size_t *ret_rows, size_t *ret_columns,
                            struct sl_err *err)
{
    struct cursor first = *c;
    struct span line;
    if (!next_line(&first, &line))
        return sl_err_set(err, SL_E_INPUT, "%s: no rows (1 or more)", c->where);
    size_t columns = count_fields(line);
    if (columns < 2 || columns > COLUMNS_MAX)
        return sl_err_set(err, SL_E_INPUT, "%s:%zu: %zu columns (2 to %d)", c->where,
                          first.line, columns, COLUMNS_MAX);
    if (is_header(line))
        *c = first;
    struct cursor scan = *c;
    size_t rows = 0;
    while (next_line(&scan, &line)) {
        if (line.n > LINE_BYTES_MAX)
            return sl_err_set(err, SL_E_LIMIT, "%s:%zu: line of %zu bytes (at most %zu)",
                              c->where, scan.line, line.n, LINE_BYTES_MAX);
        size_t found = count_fields(line);
        if (found != columns)
            return sl_err_set(err, SL_E_INPUT,
                              "%s:%zu: %zu columns (%zu as in the first line)", c->where,
                              scan.line, found, columns);
        rows++;
    }
    if (rows == 0)
        return sl_err_set(err, SL_E_INPUT, "%s: no rows (1 or more)", c->where);
    *ret_rows = rows;
    *ret_columns = columns;
    return SL_OK;
}

/* Text of a field for a message: what is printable of its first bytes. */
static void quote(struct span f, char ret[24])
{
    size_t n = f.n < 20 ? f.n : 20;
    for (size_t i = 0; i < n; i++)
        ret[i] = f.at[i] >= ' ' && f.at[i] <= '~' ? f.at[i] : '?';
    strcpy(ret + n, f.n > n ? "..." : "");
}

static enum sl_code read_row(const struct cursor *c, struct span line,
                             size_t label_column, float *to, int32_t *label,
                             struct sl_err *err)
{
    struct span f;
    char text[24];
    for (size_t column = 0; next_field(&line, &f); column++) {
        if (column == label_column) {
            if (read_label(f, label))
                continue;
            quote(f, text);
            return sl_err_set(
                err, SL_E_INPUT, "%s:%zu: column %zu: label \"%s\" (integers 0 to %d)",
                c->where, c->line, column + 1, text, SL_DATASET_CLASSES_MAX - 1);
        }
        if (!read_number(f, to++)) {
            quote(f, text);
            return sl_err_set(err, SL_E_INPUT,
                              "%s:%zu: column %zu: \"%s\" (finite decimal numbers)",
                              c->where, c->line, column + 1, text);
        }
    }
    return SL_OK;
}

enum sl_code sl_csv_parse(const char *where, const char *text, size_t n, bool label_first,
                          struct sl_dataset *ret, struct sl_err *err)
{
    struct cursor c = {.where = where, .at = text, .end = text + n};
    size_t rows = 0, columns = 0;
    enum sl_code rc = measure(&c, &rows, &columns, err);
    if (rc != SL_OK)
        return rc;
    struct sl_dataset d = {.channels = 1, .height = 1, .width = (uint32_t)(columns - 1)};
    rc = sl_dataset_allocate(&d, rows, false, where, err);
    struct span line;
    int32_t largest = 0;
    for (size_t i = 0; rc == SL_OK && next_line(&c, &line); i++) {
        rc = read_row(&c, line, label_first ? 0 : columns - 1, d.features + i * d.width,
                      &d.labels[i], err);
        if (rc == SL_OK && d.labels[i] > largest)
            largest = d.labels[i];
    }
    if (rc != SL_OK) {
        sl_dataset_deinit(&d);
        return rc;
    }
    d.n_classes = (uint32_t)largest + 1;
    *ret = d;
    return SL_OK;
}

static enum sl_code parse_file(const char *path, bool label_first, struct sl_dataset *ret,
                               struct sl_err *err)
{
    struct sl_stream s;
    enum sl_code rc = sl_stream_open_file(path, &s, err);
    if (rc != SL_OK)
        return rc;
    uint8_t *bytes;
    size_t n;
    rc = sl_stream_rest(&s, FILE_BYTES_MAX, &bytes, &n, err);
    sl_stream_close(&s);
    if (rc != SL_OK)
        return rc;
    rc = sl_csv_parse(path, (const char *)bytes, n, label_first, ret, err);
    free(bytes);
    return rc;
}

/* Of a set that is training and test set in one, keeps the rows of a split. */
static enum sl_code keep_split(struct sl_dataset *d, enum sl_dataset_split split,
                               const char *path, struct sl_err *err)
{
    uint32_t *index = sl_calloc(d->n, sizeof(*index));
    if (index == NULL)
        return sl_err_set(err, SL_E_NOMEM, "%s: %zu rows", path, d->n);
    struct sl_rows rows = {.index = index};
    for (size_t i = 0; i < d->n; i++) {
        bool test = sl_splitmix64_at(SPLIT_SEED, i) % TEST_SHARE == 0;
        if (test == (split == SL_SPLIT_TEST))
            index[rows.n++] = (uint32_t)i;
    }
    enum sl_code rc = SL_OK;
    if (rows.n == 0)
        rc = sl_err_set(
            err, SL_E_INPUT,
            "%s: none of its %zu rows falls to the %s set (use more rows, or a "
            "folder with train.csv and test.csv)",
            path, d->n, split == SL_SPLIT_TEST ? "test" : "training");
    if (rc == SL_OK)
        rc = sl_dataset_keep(d, &rows, path, err);
    free(index);
    return rc;
}

static enum sl_code csv_load(const struct sl_dataset_source *src,
                             const struct sl_rows *rows, struct sl_dataset *ret,
                             struct sl_err *err)
{
    if (src->path == NULL || src->path[0] == '\0')
        return sl_err_set(err, SL_E_INPUT,
                          "dataset \"csv\": data.path is empty (a folder or a file)");
    char path[PATH_BYTES];
    struct stat st;
    bool folder = stat(src->path, &st) == 0 && S_ISDIR(st.st_mode);
    const char *name = src->split == SL_SPLIT_TRAIN ? "/train.csv" : "/test.csv";
    int n = snprintf(path, sizeof(path), "%s%s", src->path, folder ? name : "");
    if (n < 0 || n >= PATH_BYTES)
        return sl_err_set(err, SL_E_LIMIT, "dataset path of %d bytes (at most %d)", n,
                          PATH_BYTES - 1);
    enum sl_code rc = parse_file(path, src->label_first, ret, err);
    if (rc == SL_OK)
        rc = sl_dataset_classes(src, path, (int64_t)ret->n_classes - 1, &ret->n_classes,
                                err);
    if (rc == SL_OK && !folder)
        rc = keep_split(ret, src->split, path, err);
    if (rc == SL_OK)
        rc = sl_dataset_keep(ret, rows, path, err);
    return rc;
}

const struct sl_dataset_ops sl_dataset_csv = {"csv", csv_load, NULL};
