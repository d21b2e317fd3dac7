/* SPDX-License-Identifier: Apache-2.0 */
/* Models: layouts, start values, and what a builder refuses. */
#include <dirent.h>
#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <sodium.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "accel/nn/check_nn.h"
#include "accel/nn/model.h"
#include "common/hash.h"

static struct sl_model *model_of_manifest(const json_t *manifest)
{
    const json_t *layers = json_object_get(manifest, "layers");
    const json_t *tensors = json_object_get(manifest, "tensors"), *o;
    struct sl_model_spec spec = {0};
    struct sl_model *m = NULL;
    struct sl_err err;
    size_t i;
    if (sl_check_layers(layers, &spec, &err) != SL_OK)
        fail_msg("%s", err.msg);
    enum sl_code rc = sl_model_new(&spec, &(struct sl_shape){3, {1, 28, 28}}, 10,
                                   SL_LOSS_SOFTMAX_CE, &m, &err);
    sl_model_spec_deinit(&spec);
    if (rc != SL_OK)
        return NULL; /* a feature extractor without a head */
    json_array_foreach(tensors, i, o)
    {
        const struct sl_tensor *t = &sl_model_layout(m)->tensors[i];
        assert_string_equal(t->name, json_string_value(json_object_get(o, "name")));
        assert_int_equal(t->offset, json_integer_value(json_object_get(o, "offset")));
    }
    assert_int_equal(sl_model_n_params(m),
                     json_integer_value(json_object_get(manifest, "n_params")));
    return m;
}

/* One folder of tests/golden/fl: does the splitmix rule give its start values? */
static bool check_folder(const char *root, const char *name)
{
    char path[700], hex[2 * crypto_hash_sha256_BYTES + 1];
    unsigned char sha[crypto_hash_sha256_BYTES];
    json_error_t e;
    snprintf(path, sizeof(path), "%s/fl/%s/manifest.json", root, name);
    json_t *manifest = json_load_file(path, 0, &e);
    const json_t *rule = json_object_get(manifest, "init_rule");
    struct sl_model *m = rule == NULL ? NULL : model_of_manifest(manifest);
    bool checked = m != NULL;
    if (checked) {
        size_t n = sl_model_layout(m)->n_values;
        float *v = calloc(n, sizeof(float));
        sl_model_init_splitmix(
            m, (uint64_t)json_integer_value(json_object_get(rule, "seed")),
            json_number_value(json_object_get(rule, "gain")), v);
        crypto_hash_sha256(sha, (const unsigned char *)v, n * sizeof(float));
        sl_hex(sha, sizeof(sha), hex);
        assert_string_equal(
            hex, json_string_value(json_object_get(rule, "sha256_float32_le")));
        free(v);
    }
    sl_model_free(m);
    json_decref(manifest);
    return checked;
}

static void the_splitmix_rule_gives_the_vectors_start(void **state)
{
    const char *root = getenv("SL_GOLDEN");
    char path[600];
    size_t checked = 0;
    snprintf(path, sizeof(path), "%s/fl", root == NULL ? "tests/golden" : root);
    DIR *d = opendir(path);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d)) != NULL;)
        checked += e->d_name[0] != '.' &&
                   check_folder(root == NULL ? "tests/golden" : root, e->d_name);
    closedir(d);
    assert_true(checked >= 30);
}

static struct sl_model *build(const struct sl_layer_spec *l, size_t n, struct sl_shape in,
                              uint32_t classes, enum sl_code *rc, struct sl_err *err)
{
    struct sl_model *m = NULL;
    *rc = sl_model_new(&(struct sl_model_spec){(struct sl_layer_spec *)l, n}, &in,
                       classes, SL_LOSS_SOFTMAX_CE, &m, err);
    return m;
}

static void named_models_have_their_sizes(void **state)
{
    static const struct {
        const char *name;
        size_t n;
    } want[] = {{"tiny", 7850},
                {"mlp", 199210},
                {"lenet", 61706},
                {"cnn", 1663370},
                {"pfl-cnn", 1199882}};
    for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
        struct sl_model_spec spec = {0};
        struct sl_err err;
        enum sl_code rc;
        assert_int_equal(sl_model_spec_named(want[i].name, 10, &spec, &err), SL_OK);
        struct sl_model *m = build(spec.layers, spec.n_layers,
                                   (struct sl_shape){3, {1, 28, 28}}, 10, &rc, &err);
        assert_int_equal(rc, SL_OK);
        assert_int_equal(sl_model_n_params(m), want[i].n);
        assert_int_equal(sl_model_layout(m)->n_values, want[i].n);
        sl_model_free(m);
        sl_model_spec_deinit(&spec);
    }
}

