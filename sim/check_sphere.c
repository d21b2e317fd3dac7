/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/check_sphere.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "accel/nn/calibrate.h"
#include "common/mem.h"
#include "sim/check_array.h"

struct sphere {
    const struct sl_sphere_case *k;
    const json_t *calibration, *tolerance, *files;
    struct sl_calib_shape shape;
    struct sl_calib sum;
    double *weight; /* [classes, width] */
    float *values;
};

static double number_of(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);
    return json_is_number(v) ? json_number_value(v) : (double)NAN;
}

static enum sl_code load(const struct sphere *s, const char *key, struct sl_check_array *ret,
                         struct sl_err *err)
{
    const char *file = json_string_value(json_object_get(s->files, key));
    if (file == NULL)
        return sl_err_set(err, SL_E_INPUT, "files, -, %s, missing", key);
    return sl_check_array_load(s->k->dir, file, ret, err);
}

/* ||got - want|| / ||want|| of a stored array, `got` by value. */
static enum sl_code compare(const struct sphere *s, const char *key,
                            double (*got)(const struct sphere *, size_t row, size_t column),
                            double allowed, struct sl_err *err)
{
    struct sl_check_array a = {0};
    double apart = 0, length = 0;
    enum sl_code rc = load(s, key, &a, err);
    bool v = strcmp(key, "calib_V") == 0, u = strcmp(key, "calib_U") == 0;
    size_t rows = v || u ? s->shape.width : s->shape.classes;
    size_t columns = u ? s->shape.classes : s->shape.width;
    if (rc == SL_OK && (a.f64 == NULL || a.rows != rows || a.columns != columns))
        rc = sl_err_set(err, SL_E_INPUT, "%s, -, [%zu, %zu] of <f8, another", key, rows, columns);
    for (size_t i = 0; rc == SL_OK && i < rows * columns; i++) {
        double d = got(s, i / columns, i % columns) - a.f64[i];
        apart += d * d;
        length += a.f64[i] * a.f64[i];
    }
    if (rc == SL_OK && !(sqrt(apart) <= allowed * sqrt(length)))
        rc = sl_err_set(err, SL_E_INPUT, "%s, rel_l2, %.3g, %.3g", key, allowed,
                        sqrt(apart / length));
    sl_check_array_deinit(&a);
    return rc;
}

static double v_at(const struct sphere *s, size_t row, size_t column)
{
    size_t i = row > column ? row : column, j = row > column ? column : row;
    return s->sum.v[i * (i + 1) / 2 + j];
}

static double u_at(const struct sphere *s, size_t row, size_t column)
{
    return s->sum.u[column * s->shape.width + row];
}

static double w_at(const struct sphere *s, size_t row, size_t column)
{
    return s->weight[row * s->shape.width + column];
}

/* --- from stored features ------------------------------------------------------------------------ */

static enum sl_code add_features(struct sphere *s, const struct sl_check_array *z,
                                 const struct sl_check_array *labels, struct sl_err *err)
{
    if (z->f32 == NULL || labels->i32 == NULL || z->columns != s->shape.width ||
        z->rows != labels->columns)
        return sl_err_set(err, SL_E_INPUT, "calib_z, -, features with labels, others");
    double *wide = sl_calloc(z->rows * z->columns, sizeof(*wide));
    if (wide == NULL)
        return sl_err_set(err, SL_E_NOMEM, "features");
    for (size_t i = 0; i < z->rows * z->columns; i++)
        wide[i] = z->f32[i];
    enum sl_code rc = sl_calib_add(&s->sum, wide, labels->i32, z->rows, err);
    free(wide);
    return rc;
}

static enum sl_code check_features(struct sphere *s, struct sl_err *err)
{
    struct sl_check_array z = {0}, labels = {0};
    double lambda;
    enum sl_code rc = load(s, "calib_z", &z, err);
    if (rc == SL_OK)
        rc = load(s, "calib_labels", &labels, err);
    if (rc == SL_OK)
        rc = add_features(s, &z, &labels, err);
    if (rc == SL_OK)
        rc = sl_calib_solve(&s->sum, number_of(s->calibration, "z_lambda"), NULL, s->weight,
                            &lambda, err);
    if (rc == SL_OK)
        rc = compare(s, "calib_z_W", w_at, number_of(s->calibration, "z_W_rel_l2_tolerance"), err);
    sl_check_array_deinit(&z);
    sl_check_array_deinit(&labels);
    return rc;
}

/* --- from the trained model ---------------------------------------------------------------------- */

