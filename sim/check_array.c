/* SPDX-License-Identifier: Apache-2.0 */
/* The arrays of stored cases are .npy files of version 1.0, little-endian, in C order:
 *     | \x93NUMPY | 1 | 0 | n LE u16 | n bytes: a dictionary of descr, fortran_order, shape | data |
 * Only what the cases use is read. */
#include "sim/check_array.h"

#include <endian.h>
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/mem.h"

#define HEADER_MAX 1024
#define VALUES_MAX ((size_t)1 << 28)

struct header {
    bool is_int;
    size_t rows, columns;
};

/* "(6,)" or "(4, 7850)" behind the word shape. */
static bool parse_shape(const char *text, struct header *h)
{
    const char *at = strstr(text, "'shape': (");
    char *end;
    if (at == NULL)
        return false;
    at += strlen("'shape': (");
    unsigned long long a = strtoull(at, &end, 10), b = 0;
    if (end == at || *end++ != ',' || a == 0)
        return false;
    if (*end == ')') {
        h->rows = 1;
        h->columns = (size_t)a;
    } else {
        at = end;
        b = strtoull(at, &end, 10);
        if (end == at || *end != ')' || b == 0)
            return false;
        h->rows = (size_t)a;
        h->columns = (size_t)b;
    }
    size_t n;
    return sl_size_mul(h->rows, h->columns, &n) && n <= VALUES_MAX;
}

static bool read_header(FILE *f, struct header *h)
{
    uint8_t fixed[10];
    char text[HEADER_MAX + 1];
    if (fread(fixed, 1, sizeof(fixed), f) != sizeof(fixed) ||
        memcmp(fixed, "\x93NUMPY\x01\x00", 8) != 0)
        return false;
    size_t n = (size_t)fixed[8] | (size_t)fixed[9] << 8;
    if (n > HEADER_MAX || fread(text, 1, n, f) != n)
        return false;
    text[n] = '\0';
    h->is_int = strstr(text, "'descr': '<i4'") != NULL;
    return (h->is_int || strstr(text, "'descr': '<f4'") != NULL) &&
           strstr(text, "'fortran_order': False") != NULL && parse_shape(text, h);
}

static enum sl_code read_values(FILE *f, const char *file, const struct header *h,
                                struct sl_check_array *ret, struct sl_err *err)
{
    size_t n = h->rows * h->columns;
    uint32_t *data = sl_calloc(n, sizeof(*data));
    if (data == NULL)
        return sl_err_set(err, SL_E_NOMEM, "%s: %zu values", file, n);
    if (fread(data, sizeof(*data), n, f) != n || fgetc(f) != EOF) {
        free(data);
        return sl_err_set(err, SL_E_INPUT, "%s: not the %zu values of its header", file, n);
    }
    for (size_t i = 0; i < n; i++)
        data[i] = le32toh(data[i]);
    *ret = (struct sl_check_array){.rows = h->rows, .columns = h->columns};
    if (h->is_int)
        ret->i32 = (int32_t *)data;
    else
        ret->f32 = (float *)(void *)data;
    return SL_OK;
}

enum sl_code sl_check_array_load(const char *dir, const char *file, struct sl_check_array *ret,
                                 struct sl_err *err)
{
    char path[4096];
    if (snprintf(path, sizeof(path), "%s/%s", dir, file) >= (int)sizeof(path))
        return sl_err_set(err, SL_E_INPUT, "%.60s: path too long", file);
    FILE *f = fopen(path, "rbe");
    if (f == NULL)
        return sl_err_errno(err, errno, "%s", path);
    struct header h;
    enum sl_code rc = read_header(f, &h)
                          ? read_values(f, file, &h, ret, err)
                          : sl_err_set(err, SL_E_INPUT,
                                       "%s: not a .npy of <f4 or <i4, 1 or 2 dimensions", file);
    fclose(f);
    return rc;
}

void sl_check_array_deinit(struct sl_check_array *a)
{
    if (a == NULL)
        return;
    free(a->f32);
    free(a->i32);
    *a = (struct sl_check_array){0};
}

double sl_check_rel_l2(const float *a, const float *b, const float *origin, size_t n)
{
    double apart = 0, length = 0;
    for (size_t i = 0; i < n; i++) {
        double d = (double)a[i] - (double)b[i], l = (double)b[i] - (double)origin[i];
        apart += d * d;
        length += l * l;
    }
    if (length == 0)
        return apart == 0 ? 0 : (double)INFINITY;
    return sqrt(apart / length);
}

double sl_check_max_abs(const float *a, const float *b, size_t n, size_t *ret_at)
{
    double max = -1;
    for (size_t i = 0; i < n; i++) {
        double d = fabs((double)a[i] - (double)b[i]);
        if (isnan(d))
            d = (double)INFINITY;
        if (d > max) {
            max = d;
            *ret_at = i;
        }
    }
    return max;
}
