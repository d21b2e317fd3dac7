/* SPDX-License-Identifier: Apache-2.0 */
#include "accel/nn/check_case.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "accel/check/case_file.h"

/* --- loading
 * -------------------------------------------------------------------------------- */

static bool read_dtype(const char *text, char *ret, size_t *ret_size)
{
    static const struct {
        const char *name;
        char code;
        size_t size;
    } known[] = {{"float32", 'f', 4}, {"float64", 'd', 8}, {"int32", 'i', 4}};
    for (size_t i = 0; text != NULL && i < sizeof(known) / sizeof(known[0]); i++)
        if (strcmp(text, known[i].name) == 0) {
            *ret = known[i].code;
            *ret_size = known[i].size;
            return true;
        }
    return false;
}

static enum sl_code load_field(const struct sl_case_file *file, const char *name,
                               const json_t *about, struct sl_case_field *f,
                               struct sl_err *err)
{
    const json_t *shape = json_object_get(about, "shape"), *d;
    size_t i, size;
    if (strlen(name) >= sizeof(f->name) || json_array_size(shape) > 5 ||
        !read_dtype(json_string_value(json_object_get(about, "dtype")), &f->dtype, &size))
        return sl_err_set(err, SL_E_INPUT,
                          "field %s: name, shape or dtype not understood", name);
    strcpy(f->name, name);
    f->tolerance = json_number_value(json_object_get(about, "tolerance"));
    f->n = 1;
    json_array_foreach(shape, i, d)
    {
        json_int_t v = json_integer_value(d);
        if (v < 1 || v > (1 << 20) || !sl_size_mul(f->n, (size_t)v, &f->n) ||
            f->n > ((size_t)1 << 26))
            return sl_err_set(err, SL_E_INPUT, "field %s: dimension %zu out of range",
                              name, i);
        f->dim[f->n_dims++] = (size_t)v;
    }
    return sl_case_file_read(file, name, f->dtype, f->dim, f->n_dims, &f->data, err);
}

enum sl_code sl_case_load(const char *dir, const json_t *entry, struct sl_case *ret,
                          struct sl_err *err)
{
    struct sl_case_file file = {0};
    const char *name, *path = json_string_value(json_object_get(entry, "file"));
    const json_t *about, *fields = json_object_get(entry, "fields");
    *ret = (struct sl_case){
        .name = json_string_value(json_object_get(entry, "name")),
        .kind = json_string_value(json_object_get(entry, "kind")),
        .params = json_object_get(entry, "params"),
    };
    if (ret->name == NULL || ret->kind == NULL || path == NULL ||
        strchr(path, '/') != NULL || !json_is_object(fields) ||
        json_object_size(fields) > SL_CASE_FIELDS)
        return sl_err_set(err, SL_E_INPUT, "case without name, kind, file or fields");
    enum sl_code rc = sl_case_file_open(dir, path, &file, err);
    json_object_foreach((json_t *)fields, name, about)
    {
        if (rc == SL_OK)
            rc = load_field(&file, name, about, &ret->field[ret->n_fields++], err);
    }
    sl_case_file_close(&file);
    if (rc != SL_OK)
        sl_case_deinit(ret);
    return rc;
}

void sl_case_deinit(struct sl_case *c)
{
    for (size_t i = 0; i < c->n_fields; i++)
        free(c->field[i].data);
    c->n_fields = 0;
}

/* --- comparing
 * ------------------------------------------------------------------------------ */

void sl_case_fail(struct sl_case *c, const char *field, const char *index,
                  const char *expected, const char *got)
{
    if (!c->failed)
        snprintf(c->failure, sizeof(c->failure), "%s, %s, %s, %s", field, index, expected,
                 got);
    c->failed = true;
}

const struct sl_case_field *sl_case_find(const struct sl_case *c, const char *name)
{
    for (size_t i = 0; i < c->n_fields; i++)
        if (strcmp(c->field[i].name, name) == 0)
            return &c->field[i];
    return NULL;
}

