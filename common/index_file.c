/* SPDX-License-Identifier: Apache-2.0 */
#include "common/index_file.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/dataset.h"
#include "common/dataset_stream.h"
#include "common/mem.h"
#include "common/plan.h"

#define NUMBER_CHARS 12 /* of a 32-bit number with separator and closing zero */

struct file_kind {
    const char *id_name, *value_name;
    uint32_t id_max, value_max;
    bool counted; /* the second number is how many follow */
    bool single;  /* exactly one value a row */
};

static const struct file_kind kinds[] = {
    [SL_INDEX_PARTITION] = {"client", "sample", SL_CLIENTS_MAX - 1,
                            (uint32_t)SL_DATASET_SAMPLES_MAX - 1, true, false},
    [SL_INDEX_SELECTION] = {"round", "client", SL_ROUNDS_MAX - 1, SL_CLIENTS_MAX - 1,
                            false, false},
    [SL_INDEX_STEPS] = {"client", "steps", SL_CLIENTS_MAX - 1, SL_STEPS_MAX, false, true},
};

struct row {
    uint32_t id;
    size_t line, first, n; /* value[first .. first + n - 1] */
};

struct parser {
    const struct file_kind *kind;
    const char *where;
    const char *at, *end; /* of the text */
    const char *stop;     /* end of the line's numbers */
    size_t line;          /* from 1 */
    struct row *rows;
    size_t n_rows, rows_capacity;
    uint32_t *value;
    size_t n_values, values_capacity;
};

