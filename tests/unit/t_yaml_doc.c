/* SPDX-License-Identifier: Apache-2.0 */
#include "common/yaml_doc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define UNUSED(x) (void)(x)

static void parse(const char *text, struct sl_yaml_doc *ret)
{
    struct sl_err err = {0};
    if (sl_yaml_parse(text, strlen(text), "f", ret, &err) != SL_OK)
        fail_msg("%s", err.msg);
}

static void expect_error(const char *text, size_t n, enum sl_code code, const char *msg)
{
    struct sl_yaml_doc d = {.where = "untouched"};
    struct sl_err err = {0};
    assert_int_equal(sl_yaml_parse(text, n, "f", &d, &err), code);
    assert_string_equal(err.msg, msg);
    assert_string_equal(d.where, "untouched");
    assert_null(d.root);
}

static void maps_lists_and_scalars_keep_order_and_lines(void **state)
{
    UNUSED(state);
    struct sl_yaml_doc d;
    parse("a: 1\n# note\nb:\n  - x\n  - {c: \"2\", d: [ ]}\n", &d);
    assert_int_equal(d.root->n_children, 2);
    const struct sl_yaml_node *a = sl_yaml_get(d.root, "a"), *b = sl_yaml_get(d.root, "b");
    assert_string_equal(a->text, "1");
    assert_int_equal(a->line, 1);
    assert_false(a->quoted);
    assert_int_equal(b->kind, SL_YAML_LIST);
    assert_int_equal(b->line, 3);
    assert_int_equal(b->n_children, 2);
    assert_string_equal(b->first->text, "x");
    const struct sl_yaml_node *c = sl_yaml_get(b->first->next, "c");
    assert_string_equal(c->text, "2");
    assert_true(c->quoted);
    assert_int_equal(c->line, 5);
    assert_int_equal(sl_yaml_get(b->first->next, "d")->n_children, 0);
    assert_null(sl_yaml_get(d.root, "e"));
    assert_null(sl_yaml_get(a, "e"));
    assert_null(sl_yaml_get(NULL, "e"));
    sl_yaml_deinit(&d);
    sl_yaml_deinit(&d);
    sl_yaml_deinit(NULL);
}

static void an_empty_document_is_an_empty_map(void **state)
{
    UNUSED(state);
    const char *const texts[] = {"", "\n", "# only a note\n", "---\n", "---\n...\n"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct sl_yaml_doc d;
        parse(texts[i], &d);
        assert_int_equal(d.root->kind, SL_YAML_MAP);
        assert_int_equal(d.root->n_children, 0);
        sl_yaml_deinit(&d);
    }
}

