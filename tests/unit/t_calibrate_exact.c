/* SPDX-License-Identifier: Apache-2.0 */
/* S5 and S6 of SphereFed on the features of trained models, whose V is ill-conditioned: whatever clients
 * the samples are split over, in whatever order they are summed, W is the pooled one, and that is the
 * solution in long double arithmetic. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "accel/nn/calibrate.h"
#include "common/file.h"
#include "common/npy.h"

#define ALLOWED 1e-9 /* relative L2 */
#define WAYS_MAX 64

struct features {
    struct sl_calib_shape shape;
    size_t n;
    double lambda;
    double *z;       /* [n, width] of floats */
    int32_t *labels; /* [n] */
    double *stored;  /* W as the case holds it */
    double *exact;   /* W by long doubles */
};

/* --- the case ------------------------------------------------------------------------------------ */

static void path_of(const char *name, const char *file, char ret[700])
{
    const char *root = getenv("SL_GOLDEN");
    snprintf(ret, 700, "%s/fl/%s/%s", root == NULL ? "tests/golden" : root, name, file);
}

static double *load_array(const char *name, const char *file, size_t *ret_rows, size_t *ret_n)
{
    char path[700];
    struct sl_npy a;
    struct sl_err err;
    uint8_t *bytes;
    size_t n;
    path_of(name, file, path);
    if (sl_file_read(path, (size_t)1 << 26, &bytes, &n, &err) != SL_OK ||
        sl_npy_parse(file, bytes, n, &a, &err) != SL_OK)
        fail_msg("%s", err.msg);
    double *values = calloc(a.n, sizeof(*values));
    assert_non_null(values);
    sl_npy_doubles(&a, values);
    *ret_rows = a.dim[0];
    *ret_n = a.n;
    sl_npy_deinit(&a);
    free(bytes);
    return values;
}

static double lambda_of(const char *name)
{
    char path[700];
    path_of(name, "manifest.json", path);
    json_t *m = json_load_file(path, 0, NULL);
    json_t *lambda = json_object_get(json_object_get(m, "calibration"), "z_lambda");
    assert_true(json_is_real(lambda));
    double value = json_real_value(lambda);
    json_decref(m);
    return value;
}

/* V + lambda I = L D L^T, then L D L^T W^T = U, nothing rounded to double before the end. */
static void solve_exactly(struct features *f)
{
    size_t d = f->shape.width, classes = f->shape.classes;
    long double *a = calloc(d * d, sizeof(*a)), *x = calloc(classes * d, sizeof(*x));
    assert_non_null(a);
    assert_non_null(x);
    for (size_t s = 0; s < f->n; s++)
        for (size_t i = 0; i < d; i++) {
            x[(size_t)f->labels[s] * d + i] += f->z[s * d + i];
            for (size_t j = 0; j <= i; j++)
                a[i * d + j] += (long double)f->z[s * d + i] * f->z[s * d + j];
        }
    for (size_t i = 0; i < d; i++)
        a[i * d + i] += f->lambda;
    for (size_t j = 0; j < d; j++)
        for (size_t i = j + 1; i < d; i++) {
            long double l = a[i * d + j] / a[j * d + j];
            for (size_t k = j + 1; k <= i; k++)
                a[i * d + k] -= l * a[k * d + j];
        }
    /* below the diagonal stands L D, on it D */
    for (size_t c = 0; c < classes; c++) {
        long double *w = x + c * d;
        for (size_t i = 0; i < d; i++)
            for (size_t k = 0; k < i; k++)
                w[i] -= a[i * d + k] / a[k * d + k] * w[k];
        for (size_t i = d; i-- > 0;) {
            w[i] /= a[i * d + i];
            for (size_t k = i + 1; k < d; k++)
                w[i] -= a[k * d + i] / a[i * d + i] * w[k];
        }
    }
    f->exact = calloc(classes * d, sizeof(*f->exact));
    assert_non_null(f->exact);
    for (size_t i = 0; i < classes * d; i++)
        f->exact[i] = (double)x[i];
    free(a);
    free(x);
}

static struct features load(const char *name)
{
    struct features f = {.lambda = lambda_of(name)};
    size_t n, rows;
    f.z = load_array(name, "calib_z.npy", &f.n, &n);
    f.shape.width = (uint32_t)(n / f.n);
    double *labels = load_array(name, "calib_labels.npy", &rows, &n);
    assert_int_equal(n, f.n);
    f.labels = calloc(n, sizeof(*f.labels));
    assert_non_null(f.labels);
    for (size_t i = 0; i < n; i++)
        f.labels[i] = (int32_t)labels[i];
    free(labels);
    f.stored = load_array(name, "calib_z_W.npy", &rows, &n);
    f.shape.classes = (uint32_t)rows;
    assert_int_equal(n, rows * f.shape.width);
    solve_exactly(&f);
    return f;
}

