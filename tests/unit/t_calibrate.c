/* SPDX-License-Identifier: Apache-2.0 */
/* The calibration's algebra: what spherefed.md calls S5 to S11, and statistics that can't be. */
#include "accel/nn/calibrate.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "accel/nn/plan_model.h"
#include "common/rng.h"

#define WIDTH 24
#define CLASSES 7
#define N 900
#define CLIENTS 9

struct data {
    double z[N * WIDTH];
    int32_t labels[N];
};

static const struct sl_calib_shape plain = {.width = WIDTH, .classes = CLASSES};
static const struct sl_calib_shape biased = {
    .width = WIDTH, .classes = CLASSES, .bias = true};
static const struct sl_calib_shape balanced = {
    .width = WIDTH, .classes = CLASSES, .balanced = true};

/* Features near their class's direction, classes of unequal size. */
static struct data *make(bool bias)
{
    struct data *d = calloc(1, sizeof *d);
    assert_non_null(d);
    struct sl_rng r;
    sl_rng_init(&r, &(struct sl_rng_id){.seed = 11, .purpose = SL_RNG_TEST});
    for (size_t i = 0; i < N; i++) {
        double *z = d->z + i * WIDTH, length = 0;
        uint64_t a = sl_rng_below(&r, CLASSES), b = sl_rng_below(&r, CLASSES);
        d->labels[i] = (int32_t)(a < b ? a : b);
        for (size_t j = 0; j < WIDTH; j++) {
            z[j] = 0.3 * sl_rng_normal(&r) + (j == (size_t)d->labels[i]);
            length += z[j] * z[j];
        }
        for (size_t j = 0; !bias && j < WIDTH; j++)
            z[j] /= sqrt(length);
        if (bias)
            z[WIDTH - 1] = 1;
    }
    return d;
}

static struct sl_calib stats(const struct sl_calib_shape *s, const struct data *d, size_t first,
                             size_t n)
{
    struct sl_calib c;
    struct sl_err err;
    assert_int_equal(sl_calib_init(&c, s, &err), SL_OK);
    assert_int_equal(sl_calib_add(&c, d->z + first * WIDTH, d->labels + first, n, &err), SL_OK);
    return c;
}

static void solve(const struct sl_calib *c, double lambda, double *w)
{
    double used;
    struct sl_err err;
    assert_int_equal(sl_calib_solve(c, lambda, NULL, w, &used, &err), SL_OK);
    assert_true(used == lambda);
}

static double differ(const double *a, const double *b, size_t n)
{
    double most = 0;
    for (size_t i = 0; i < n; i++)
        most = fmax(most, fabs(a[i] - b[i]));
    return most;
}

/* Sum over clients of unequal size, first to last or last to first; client `without` left out. */
static struct sl_calib federate(const struct sl_calib_shape *s, const struct data *d, size_t cut,
                                bool backwards, size_t without)
{
    struct sl_calib sum;
    struct sl_err err;
    size_t at[CLIENTS + 1] = {0};
    for (size_t k = 0; k < CLIENTS; k++)
        at[k + 1] = k + 1 == CLIENTS ? N : at[k] + cut + 13 * k; /* the last takes the rest */
    assert_int_equal(sl_calib_init(&sum, s, &err), SL_OK);
    for (size_t i = 0; i < CLIENTS; i++) {
        size_t k = backwards ? CLIENTS - 1 - i : i;
        struct sl_calib c = stats(s, d, at[k], at[k + 1] - at[k]);
        struct sl_calib_limits exact = {.max_samples = at[k + 1] - at[k], .exact = true};
        if (sl_calib_check(&c, &exact, &err) != SL_OK)
            fail_msg("%s", err.msg);
        if (k != without)
            sl_calib_merge(&sum, &c);
        sl_calib_deinit(&c);
    }
    return sum;
}