static void uniform_start_stays_in_its_bounds_and_depends_on_the_seed(void **state)
{
    struct sl_layer_spec l[4] = {
        sl_layer_default(SL_LAYER_CONV2D), sl_layer_default(SL_LAYER_BATCHNORM),
        sl_layer_default(SL_LAYER_FLATTEN), sl_layer_default(SL_LAYER_DENSE)};
    struct sl_err err;
    enum sl_code rc;
    l[0].out = 3;
    l[0].kernel = 3;
    l[3].out = 4;
    struct sl_model *m = build(l, 4, (struct sl_shape){3, {2, 8, 8}}, 4, &rc, &err);
    assert_int_equal(rc, SL_OK);
    size_t n = sl_model_layout(m)->n_values;
    float *a = calloc(n, sizeof(float)), *b = calloc(n, sizeof(float));
    sl_model_init_uniform(m, 1, a);
    sl_model_init_uniform(m, 2, b);
    for (size_t t = 0; t < sl_model_layout(m)->n_tensors; t++) {
        const struct sl_tensor *x = &sl_model_layout(m)->tensors[t];
        bool conv = strncmp(x->name, "conv1", 5) == 0,
             fc = strncmp(x->name, "fc1", 3) == 0;
        double sum = 0.0, bound = 1.0 / sqrt(conv ? 18.0 : 108.0);
        for (size_t i = 0; i < x->size; i++) {
            float v = a[x->offset + i];
            sum += (double)v;
            if (conv || fc)
                assert_true(fabs((double)v) <= bound && v != b[x->offset + i]);
            else
                assert_true(
                    v ==
                    (strstr(x->name, "weight") || strstr(x->name, "var") ? 1.0f : 0.0f));
        }
        if (fc && x->size > 100)
            assert_true(fabs(sum / (double)x->size) < 0.1 * bound);
    }
    assert_string_equal(sl_model_layout(m)->tensors[6].name, "norm1.running_mean");
    assert_int_equal(sl_model_layout(m)->tensors[6].role, SL_TENSOR_BUFFER);
    assert_int_equal(sl_model_n_params(m), n - 6);
    free(a);
    free(b);
    sl_model_free(m);
}

static struct sl_layer_spec with(enum sl_layer_kind kind, uint32_t out, uint32_t kernel,
                                 uint32_t stride, uint32_t pad)
{
    struct sl_layer_spec l = sl_layer_default(kind);
    l.out = out;
    l.kernel = kernel;
    l.stride = stride;
    l.pad = pad;
    return l;
}