static void unload(struct features *f)
{
    free(f->z);
    free(f->labels);
    free(f->stored);
    free(f->exact);
}

/* --- federations ---------------------------------------------------------------------------------- */

enum order { FORWARDS, BACKWARDS, EVENS_FIRST };

static size_t turn(enum order order, size_t i, size_t n)
{
    size_t evens = (n + 1) / 2;
    return order == FORWARDS    ? i
           : order == BACKWARDS ? n - 1 - i
           : i < evens          ? 2 * i
                                : 2 * (i - evens) + 1;
}

/* Does sample i belong to client k? Dealt round, or in runs whose lengths grow. */
static bool owns(size_t k, size_t parts, bool dealt, size_t i, size_t n)
{
    return dealt ? i % parts == k
                 : i >= n * k * (k + 1) / (parts * (parts + 1)) &&
                       i < n * (k + 1) * (k + 2) / (parts * (parts + 1));
}

/* A client's statistics, as they arrive: through their bytes. */
static void add_client(const struct features *f, size_t k, size_t parts, bool dealt,
                       struct sl_calib *sum)
{
    struct sl_calib c, got;
    struct sl_err err;
    size_t d = f->shape.width, n = 0, bytes = (size_t)sl_calib_bytes(&f->shape);
    double *z = calloc(f->n * d, sizeof(*z));
    int32_t *labels = calloc(f->n, sizeof(*labels));
    uint8_t *wire = malloc(bytes);
    assert_true(z != NULL && labels != NULL && wire != NULL);
    for (size_t i = 0; i < f->n; i++)
        if (owns(k, parts, dealt, i, f->n)) {
            memcpy(z + n * d, f->z + i * d, d * sizeof(*z));
            labels[n++] = f->labels[i];
        }
    assert_int_equal(sl_calib_init(&c, &f->shape, &err), SL_OK);
    assert_int_equal(sl_calib_init(&got, &f->shape, &err), SL_OK);
    assert_int_equal(sl_calib_add(&c, z, labels, n, &err), SL_OK);
    sl_calib_write(&c, wire);
    assert_int_equal(sl_calib_read(&got, wire, bytes, &err), SL_OK);
    sl_calib_merge(sum, &got);
    sl_calib_deinit(&c);
    sl_calib_deinit(&got);
    free(wire);
    free(labels);
    free(z);
}

static double *federate(const struct features *f, size_t parts, bool dealt, enum order order)
{
    struct sl_calib sum;
    struct sl_err err;
    double *w = calloc(sl_calib_n_u(&f->shape), sizeof(*w)), used;
    assert_non_null(w);
    assert_int_equal(sl_calib_init(&sum, &f->shape, &err), SL_OK);
    for (size_t i = 0; i < parts; i++)
        add_client(f, turn(order, i, parts), parts, dealt, &sum);
    assert_int_equal(sum.n, f->n);
    assert_int_equal(sl_calib_solve(&sum, f->lambda, NULL, w, &used, &err), SL_OK);
    assert_true(used == f->lambda);
    sl_calib_deinit(&sum);
    return w;
}

static double apart(const double *a, const double *b, size_t n)
{
    long double square = 0, length = 0;
    for (size_t i = 0; i < n; i++) {
        square += (long double)(a[i] - b[i]) * (a[i] - b[i]);
        length += (long double)b[i] * b[i];
    }
    return (double)sqrtl(square / length);
}

static void check_case(const char *name)
{
    static const size_t parts[] = {1, 2, 6, 11, 100};
    struct features f = load(name);
    size_t n_w = sl_calib_n_u(&f.shape), n = 0;
    double *w[WAYS_MAX], far = 0, between = 0;
    for (size_t p = 0; p < sizeof parts / sizeof parts[0]; p++)
        for (int dealt = 0; dealt < 2; dealt++)
            for (enum order o = FORWARDS; o <= EVENS_FIRST; o++)
                w[n++] = federate(&f, parts[p], dealt != 0, o);
    for (size_t i = 0; i < n; i++) {
        far = fmax(far, apart(w[i], f.exact, n_w));
        for (size_t j = 0; j < i; j++)
            between = fmax(between, apart(w[i], w[j], n_w));
    }
    print_message("%s: %zu ways: %.2g from the exact W, %.2g between each other; stored W: %.2g\n",
                  name, n, far, between, apart(f.stored, f.exact, n_w));
    assert_true(far <= ALLOWED);
    assert_true(between <= ALLOWED);
    for (size_t i = 0; i < n; i++)
        free(w[i]);
    unload(&f);
}

static void every_split_gives_the_exact_head_of_features_of_width_16(void **state)
{
    (void)state;
    check_case("spherefed_feat16");
}

static void every_split_gives_the_exact_head_of_features_of_lenet(void **state)
{
    (void)state;
    check_case("spherefed_lenet");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_split_gives_the_exact_head_of_features_of_width_16),
        cmocka_unit_test(every_split_gives_the_exact_head_of_features_of_lenet),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