static void distributed_sums_give_the_pooled_head_however_samples_are_split(void **state)
{
    (void)state;
    const struct sl_calib_shape *all[] = {&plain, &biased, &balanced};
    for (size_t i = 0; i < 3; i++) {
        struct data *d = make(all[i]->bias);
        struct sl_calib pooled = stats(all[i], d, 0, N);
        double want[CLASSES * WIDTH], got[CLASSES * WIDTH];
        solve(&pooled, 1e-3, want);
        for (size_t cut = 0; cut < 50; cut += 7)
            for (int backwards = 0; backwards < 2; backwards++) {
                struct sl_calib sum = federate(all[i], d, cut, backwards, CLIENTS);
                assert_int_equal(sum.n, N);
                solve(&sum, 1e-3, got);
                assert_true(differ(got, want, CLASSES * WIDTH) <= 1e-9);
                sl_calib_deinit(&sum);
            }
        sl_calib_deinit(&pooled);
        free(d);
    }
}

/* S10 */
static void without_a_client_is_the_sum_less_its_statistics(void **state)
{
    (void)state;
    struct data *d = make(false);
    struct sl_calib all = federate(&plain, d, 20, false, CLIENTS);
    struct sl_calib without = federate(&plain, d, 20, false, 3);
    struct sl_calib third = stats(&plain, d, 3 * 20 + 13 * 3, 20 + 13 * 3);
    double want[CLASSES * WIDTH], got[CLASSES * WIDTH];
    solve(&without, 1e-3, want);
    assert_int_equal(all.n - third.n, without.n);
    for (size_t i = 0; i < sl_calib_n_v(&plain); i++)
        all.v[i] -= third.v[i];
    for (size_t i = 0; i < sl_calib_n_u(&plain); i++)
        all.u[i] -= third.u[i];
    solve(&all, 1e-3, got);
    assert_true(differ(got, want, CLASSES * WIDTH) <= 1e-9);
    sl_calib_deinit(&all);
    sl_calib_deinit(&without);
    sl_calib_deinit(&third);
    free(d);
}

/* (V + lambda I) W^T - U, row by row; V from the packed triangle. */
static double residual(const struct sl_calib *c, double lambda, const double *w)
{
    double most = 0, scale = 0;
    for (size_t k = 0; k < CLASSES; k++)
        for (size_t i = 0; i < WIDTH; i++) {
            double sum = lambda * w[k * WIDTH + i];
            for (size_t j = 0; j < WIDTH; j++) {
                size_t a = i > j ? i : j, b = i > j ? j : i;
                sum += c->v[a * (a + 1) / 2 + b] * w[k * WIDTH + j];
            }
            most = fmax(most, fabs(sum - c->u[k * WIDTH + i]));
            scale = fmax(scale, fabs(c->u[k * WIDTH + i]));
        }
    return most / scale;
}

static double objective(const struct data *d, const double *w, double lambda)
{
    double sum = 0;
    for (size_t i = 0; i < N; i++)
        for (size_t k = 0; k < CLASSES; k++) {
            double o = -(double)(d->labels[i] == (int32_t)k);
            for (size_t j = 0; j < WIDTH; j++)
                o += w[k * WIDTH + j] * d->z[i * WIDTH + j];
            sum += o * o;
        }
    for (size_t i = 0; i < CLASSES * WIDTH; i++)
        sum += lambda * w[i] * w[i];
    return sum;
}

static void the_head_solves_the_normal_equations_and_nothing_near_is_better(void **state)
{
    (void)state;
    struct data *d = make(false);
    struct sl_calib c = stats(&plain, d, 0, N);
    double w[CLASSES * WIDTH], other[CLASSES * WIDTH];
    struct sl_rng r;
    solve(&c, 0.01, w);
    assert_true(residual(&c, 0.01, w) < 1e-10);
    double best = objective(d, w, 0.01);
    sl_rng_init(&r, &(struct sl_rng_id){.seed = 12, .purpose = SL_RNG_TEST});
    for (size_t i = 0; i < 20; i++) {
        for (size_t j = 0; j < CLASSES * WIDTH; j++)
            other[j] = (i < 10 ? w[j] : 0) + (i < 10 ? 1e-4 : 0.2) * sl_rng_normal(&r);
        assert_true(objective(d, other, 0.01) > best);
    }
    memset(other, 0, sizeof other); /* an orthonormal head that fits the classes */
    for (size_t k = 0; k < CLASSES; k++)
        other[k * WIDTH + k] = 1;
    assert_true(objective(d, other, 0) >= objective(d, w, 0));
    sl_calib_deinit(&c);
    free(d);
}