static void layers_that_do_not_fit_are_named(void **state)
{
    struct sl_layer_spec groups = sl_layer_default(SL_LAYER_GROUPNORM), heads, res, rate,
                         eps;
    const struct sl_shape image = {3, {3, 8, 8}}, row = {1, {6}}, tokens = {2, {4, 6}};
    struct sl_err err;
    enum sl_code rc;
    groups.groups = 2;
    heads = sl_layer_default(SL_LAYER_MHSA);
    heads.heads = 4;
    res = sl_layer_default(SL_LAYER_RESIDUAL);
    res.n_body = 5;
    rate = sl_layer_default(SL_LAYER_DROPOUT);
    rate.rate = 1.0f;
    eps = sl_layer_default(SL_LAYER_LAYERNORM);
    eps.eps = 0.0f;
    const struct {
        struct sl_layer_spec l;
        struct sl_shape in;
        const char *says;
    } bad[] = {
        {with(SL_LAYER_DENSE, 5, 0, 0, 0), image, "flatten"},
        {with(SL_LAYER_DENSE, 0, 0, 0, 0), row, "out 0"},
        {with(SL_LAYER_CONV2D, 4, 3, 1, 0), row, "input [6]"},
        {with(SL_LAYER_CONV2D, 4, 9, 1, 0), image, "larger"},
        {with(SL_LAYER_CONV2D, 4, 3, 0, 0), image, "stride 0"},
        {with(SL_LAYER_CONV2D, 4, 3, 1, 3), image, "pad 3"},
        {with(SL_LAYER_CONV2D, 0, 3, 1, 0), image, "out 0"},
        {with(SL_LAYER_CONV2D, UINT32_MAX, 1, 1, 0), image, "beyond"},
        {with(SL_LAYER_MAXPOOL, 0, 16, 1, 0), image, "kernel 16"},
        {with(SL_LAYER_AVGPOOL, 0, 2, 2, 1), image, "pad 1"},
        {with(SL_LAYER_MEAN_TOKENS, 0, 0, 0, 0), row, "tokens"},
        {groups, image, "2 groups for 3 channels"},
        {groups, tokens, "2 dimensions"},
        {heads, tokens, "4 heads for width 6"},
        {heads, row, "tokens"},
        {res, row, "body"},
        {rate, row, "rate 1"},
        {eps, row, "eps 0"},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_null(build(&bad[i].l, 1, bad[i].in, 5, &rc, &err));
        assert_int_equal(rc, SL_E_INPUT);
        if (strstr(err.msg, bad[i].says) == NULL || strncmp(err.msg, "layer 1 (", 9) != 0)
            fail_msg("%zu: \"%s\" does not say \"%s\"", i, err.msg, bad[i].says);
    }
}

static void wrong_ends_and_names_are_refused(void **state)
{
    struct sl_layer_spec l[2] = {with(SL_LAYER_DENSE, 5, 0, 0, 0),
                                 with(SL_LAYER_DENSE, 5, 0, 0, 0)};
    struct sl_err err;
    enum sl_code rc;
    assert_null(build(l, 1, (struct sl_shape){1, {6}}, 4, &rc, &err));
    assert_non_null(strstr(err.msg, "4 classes"));
    assert_null(build(l, 0, (struct sl_shape){1, {6}}, 4, &rc, &err));
    assert_null(build(l, 1, (struct sl_shape){1, {0}}, 5, &rc, &err));
    assert_null(build(l, 1, (struct sl_shape){0, {0}}, 5, &rc, &err));
    assert_null(build(l, 1, (struct sl_shape){3, {1 << 20, 1 << 20, 1}}, 5, &rc, &err));
    strcpy(l[0].name, "fc1");
    strcpy(l[1].name, "fc1");
    assert_null(build(l, 2, (struct sl_shape){1, {6}}, 5, &rc, &err));
    assert_non_null(strstr(err.msg, "twice"));
}

static void residuals_want_equal_shapes_and_limited_depth(void **state)
{
    struct sl_layer_spec l[12];
    struct sl_err err;
    enum sl_code rc;
    l[0] = sl_layer_default(SL_LAYER_RESIDUAL);
    l[0].n_body = 1;
    l[1] = with(SL_LAYER_DENSE, 5, 0, 0, 0);
    assert_null(build(l, 2, (struct sl_shape){1, {6}}, 5, &rc, &err));
    assert_non_null(strstr(err.msg, "must be equal"));
    for (uint32_t i = 0; i < 11; i++) {
        l[i] = sl_layer_default(SL_LAYER_RESIDUAL);
        l[i].n_body = 11 - i;
    }
    l[11] = sl_layer_default(SL_LAYER_RELU);
    assert_null(build(l, 12, (struct sl_shape){1, {6}}, 6, &rc, &err));
    assert_non_null(strstr(err.msg, "inside one another"));
    l[0].n_shortcut = UINT32_MAX;
    assert_null(build(l, 12, (struct sl_shape){1, {6}}, 6, &rc, &err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_splitmix_rule_gives_the_vectors_start),
        cmocka_unit_test(named_models_have_their_sizes),
        cmocka_unit_test(uniform_start_stays_in_its_bounds_and_depends_on_the_seed),
        cmocka_unit_test(layers_that_do_not_fit_are_named),
        cmocka_unit_test(wrong_ends_and_names_are_refused),
        cmocka_unit_test(residuals_want_equal_shapes_and_limited_depth),
    };
    return cmocka_run_group_tests_name("nn_model", tests, NULL, NULL);
}
