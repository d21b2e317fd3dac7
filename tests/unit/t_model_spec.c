/* SPDX-License-Identifier: Apache-2.0 */
#include "common/model_spec.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define UNUSED(x) (void)(x)

static void kinds_and_names_translate_both_ways(void **state)
{
    UNUSED(state);
    for (int i = SL_LAYER_DENSE; i <= SL_LAYER_TERNARY_CONV2D; i++) {
        enum sl_layer_kind kind;
        assert_true(sl_layer_kind_of(sl_layer_kind_name((enum sl_layer_kind)i), &kind));
        assert_int_equal(kind, i);
    }
    enum sl_layer_kind kept = SL_LAYER_MHSA;
    assert_false(sl_layer_kind_of("lstm", &kept));
    assert_false(sl_layer_kind_of("", &kept));
    assert_int_equal(kept, SL_LAYER_MHSA);
    assert_string_equal(sl_layer_kind_name((enum sl_layer_kind)99), "unknown");
}

static void a_layer_starts_with_the_defaults_of_its_kind(void **state)
{
    UNUSED(state);
    struct sl_layer_spec l = sl_layer_default(SL_LAYER_CONV2D);
    assert_true(l.kind == SL_LAYER_CONV2D && l.stride == 1 && l.pad == 0 && l.bias);
    l = sl_layer_default(SL_LAYER_BATCHNORM);
    assert_true(l.eps == 1e-5f && l.momentum == 0.1f && l.name[0] == '\0');
}

static void copies_are_equal_and_independent(void **state)
{
    UNUSED(state);
    struct sl_err err = {0};
    struct sl_model_spec a = {0}, b = {0}, none = {0};
    struct sl_layer_spec l = sl_layer_default(SL_LAYER_DENSE);
    l.out = 5;
    assert_int_equal(sl_model_spec_add(&a, &l, &err), SL_OK);
    assert_int_equal(sl_model_spec_copy(&a, &b, &err), SL_OK);
    a.layers[0].out = 6;
    assert_int_equal(b.n_layers, 1);
    assert_int_equal(b.layers[0].out, 5);
    sl_model_spec_deinit(&a);
    sl_model_spec_deinit(&a);
    sl_model_spec_deinit(&b);
    assert_int_equal(sl_model_spec_copy(&none, &b, &err), SL_OK);
    assert_int_equal(b.n_layers, 0);
    sl_model_spec_deinit(&b);
    sl_model_spec_deinit(NULL);
}

static void a_model_has_at_most_so_many_layers(void **state)
{
    UNUSED(state);
    struct sl_err err = {0};
    struct sl_model_spec m = {0};
    struct sl_layer_spec l = sl_layer_default(SL_LAYER_RELU);
    for (int i = 0; i < SL_LAYERS_MAX; i++)
        assert_int_equal(sl_model_spec_add(&m, &l, &err), SL_OK);
    assert_int_equal(sl_model_spec_add(&m, &l, &err), SL_E_LIMIT);
    assert_int_equal(m.n_layers, SL_LAYERS_MAX);
    assert_string_equal(err.msg, "model of more than 256 layers");
    sl_model_spec_deinit(&m);
}

static void named_models_end_with_the_number_of_classes(void **state)
{
    UNUSED(state);
    static const struct {
        const char *name;
        size_t n_layers;
        uint32_t first_out;
        const char *last_name;
    } known[] = {{"tiny", 2, 0, "fc1"},     {"mlp", 6, 0, "fc3"},        {"lenet", 12, 6, "fc3"},
                 {"cnn", 10, 32, "fc2"},    {"pfl-cnn", 11, 32, "fc2"},  {"resnet8", 30, 16, "fc"}};
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        struct sl_err err = {0};
        struct sl_model_spec m = {0};
        assert_int_equal(sl_model_spec_named(known[i].name, 7, &m, &err), SL_OK);
        const struct sl_layer_spec *last = &m.layers[m.n_layers - 1];
        assert_int_equal(m.n_layers, known[i].n_layers);
        assert_int_equal(m.layers[0].out, known[i].first_out);
        assert_int_equal(last->kind, SL_LAYER_DENSE);
        assert_int_equal(last->out, 7);
        assert_string_equal(last->name, known[i].last_name);
        sl_model_spec_deinit(&m);
    }
}

static void residuals_of_a_named_model_stay_inside_it(void **state)
{
    UNUSED(state);
    struct sl_err err = {0};
    struct sl_model_spec m = {0};
    size_t n = 0;
    assert_int_equal(sl_model_spec_named("resnet8", 10, &m, &err), SL_OK);
    for (size_t i = 0; i < m.n_layers; i++)
        if (m.layers[i].kind == SL_LAYER_RESIDUAL) {
            assert_true(m.layers[i].n_body > 0);
            assert_true(i + m.layers[i].n_body + m.layers[i].n_shortcut < m.n_layers);
            n++;
        }
    assert_int_equal(n, 3);
    sl_model_spec_deinit(&m);
}

static void an_unknown_name_lists_the_known_ones(void **state)
{
    UNUSED(state);
    struct sl_err err = {0};
    struct sl_model_spec m = {.n_layers = 77};
    assert_int_equal(sl_model_spec_named("vit", 10, &m, &err), SL_E_NOTFOUND);
    assert_int_equal(m.n_layers, 77);
    const char *const known[] = {"tiny", "mlp", "lenet", "cnn", "pfl-cnn", "resnet8"};
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        assert_non_null(strstr(err.msg, known[i]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kinds_and_names_translate_both_ways),
        cmocka_unit_test(a_layer_starts_with_the_defaults_of_its_kind),
        cmocka_unit_test(copies_are_equal_and_independent),
        cmocka_unit_test(a_model_has_at_most_so_many_layers),
        cmocka_unit_test(named_models_end_with_the_number_of_classes),
        cmocka_unit_test(residuals_of_a_named_model_stay_inside_it),
        cmocka_unit_test(an_unknown_name_lists_the_known_ones),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