static void the_ridge_pulls_to_where_it_is_told(void **state)
{
    (void)state;
    struct data *d = make(false);
    struct sl_calib c = stats(&plain, d, 0, N);
    double w0[CLASSES * WIDTH] = {0}, w[CLASSES * WIDTH], least[CLASSES * WIDTH], lambda;
    struct sl_err err;
    for (size_t k = 0; k < CLASSES; k++)
        w0[k * WIDTH + k + 3] = 1;
    assert_int_equal(sl_calib_solve(&c, 1e14, w0, w, &lambda, &err), SL_OK);
    assert_true(differ(w, w0, CLASSES * WIDTH) < 1e-9);
    assert_int_equal(sl_calib_solve(&c, 1e14, NULL, w, &lambda, &err), SL_OK);
    assert_true(fabs(w[0]) < 1e-9);
    solve(&c, 0, least);
    assert_true(residual(&c, 0, least) < 1e-10);
    sl_calib_deinit(&c);
    free(d);
}

static void a_ridge_that_is_too_small_grows_until_it_works(void **state)
{
    (void)state;
    struct data *d = make(false);
    struct sl_calib c = stats(&plain, d, 0, 5); /* rank 5 of 24 */
    double w[CLASSES * WIDTH], lambda;
    struct sl_err err;
    assert_int_equal(sl_calib_solve(&c, 0, NULL, w, &lambda, &err), SL_OK);
    assert_true(lambda > 0 && lambda < 1e-6);
    sl_calib_clear(&c);
    assert_int_equal(sl_calib_solve(&c, 1, NULL, w, &lambda, &err), SL_E_FAILED);
    sl_calib_deinit(&c);
    free(d);
}

static void balanced_means_one_weight_a_class(void **state)
{
    (void)state;
    struct data *d = make(false), *even = calloc(1, sizeof *even);
    struct sl_calib c = stats(&balanced, d, 0, N);
    double got[CLASSES * WIDTH], want[CLASSES * WIDTH];
    /* the definition: every sample times the root of its weight */
    for (size_t i = 0; i < N; i++) {
        double w = (double)N / ((double)CLASSES * (double)c.counts[d->labels[i]]);
        even->labels[i] = d->labels[i];
        for (size_t j = 0; j < WIDTH; j++)
            even->z[i * WIDTH + j] = sqrt(w) * d->z[i * WIDTH + j];
    }
    struct sl_calib e = stats(&plain, even, 0, N);
    for (size_t i = 0; i < N; i++) /* U needs the weight, not its root */
        for (size_t j = 0; j < WIDTH; j++) {
            double w = (double)N / ((double)CLASSES * (double)c.counts[d->labels[i]]);
            e.u[(size_t)d->labels[i] * WIDTH + j] +=
                (w - sqrt(w)) * d->z[i * WIDTH + j];
        }
    solve(&c, 1e-3, got);
    solve(&e, 1e-3, want);
    assert_true(differ(got, want, CLASSES * WIDTH) < 1e-9);
    sl_calib_deinit(&c);
    sl_calib_deinit(&e);
    free(d);
    free(even);
}

static void bytes_carry_every_bit(void **state)
{
    (void)state;
    struct data *d = make(false);
    struct sl_calib a = stats(&balanced, d, 0, N), b;
    struct sl_err err;
    size_t n = sl_calib_bytes(&balanced);
    uint8_t *bytes = malloc(n);
    assert_non_null(bytes);
    sl_calib_write(&a, bytes);
    assert_int_equal(sl_calib_init(&b, &balanced, &err), SL_OK);
    assert_int_equal(sl_calib_read(&b, bytes, n, &err), SL_OK);
    assert_int_equal(b.n, N);
    assert_memory_equal(a.counts, b.counts, CLASSES * sizeof *a.counts);
    assert_memory_equal(a.v, b.v, sl_calib_n_v(&balanced) * sizeof *a.v);
    assert_memory_equal(a.u, b.u, sl_calib_n_u(&balanced) * sizeof *a.u);
    assert_int_equal(sl_calib_read(&b, bytes, n - 1, &err), SL_E_REJECTED);
    bytes[8]++;
    assert_int_equal(sl_calib_read(&b, bytes, n, &err), SL_E_REJECTED);
    free(bytes);
    sl_calib_deinit(&a);
    sl_calib_deinit(&b);
    free(d);
}