const struct sl_case_field *sl_case_need(struct sl_case *c, const char *name, char dtype)
{
    const struct sl_case_field *f = sl_case_find(c, name);
    if (f != NULL && f->dtype == dtype)
        return f;
    sl_case_fail(c, name, "-", "a field of the kind's type",
                 f == NULL ? "none" : "another type");
    return NULL;
}

static double value_at(const struct sl_case_field *f, size_t i)
{
    if (f->dtype == 'f')
        return (double)((const float *)f->data)[i];
    if (f->dtype == 'd')
        return ((const double *)f->data)[i];
    return (double)((const int32_t *)f->data)[i];
}

void sl_case_expect_number(struct sl_case *c, const char *field, size_t index, double got)
{
    struct sl_case_field *f = (struct sl_case_field *)sl_case_find(c, field);
    char at[32], want[32], have[32];
    if (f == NULL || index >= f->n) {
        sl_case_fail(c, field, "-", "a field long enough",
                     f == NULL ? "none" : "too short");
        return;
    }
    f->compared = true;
    double expected = value_at(f, index);
    if (fabs(got - expected) <= f->tolerance) /* false for a NaN */
        return;
    snprintf(at, sizeof(at), "%zu", index);
    snprintf(want, sizeof(want), "%.9g", expected);
    snprintf(have, sizeof(have), "%.9g", got);
    sl_case_fail(c, field, at, want, have);
}

void sl_case_expect(struct sl_case *c, const char *field, size_t first, const float *got,
                    size_t n)
{
    for (size_t i = 0; i < n && !c->failed; i++)
        sl_case_expect_number(c, field, first + i, (double)got[i]);
}

double sl_case_param(const struct sl_case *c, const char *name, double fallback)
{
    const json_t *v = json_object_get(c->params, name);
    return json_is_number(v) ? json_number_value(v) : fallback;
}

bool sl_case_labels_fit(struct sl_case *c, const struct sl_case_field *labels, size_t n,
                        size_t classes)
{
    bool ok = labels != NULL && labels->n == n;
    for (size_t i = 0; ok && i < n; i++) {
        int32_t label = ((const int32_t *)labels->data)[i];
        ok = label >= 0 && (size_t)label < classes;
    }
    if (!ok)
        sl_case_fail(c, "in_labels", "-", "a class per row", "something else");
    return ok;
}

/* --- rig
 * ------------------------------------------------------------------------------------ */

enum sl_code sl_case_rig_open(const struct sl_case *c, const struct sl_model_spec *spec,
                              const struct sl_shape *in, size_t n,
                              struct sl_case_rig *ret, struct sl_err *err)
{
    struct sl_taker cost = {0};
    struct sl_case_rig r = {.n = n};
    enum sl_code rc = sl_model_build(spec, in, &r.model, err);
    if (rc != SL_OK)
        return rc;
    sl_net_plan(&r.net, r.model, n, &sl_matmul_fp32, c->cpu, &cost);
    r.values = sl_calloc(r.model->layout.n_values, sizeof(*r.values));
    r.grads = sl_calloc(r.model->n_params, sizeof(*r.grads));
    if (r.values == NULL || r.grads == NULL || !sl_arena_init(&r.arena, cost.bytes)) {
        sl_case_rig_close(&r);
        return sl_err_set(err, SL_E_NOMEM, "case %s", c->name);
    }
    *ret = r;
    sl_net_plan(&ret->net, r.model, n, &sl_matmul_fp32, c->cpu,
                &(struct sl_taker){.arena = &ret->arena});
    return SL_OK;
}

void sl_case_rig_close(struct sl_case_rig *r)
{
    sl_model_free(r->model);
    sl_arena_deinit(&r->arena);
    free(r->values);
    free(r->grads);
    *r = (struct sl_case_rig){0};
}

struct sl_shape sl_case_sample_shape(const struct sl_case_field *f)
{
    struct sl_shape s = {.n_dims = 1, .dim = {1}};
    for (unsigned d = 1; d < f->n_dims && d <= SL_SHAPE_DIMS; d++) {
        s.n_dims = d;
        s.dim[d - 1] = (uint32_t)f->dim[d];
    }
    return s;
}