/* Each client's statistics, summed in client order. */
static enum sl_code collect(struct sphere *s, struct sl_err *err)
{
    struct sl_calib one = {0};
    enum sl_code rc = sl_calib_init(&one, &s->shape, err);
    sl_calib_clear(&s->sum);
    for (uint32_t c = 0; rc == SL_OK && c < s->k->part->clients; c++) {
        size_t n;
        const uint32_t *index = sl_partition_client(s->k->part, c, &n);
        struct sl_samples samples = {.set = s->k->set, .index = index, .n = n};
        sl_calib_clear(&one);
        rc = sl_calib_collect(&one, s->k->trainer, s->k->values, &samples, err);
        if (rc == SL_OK)
            sl_calib_merge(&s->sum, &one);
    }
    sl_calib_deinit(&one);
    return rc;
}

static enum sl_code check_loss(const struct sphere *s, const float *values, const char *key,
                               struct sl_err *err)
{
    const struct sl_partition *part = s->k->part;
    struct sl_samples all = {
        .set = s->k->set, .index = part->index, .n = part->offset[part->clients]};
    struct sl_eval_result r;
    enum sl_code rc = sl_evaluate(s->k->trainer, values, &all, &r, err);
    double want = number_of(s->calibration, key);
    double allowed = number_of(s->tolerance, "calib_sq_loss_abs");
    if (rc == SL_OK && !(fabs(r.loss_sum - want) <= allowed))
        rc = sl_err_set(err, SL_E_INPUT, "%s, -, %.9g, %.9g", key, want, r.loss_sum);
    return rc;
}

static enum sl_code check_test(const struct sphere *s, struct sl_err *err)
{
    struct sl_samples samples = {.set = s->k->test, .n = s->k->test->n};
    struct sl_eval_result r;
    enum sl_code rc = sl_evaluate(s->k->trainer, s->values, &samples, &r, err);
    double want = number_of(s->calibration, "test_correct");
    double allowed = number_of(s->tolerance, "calib_test_correct");
    if (rc == SL_OK && !(fabs((double)r.correct - want) <= allowed))
        rc = sl_err_set(err, SL_E_INPUT, "calibrated test_correct, -, %g, %" PRIu64, want,
                        r.correct);
    return rc;
}

static enum sl_code check_trained(struct sphere *s, struct sl_err *err)
{
    double lambda;
    enum sl_code rc = collect(s, err);
    if (rc == SL_OK)
        rc = compare(s, "calib_V", v_at, number_of(s->tolerance, "calib_V_rel_l2"), err);
    if (rc == SL_OK)
        rc = compare(s, "calib_U", u_at, number_of(s->tolerance, "calib_U_rel_l2"), err);
    if (rc == SL_OK)
        rc = sl_calib_solve(&s->sum, number_of(s->calibration, "lambda"), NULL, s->weight,
                            &lambda, err);
    if (rc == SL_OK)
        rc = compare(s, "calib_W", w_at, number_of(s->tolerance, "calib_W_rel_l2"), err);
    if (rc == SL_OK)
        rc = check_loss(s, s->k->values, "sq_loss_W0", err);
    if (rc != SL_OK)
        return rc;
    sl_calib_apply(&s->shape, s->weight, s->k->model, s->values);
    rc = check_loss(s, s->values, "sq_loss_W", err);
    return rc == SL_OK ? check_test(s, err) : rc;
}

enum sl_code sl_check_sphere(const struct sl_sphere_case *k, struct sl_err *err)
{
    struct sphere s = {.k = k,
                       .calibration = json_object_get(k->manifest, "calibration"),
                       .tolerance = json_object_get(k->manifest, "tolerance"),
                       .files = json_object_get(k->manifest, "files")};
    size_t n = sl_model_layout(k->model)->n_values;
    enum sl_code rc = sl_calib_shape_of(k->model, false, &s.shape, err);
    if (rc == SL_OK)
        rc = sl_calib_init(&s.sum, &s.shape, err);
    s.values = sl_calloc(n, sizeof(*s.values));
    s.weight = sl_calloc(sl_calib_n_u(&s.shape), sizeof(*s.weight));
    if (rc == SL_OK && (s.values == NULL || s.weight == NULL))
        rc = sl_err_set(err, SL_E_NOMEM, "calibration");
    if (rc == SL_OK)
        memcpy(s.values, k->values, n * sizeof(*s.values));
    if (rc == SL_OK)
        rc = check_features(&s, err);
    if (rc == SL_OK)
        rc = check_trained(&s, err);
    sl_calib_deinit(&s.sum);
    free(s.values);
    free(s.weight);
    return rc;
}