static void what_the_subset_lacks_is_refused_with_its_line(void **state)
{
    UNUSED(state);
    static const struct {
        const char *text, *msg;
    } bad[] = {
        {"a: 1\nb: 2\na: 3\n", "f:3: a: given twice (first in line 1)"},
        {"a: {b: 1, b: 2}\n", "f:1: b: given twice (first in line 1)"},
        {"a: &x 1\n", "f:1: anchors (&) are not allowed"},
        {"a: &x {b: 1}\n", "f:1: anchors (&) are not allowed"},
        {"a: &x [1]\n", "f:1: anchors (&) are not allowed"},
        {"a: 1\nb: *x\n", "f:2: aliases (*) are not allowed"},
        {"a: !!str 1\n", "f:1: tags (!) are not allowed"},
        {"a: !x {b: 1}\n", "f:1: tags (!) are not allowed"},
        {"!x a: 1\n", "f:1: tags (!) are not allowed"},
        {"a: 1\n---\nb: 1\n", "f:2: a second document (---) is not allowed"},
        {"- a\n", "f:1: must be a map (key: value)"},
        {"word\n", "f:1: must be a map (key: value)"},
        {"[a]: 1\n", "f:1: a key must be a word"},
        {"a: \"x\\ny\"\n", "f:1: line breaks and control characters in a text are not allowed"},
        {"a: |\n  x\n", "f:1: line breaks and control characters in a text are not allowed"},
        {"a: \"x\\0y\"\n", "f:1: line breaks and control characters in a text are not allowed"},
        {"a: \"\\u2028\"\n", "f:1: line breaks and control characters in a text are not allowed"},
        {"a: \"\\x7f\"\n", "f:1: line breaks and control characters in a text are not allowed"},
        {"a: \"\\u0085\"\n", "f:1: line breaks and control characters in a text are not allowed"},
        {"a: [1\n", "f:2: not YAML: did not find expected ',' or ']'"},
        {"a: 1\n b: 2\n", "f:2: not YAML: mapping values are not allowed in this context"},
        {"a: \"x\n", "f:2: not YAML: found unexpected end of stream"},
        {"a: \xff\n", "f:1: invalid leading UTF-8 octet at byte 3 (allowed: UTF-8 text)"},
        {"a: \x01\n", "f:1: control characters are not allowed at byte 3 (allowed: UTF-8 text)"},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        expect_error(bad[i].text, strlen(bad[i].text), SL_E_INPUT, bad[i].msg);
}

static void depth_nodes_keys_and_bytes_have_limits(void **state)
{
    UNUSED(state);
    struct sl_yaml_doc d;
    char text[64] = "a: ";
    memset(text + 3, '[', 15);
    memset(text + 18, ']', 15);
    parse(text, &d);
    sl_yaml_deinit(&d);
    memset(text + 3, '[', 16);
    memset(text + 19, ']', 16);
    expect_error(text, strlen(text), SL_E_LIMIT, "f:1: nested more than 16 deep");

    char *big = calloc(1, SL_YAML_BYTES + 1);
    strcpy(big, "a: [");
    for (size_t i = 0; i < SL_YAML_NODES - 2; i++)
        strcat(big + 4 + 2 * i, "1,");
    strcpy(big + 4 + 2 * (SL_YAML_NODES - 2), "]\n");
    parse(big, &d);
    assert_int_equal(d.n_nodes, SL_YAML_NODES);
    sl_yaml_deinit(&d);
    strcpy(big + 4 + 2 * (SL_YAML_NODES - 2), "1]\n");
    expect_error(big, strlen(big), SL_E_LIMIT, "f:1: too large: more than 20000 values");

    size_t n = 0;
    for (int i = 0; i < SL_YAML_KEYS; i++)
        n += (size_t)sprintf(big + n, "k%d: 1\n", i);
    parse(big, &d);
    sl_yaml_deinit(&d);
    strcpy(big + n, "more: 1\n");
    expect_error(big, strlen(big), SL_E_LIMIT, "f:257: a map of more than 256 keys");

    memset(big, '\n', SL_YAML_BYTES + 1);
    assert_int_equal(sl_yaml_parse(big, SL_YAML_BYTES, "f", &d, NULL), SL_OK);
    sl_yaml_deinit(&d);
    expect_error(big, SL_YAML_BYTES + 1, SL_E_LIMIT, "f: 1048577 bytes (at most 1048576)");
    free(big);
}

static void every_truncation_of_a_document_is_read_or_refused(void **state)
{
    UNUSED(state);
    static const char text[] = "a: {b: [1, \"two\", {c: 3}], d: 'x'}\ne:\n  - f: \"\xc3\xa9\"\n";
    for (size_t n = 0; n < sizeof(text); n++) {
        struct sl_yaml_doc d = {0};
        struct sl_err err = {0};
        if (sl_yaml_parse(text, n, "f", &d, &err) != SL_OK) {
            assert_null(d.root);
            assert_null(strchr(err.msg, '\n'));
        }
        sl_yaml_deinit(&d);
    }
}

static void set_replaces_adds_and_makes_maps(void **state)
{
    UNUSED(state);
    struct sl_yaml_doc d;
    struct sl_err err;
    parse("a: {b: 1, c: 2}\nd: 5\n", &d);
    assert_int_equal(sl_yaml_set(&d, "a.b=[3, 4]", &err), SL_OK);
    assert_int_equal(sl_yaml_set(&d, "d.e.f=x=y", &err), SL_OK);
    assert_int_equal(sl_yaml_set(&d, "g=", &err), SL_OK);
    const struct sl_yaml_node *a = sl_yaml_get(d.root, "a"), *b = sl_yaml_get(a, "b");
    assert_int_equal(a->n_children, 2);
    assert_int_equal(b->kind, SL_YAML_LIST);
    assert_true(b->is_set);
    assert_int_equal(b->line, 0);
    assert_false(sl_yaml_get(a, "c")->is_set);
    const struct sl_yaml_node *f = sl_yaml_get(sl_yaml_get(sl_yaml_get(d.root, "d"), "e"), "f");
    assert_string_equal(f->text, "x=y");
    assert_string_equal(sl_yaml_get(d.root, "g")->text, "");
    assert_true(sl_yaml_get(d.root, "g")->quoted);
    sl_yaml_deinit(&d);
}

static void bad_set_options_name_themselves(void **state)
{
    UNUSED(state);
    static const struct {
        const char *text, *msg;
    } bad[] = {
        {"a.b", "--set a.b: must be KEY.PATH=VALUE"},
        {"=1", "--set =1: must be KEY.PATH=VALUE"},
        {"a.b={c: 1, c: 2}", "--set a.b: c: given twice"},
        {"a=[1", "--set a: not YAML: did not find expected ',' or ']'"},
        {"a=*x", "--set a: aliases (*) are not allowed"},
        {"a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q=1", "--set a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q: "
                                                "nested more than 16 deep"},
    };
    struct sl_yaml_doc d;
    parse("a: 1\n", &d);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct sl_err err = {0};
        assert_int_not_equal(sl_yaml_set(&d, bad[i].text, &err), SL_OK);
        assert_string_equal(err.msg, bad[i].msg);
    }
    sl_yaml_deinit(&d);
}

static void a_child_can_be_taken_out(void **state)
{
    UNUSED(state);
    struct sl_yaml_doc d;
    parse("a: 1\nb: {x: 1}\nc: 3\n", &d);
    sl_yaml_remove(d.root, sl_yaml_get(d.root, "b"));
    sl_yaml_remove(d.root, sl_yaml_get(d.root, "none"));
    assert_int_equal(d.root->n_children, 2);
    assert_null(sl_yaml_get(d.root, "b"));
    assert_string_equal(sl_yaml_get(d.root, "c")->text, "3");
    sl_yaml_deinit(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(maps_lists_and_scalars_keep_order_and_lines),
        cmocka_unit_test(an_empty_document_is_an_empty_map),
        cmocka_unit_test(what_the_subset_lacks_is_refused_with_its_line),
        cmocka_unit_test(depth_nodes_keys_and_bytes_have_limits),
        cmocka_unit_test(every_truncation_of_a_document_is_read_or_refused),
        cmocka_unit_test(set_replaces_adds_and_makes_maps),
        cmocka_unit_test(bad_set_options_name_themselves),
        cmocka_unit_test(a_child_can_be_taken_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