void sl_index_table_deinit(struct sl_index_table *t)
{
    if (t == NULL)
        return;
    free(t->id);
    free(t->offset);
    free(t->value);
    *t = (struct sl_index_table){0};
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

/* Moves to the next line; false at the end of the text. */
static bool next_line(struct parser *p)
{
    if (p->line > 0) {
        const char *nl = memchr(p->at, '\n', (size_t)(p->end - p->at));
        p->at = nl != NULL ? nl + 1 : p->end;
    }
    if (p->at == p->end)
        return false;
    p->line++;
    size_t left = (size_t)(p->end - p->at);
    const char *nl = memchr(p->at, '\n', left);
    p->stop = nl != NULL ? nl : p->end;
    const char *comment = memchr(p->at, '#', (size_t)(p->stop - p->at));
    if (comment != NULL)
        p->stop = comment;
    return true;
}

static bool line_is_used_up(struct parser *p)
{
    while (p->at < p->stop && is_blank(*p->at))
        p->at++;
    return p->at == p->stop;
}

static enum sl_code bad_number(const struct parser *p, const char *name, uint32_t max,
                               struct sl_err *err)
{
    char text[24];
    size_t n = 0;
    while (n < sizeof(text) - 1 && p->at + n < p->stop && !is_blank(p->at[n])) {
        text[n] = p->at[n] > ' ' && p->at[n] <= '~' ? p->at[n] : '?';
        n++;
    }
    text[n] = '\0';
    return sl_err_set(err, SL_E_INPUT,
                      "%s:%zu: %s \"%s\" (whole numbers 0 to %" PRIu32 ")", p->where,
                      p->line, name, text, max);
}

/* The next number of the line, which is not used up. */
static enum sl_code take_number(struct parser *p, const char *name, uint32_t max,
                                uint32_t *ret, struct sl_err *err)
{
    uint64_t v = 0;
    const char *c = p->at;
    for (; c < p->stop && *c >= '0' && *c <= '9' && v <= max; c++)
        v = v * 10 + (uint64_t)(*c - '0');
    if (c == p->at || v > max || (c < p->stop && !is_blank(*c)))
        return bad_number(p, name, max, err);
    p->at = c;
    *ret = (uint32_t)v;
    return SL_OK;
}

/* Makes room for one more element of `size` bytes. */
static enum sl_code grow(const struct parser *p, void **array, size_t n, size_t *capacity,
                         size_t size, struct sl_err *err)
{
    if (n < *capacity)
        return SL_OK;
    size_t wanted = *capacity == 0 ? 256 : *capacity + *capacity / 2, bytes;
    void *more = sl_size_mul(wanted, size, &bytes) ? realloc(*array, bytes) : NULL;
    if (more == NULL)
        return sl_err_set(err, SL_E_NOMEM, "%s:%zu: no memory for %zu numbers", p->where,
                          p->line, wanted);
    *array = more;
    *capacity = wanted;
    return SL_OK;
}

static enum sl_code take_values(struct parser *p, struct row *row, struct sl_err *err)
{
    row->first = p->n_values;
    while (!line_is_used_up(p)) {
        uint32_t v;
        enum sl_code rc =
            take_number(p, p->kind->value_name, p->kind->value_max, &v, err);
        void *array = p->value;
        if (rc == SL_OK)
            rc = grow(p, &array, p->n_values, &p->values_capacity, sizeof(v), err);
        if (rc != SL_OK)
            return rc;
        p->value = array;
        p->value[p->n_values++] = v;
    }
    row->n = p->n_values - row->first;
    return SL_OK;
}

static enum sl_code check_count(const struct parser *p, const struct row *row,
                                uint32_t announced, struct sl_err *err)
{
    const char *name = p->kind->value_name;
    if (p->kind->counted && announced != row->n)
        return sl_err_set(err, SL_E_INPUT,
                          "%s:%zu: %zu %s numbers after a count of %" PRIu32
                          " (as many as the count)",
                          p->where, p->line, row->n, name, announced);
    if (row->n == 0)
        return sl_err_set(err, SL_E_INPUT,
                          "%s:%zu: no %s number after %s %" PRIu32 " (1 or more)",
                          p->where, p->line, name, p->kind->id_name, row->id);
    if (p->kind->single && row->n > 1)
        return sl_err_set(err, SL_E_INPUT,
                          "%s:%zu: %zu numbers after %s %" PRIu32 " (exactly 1)",
                          p->where, p->line, row->n, p->kind->id_name, row->id);
    return SL_OK;
}

static enum sl_code take_row(struct parser *p, struct sl_err *err)
{
    struct row row = {.line = p->line};
    uint32_t announced = 0;
    enum sl_code rc = take_number(p, p->kind->id_name, p->kind->id_max, &row.id, err);
    if (rc == SL_OK && p->kind->counted) {
        if (line_is_used_up(p))
            return sl_err_set(err, SL_E_INPUT,
                              "%s:%zu: no count after client %" PRIu32
                              " (CLIENT N IDX...)",
                              p->where, p->line, row.id);
        rc = take_number(p, "count", (uint32_t)SL_DATASET_SAMPLES_MAX, &announced, err);
    }
    if (rc == SL_OK)
        rc = take_values(p, &row, err);
    if (rc == SL_OK)
        rc = check_count(p, &row, announced, err);
    void *array = p->rows;
    if (rc == SL_OK)
        rc = grow(p, &array, p->n_rows, &p->rows_capacity, sizeof(row), err);
    if (rc != SL_OK)
        return rc;
    p->rows = array;
    p->rows[p->n_rows++] = row;
    return SL_OK;
}

static int by_id_then_line(const void *a, const void *b)
{
    const struct row *x = a, *y = b;
    if (x->id != y->id)
        return x->id < y->id ? -1 : 1;
    return x->line < y->line ? -1 : x->line > y->line;
}

static int by_value(const void *a, const void *b)
{
    uint32_t x, y;
    memcpy(&x, a, sizeof(x));
    memcpy(&y, b, sizeof(y));
    return x < y ? -1 : x > y;
}

/* `scratch` has room for the row. */
static enum sl_code check_row_repeats(const struct parser *p, const struct row *row,
                                      uint32_t *scratch, struct sl_err *err)
{
    memcpy(scratch, p->value + row->first, row->n * sizeof(*scratch));
    qsort(scratch, row->n, sizeof(*scratch), by_value);
    for (size_t i = 1; i < row->n; i++)
        if (scratch[i] == scratch[i - 1])
            return sl_err_set(err, SL_E_INPUT, "%s:%zu: %s %" PRIu32 " twice (once)",
                              p->where, row->line, p->kind->value_name, scratch[i]);
    return SL_OK;
}

/* Sorts the rows and moves them into a table. */
static enum sl_code build_table(struct parser *p, struct sl_index_table *t,
                                struct sl_err *err)
{
    t->id = sl_calloc(p->n_rows, sizeof(*t->id));
    t->offset = sl_calloc(p->n_rows + 1, sizeof(*t->offset));
    t->value = sl_calloc(p->n_values, sizeof(*t->value));
    if (t->id == NULL || t->offset == NULL || t->value == NULL)
        return sl_err_set(err, SL_E_NOMEM, "%s: no memory for %zu numbers", p->where,
                          p->n_values);
    qsort(p->rows, p->n_rows, sizeof(*p->rows), by_id_then_line);
    for (size_t i = 0; i < p->n_rows; i++) {
        const struct row *row = &p->rows[i];
        if (i > 0 && row[-1].id == row->id)
            return sl_err_set(
                err, SL_E_INPUT,
                "%s:%zu: %s %" PRIu32 " has a row in line %zu already (one row each)",
                p->where, row->line, p->kind->id_name, row->id, row[-1].line);
        enum sl_code rc = check_row_repeats(p, row, t->value + t->offset[i], err);
        if (rc != SL_OK)
            return rc;
        memcpy(t->value + t->offset[i], p->value + row->first,
               row->n * sizeof(*t->value));
        t->id[i] = row->id;
        t->offset[i + 1] = t->offset[i] + row->n;
    }
    t->n_rows = p->n_rows;
    return SL_OK;
}

enum sl_code sl_index_parse(enum sl_index_file kind, const char *where, const char *text,
                            size_t n, struct sl_index_table *ret, struct sl_err *err)
{
    if (n > SL_INDEX_FILE_BYTES_MAX)
        return sl_err_set(err, SL_E_LIMIT, "%s: more than %zu bytes", where,
                          SL_INDEX_FILE_BYTES_MAX);
    if (n == 0)
        return sl_err_set(err, SL_E_INPUT, "%s: no rows (1 or more)", where);
    struct parser p = {.kind = &kinds[kind], .where = where, .at = text, .end = text + n};
    struct sl_index_table t = {0};
    enum sl_code rc = SL_OK;
    while (rc == SL_OK && next_line(&p))
        if (!line_is_used_up(&p))
            rc = take_row(&p, err);
    if (rc == SL_OK && p.n_rows == 0)
        rc = sl_err_set(err, SL_E_INPUT, "%s: no rows (1 or more)", where);
    if (rc == SL_OK)
        rc = build_table(&p, &t, err);
    free(p.rows);
    free(p.value);
    if (rc != SL_OK)
        sl_index_table_deinit(&t);
    else
        *ret = t;
    return rc;
}

enum sl_code sl_index_load(enum sl_index_file kind, const char *path,
                           struct sl_index_table *ret, struct sl_err *err)
{
    struct sl_stream s;
    enum sl_code rc = sl_stream_open_file(path, &s, err);
    if (rc != SL_OK)
        return rc;
    uint8_t *bytes = NULL;
    size_t n = 0;
    rc = sl_stream_rest(&s, SL_INDEX_FILE_BYTES_MAX, &bytes, &n, err);
    sl_stream_close(&s);
    if (rc == SL_OK)
        rc = sl_index_parse(kind, path, (const char *)bytes, n, ret, err);
    free(bytes);
    return rc;
}

char *sl_index_format(enum sl_index_file kind, const struct sl_index_table *t,
                      size_t *ret_n)
{
    size_t numbers, bytes;
    if (!sl_size_add(t->offset[t->n_rows], 2 * t->n_rows, &numbers) ||
        !sl_size_mul(numbers, NUMBER_CHARS, &bytes))
        return NULL;
    char *text = sl_calloc(bytes + 1, 1);
    if (text == NULL)
        return NULL;
    char *to = text;
    for (size_t r = 0; r < t->n_rows; r++) {
        to += sprintf(to, "%" PRIu32, t->id[r]);
        if (kinds[kind].counted)
            to += sprintf(to, " %zu", t->offset[r + 1] - t->offset[r]);
        for (size_t i = t->offset[r]; i < t->offset[r + 1]; i++)
            to += sprintf(to, " %" PRIu32, t->value[i]);
        *to++ = '\n';
    }
    *ret_n = (size_t)(to - text);
    return text;
}

const uint32_t *sl_index_find(const struct sl_index_table *t, uint32_t id, size_t *ret_n)
{
    size_t low = 0, high = t->n_rows;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (t->id[middle] < id)
            low = middle + 1;
        else
            high = middle;
    }
    bool found = low < t->n_rows && t->id[low] == id;
    *ret_n = found ? t->offset[low + 1] - t->offset[low] : 0;
    return found ? t->value + t->offset[low] : NULL;
}