/* --- what can't be
 * ----------------------------------------------------------------------------- */

static void poison_nan(struct sl_calib *c)
{
    c->v[3] = NAN;
}
static void poison_infinity(struct sl_calib *c)
{
    c->u[3] = INFINITY;
}
static void poison_trace(struct sl_calib *c)
{
    c->v[0] += 1e-3;
}
static void poison_indefinite(struct sl_calib *c)
{
    c->v[1] += 2 * (double)c->n;
}
static void poison_counts(struct sl_calib *c)
{
    c->counts[0]++;
}
static void poison_size(struct sl_calib *c)
{
    c->counts[0]++;
    c->n++;
}
static void poison_mean(struct sl_calib *c)
{
    c->u[0] = 2 * (double)c->counts[0];
}
static void poison_zero(struct sl_calib *c)
{
    c->n_zero = c->n + 1;
}
/* Means longer than the samples' spread allows, each within its own bound. */
static void poison_spread(struct sl_calib *c)
{
    for (size_t i = 0; i < WIDTH; i++)
        c->u[i] = i == WIDTH - 2 ? (double)c->counts[0] : 0;
}
static void poison_bias(struct sl_calib *c)
{
    c->v[WIDTH * (WIDTH - 1) / 2 + 2] += 1;
}
static void poison_class(struct sl_calib *c)
{
    c->u[WIDTH - 1] += 1;
    c->u[2 * WIDTH - 1] -= 1;
}

static void statistics_that_no_samples_have_are_refused_with_the_reason(void **state)
{
    (void)state;
    static const struct {
        const struct sl_calib_shape *shape;
        void (*poison)(struct sl_calib *c);
        const char *says;
    } all[] = {
        {&plain, poison_nan, "not finite"},
        {&plain, poison_infinity, "not finite"},
        {&plain, poison_trace, "trace of V"},
        {&plain, poison_indefinite, "not semidefinite"},
        {&plain, poison_counts, "samples together"},
        {&plain, poison_size, "enrolled"},
        {&plain, poison_mean, "has length"},
        {&plain, poison_zero, "without direction"},
        {&plain, poison_spread, "not semidefinite"},
        {&balanced, poison_indefinite, "not semidefinite"},
        {&balanced, poison_spread, "not semidefinite"},
        {&biased, poison_bias, "contradict"},
        {&biased, poison_class, "its bias"},
        {&biased, poison_indefinite, "not semidefinite"},
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        struct data *d = make(all[i].shape->bias);
        struct sl_calib c = stats(all[i].shape, d, 0, N);
        struct sl_calib_limits l = {.max_samples = N};
        struct sl_err err;
        assert_int_equal(sl_calib_check(&c, &l, &err), SL_OK);
        all[i].poison(&c);
        assert_int_equal(sl_calib_check(&c, &l, &err), SL_E_REJECTED);
        if (strstr(err.msg, all[i].says) == NULL)
            fail_msg("poison %zu: %s", i, err.msg);
        sl_calib_deinit(&c);
        free(d);
    }
}

static void an_empty_client_and_one_without_direction_are_fine(void **state)
{
    (void)state;
    struct sl_calib c;
    struct sl_err err;
    struct sl_calib_limits none = {.exact = true}, two = {.max_samples = 2, .exact = true};
    double z[2 * WIDTH] = {1};
    int32_t labels[2] = {0, 3};
    assert_int_equal(sl_calib_init(&c, &plain, &err), SL_OK);
    assert_int_equal(sl_calib_check(&c, &none, &err), SL_OK);
    assert_int_equal(sl_calib_add(&c, z, labels, 2, &err), SL_OK);
    assert_int_equal(c.n_zero, 1);
    assert_int_equal(sl_calib_check(&c, &two, &err), SL_OK);
    sl_calib_deinit(&c);
}

/* --- features of a model
 * ------------------------------------------------------------------------ */

static void features_come_from_the_model_in_any_batches(void **state)
{
    (void)state;
    static const char *const plans[] = {
        "data: {dataset: synthetic, path: \"height=8,width=8,classes=10,train=300\"}\n"
        "model: {name: mlp, head: sphere}\n",
        "data: {dataset: synthetic, path: \"height=8,width=8,classes=10,train=300\"}\n"
        "model: {name: mlp}\n"};
    for (size_t p = 0; p < 2; p++) {
        struct sl_plan plan;
        struct sl_dataset set;
        struct sl_model *m;
        struct sl_err err;
        assert_int_equal(
            sl_plan_parse(plans[p], strlen(plans[p]), "test", NULL, 0, &plan, &err), SL_OK);
        struct sl_dataset_source src = {
            .kind = plan.data.dataset, .path = plan.data.path, .split = SL_SPLIT_TRAIN};
        assert_int_equal(sl_dataset_load(&src, &set, &err), SL_OK);
        assert_int_equal(sl_plan_model(&plan, &set, 10, &m, &err), SL_OK);
        float *values = calloc(sl_model_layout(m)->n_values, sizeof *values);
        assert_non_null(values);
        sl_model_init_uniform(m, 1, values);
        assert_int_equal(sl_model_init_head(m, 1, values, &err), SL_OK);
        struct sl_calib_shape s;
        assert_int_equal(sl_calib_shape_of(m, false, &s, &err), SL_OK);
        assert_int_equal(s.width, p == 0 ? 200 : 201);
        assert_int_equal(s.bias, p == 1);
        struct sl_calib c[2];
        for (size_t i = 0; i < 2; i++) {
            struct sl_trainer_options o = {.max_batch = i == 0 ? 32 : 100};
            struct sl_trainer *t;
            struct sl_samples all = {.set = &set, .n = set.n};
            struct sl_calib_limits l = {.max_samples = set.n, .exact = true};
            assert_int_equal(sl_trainer_new(m, &o, &t, &err), SL_OK);
            assert_int_equal(sl_calib_init(&c[i], &s, &err), SL_OK);
            assert_int_equal(sl_calib_collect(&c[i], t, values, &all, &err), SL_OK);
            if (sl_calib_check(&c[i], &l, &err) != SL_OK)
                fail_msg("%s", err.msg);
            sl_trainer_free(t);
        }
        double w[2][201 * 10], lambda;
        for (size_t i = 0; i < 2; i++)
            assert_int_equal(sl_calib_solve(&c[i], 0.1, NULL, w[i], &lambda, &err), SL_OK);
        assert_true(differ(w[0], w[1], s.width * 10) < 1e-5); /* float features, S5 */
        sl_calib_apply(&s, w[0], m, values);
        struct sl_head_info h;
        assert_true(sl_model_head(m, &h));
        assert_true(values[h.weight + 201] == (float)w[0][p == 0 ? 201 : 202]);
        sl_calib_deinit(&c[0]);
        sl_calib_deinit(&c[1]);
        free(values);
        sl_model_free(m);
        sl_dataset_deinit(&set);
        sl_plan_deinit(&plan);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(distributed_sums_give_the_pooled_head_however_samples_are_split),
        cmocka_unit_test(without_a_client_is_the_sum_less_its_statistics),
        cmocka_unit_test(the_head_solves_the_normal_equations_and_nothing_near_is_better),
        cmocka_unit_test(the_ridge_pulls_to_where_it_is_told),
        cmocka_unit_test(a_ridge_that_is_too_small_grows_until_it_works),
        cmocka_unit_test(balanced_means_one_weight_a_class),
        cmocka_unit_test(bytes_carry_every_bit),
        cmocka_unit_test(statistics_that_no_samples_have_are_refused_with_the_reason),
        cmocka_unit_test(an_empty_client_and_one_without_direction_are_fine),
        cmocka_unit_test(features_come_from_the_model_in_any_batches),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
