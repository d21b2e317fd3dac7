/* SPDX-License-Identifier: Apache-2.0 */
#include "common/tensor.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void add(struct sl_layout *l, const char *name, unsigned n_dims, const uint32_t *dim)
{
    struct sl_err err;
    assert_int_equal(sl_layout_add(l, name, SL_TENSOR_PARAM, n_dims, dim, &err), SL_OK);
}

static const uint32_t dims[] = {10, 4, 3, 2};

static void tensors_follow_one_another_in_the_flat_vector(void **state)
{
    struct sl_layout l = {0};
    add(&l, "fc1.weight", 2, dims);
    add(&l, "scale", 0, NULL);
    add(&l, "conv.weight", 4, dims);
    assert_int_equal(l.n_tensors, 3);
    assert_int_equal(l.n_values, 40 + 1 + 240);
    const struct sl_tensor *t = sl_layout_find(&l, "conv.weight");
    assert_int_equal(t->offset, 41);
    assert_int_equal(t->size, 240);
    assert_int_equal(t->n_dims, 4);
    assert_memory_equal(t->dim, dims, sizeof(dims));
    assert_null(sl_layout_find(&l, "conv"));
    sl_layout_deinit(&l);
    sl_layout_deinit(&l);
    sl_layout_deinit(NULL);
}

static void bad_tensors_are_refused_and_leave_the_layout(void **state)
{
    static const char long_name[] = "0123456789012345678901234567890123456789012345678901234567"
                                    "890123";
    static const uint32_t zero[] = {4, 0}, large[] = {65536, 65536};
    static const uint32_t wrapping[] = {UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX};
    static const struct {
        const char *name;
        unsigned n_dims;
        const uint32_t *dim;
        enum sl_code code;
        const char *message;
    } bad[] = {
        {"", 1, dims, SL_E_INPUT, "tensor name of 0 bytes (1 to 63 allowed)"},
        {long_name, 1, dims, SL_E_INPUT, "tensor name of 64 bytes (1 to 63 allowed)"},
        {"a b", 1, dims, SL_E_INPUT, "tensor name with byte 0x20 (printable ASCII allowed)"},
        {"a\xc3\xa4", 1, dims, SL_E_INPUT,
         "tensor name with byte 0xc3 (printable ASCII allowed)"},
        {"a", 1, dims, SL_E_INPUT, "tensor name \"a\" twice"},
        {"b", 5, dims, SL_E_LIMIT, "tensor of 5 dimensions (at most 4)"},
        {"b", 2, zero, SL_E_INPUT, "tensor \"b\": dimension 1 is 0"},
        {"b", 2, large, SL_E_LIMIT, "tensor \"b\": more than 268435456 values"},
        {"b", 4, wrapping, SL_E_LIMIT, "tensor \"b\": more than 268435456 values"},
    };
    struct sl_layout l = {0};
    add(&l, "a", 1, dims);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct sl_err err = {0};
        assert_int_equal(sl_layout_add(&l, bad[i].name, SL_TENSOR_PARAM, bad[i].n_dims,
                                       bad[i].dim, &err),
                         bad[i].code);
        assert_string_equal(err.msg, bad[i].message);
        assert_int_equal(l.n_tensors, 1);
        assert_int_equal(l.n_values, 10);
    }
    sl_layout_deinit(&l);
}

static void a_layout_has_its_limits(void **state)
{
    static const uint32_t half[] = {1u << 27};
    static const uint32_t one[] = {1};
    struct sl_layout l = {0};
    struct sl_err err;
    add(&l, "a", 1, half);
    add(&l, "b", 1, half);
    assert_int_equal(l.n_values, SL_VALUES_MAX);
    assert_int_equal(sl_layout_add(&l, "c", SL_TENSOR_PARAM, 1, one, &err), SL_E_LIMIT);
    assert_string_equal(err.msg, "tensor \"c\": model beyond 268435456 values");
    sl_layout_deinit(&l);
    for (int i = 0; i < SL_TENSORS_MAX; i++) {
        char name[16];
        snprintf(name, sizeof(name), "t%d", i);
        add(&l, name, 1, one);
    }
    assert_int_equal(sl_layout_add(&l, "more", SL_TENSOR_PARAM, 1, one, &err), SL_E_LIMIT);
    assert_string_equal(err.msg, "more than 1024 tensors");
    sl_layout_deinit(&l);
}

static void a_name_of_63_bytes_fits(void **state)
{
    char name[64];
    memset(name, 'x', 63);
    name[63] = '\0';
    struct sl_layout l = {0};
    add(&l, name, 1, dims);
    assert_non_null(sl_layout_find(&l, name));
    sl_layout_deinit(&l);
}

static void a_copy_matches_and_differences_are_named(void **state)
{
    struct sl_layout a = {0}, b, c = {0}, d = {0};
    struct sl_err err;
    add(&a, "w", 2, dims);
    add(&a, "b", 1, dims);
    assert_int_equal(sl_layout_copy(&a, &b, &err), SL_OK);
    assert_int_equal(sl_layout_match(&a, &b, &err), SL_OK);
    b.tensors[1].role = SL_TENSOR_BUFFER;
    assert_int_equal(sl_layout_match(&a, &b, &err), SL_E_INPUT);
    assert_string_equal(err.msg, "tensor \"b\" has another shape or role");
    assert_int_equal(a.tensors[1].role, SL_TENSOR_PARAM);

    add(&c, "w", 2, dims);
    assert_int_equal(sl_layout_match(&a, &c, &err), SL_E_INPUT);
    assert_string_equal(err.msg, "1 tensors, expected 2");
    add(&c, "bias", 1, dims);
    assert_int_equal(sl_layout_match(&a, &c, &err), SL_E_INPUT);
    assert_string_equal(err.msg, "tensor 1 is \"bias\", expected \"b\"");

    add(&d, "w", 2, dims + 1);
    add(&d, "b", 1, dims);
    assert_int_equal(sl_layout_match(&a, &d, &err), SL_E_INPUT);
    assert_string_equal(err.msg, "tensor \"w\" has another shape or role");
    sl_layout_deinit(&a);
    sl_layout_deinit(&b);
    sl_layout_deinit(&c);
    sl_layout_deinit(&d);
}

static void an_empty_layout_can_be_copied(void **state)
{
    const struct sl_layout empty = {0};
    struct sl_layout copy;
    struct sl_err err;
    assert_int_equal(sl_layout_copy(&empty, &copy, &err), SL_OK);
    assert_int_equal(copy.n_tensors, 0);
    sl_layout_deinit(&copy);
}

/* BLAKE2b-256 over the little-endian floats 4 5 (a.b), 6 (a_b), 1 2 3 (b): bytewise, '.' stands
 * before '_'. Made with Python's hashlib.blake2b(struct.pack("<6f", 4, 5, 6, 1, 2, 3),
 * digest_size=32). */
static void a_digest_takes_tensors_by_name_whatever_their_order(void **state)
{
    static const char want[] = "0afcb1c72046e98879c37b93337b2893604b372836e6239363fa32339d73f4d7";
    static const uint32_t n[] = {1, 2, 3};
    static const float first[] = {1, 2, 3, 4, 5, 6}, second[] = {6, 4, 5, 1, 2, 3};
    struct sl_layout l = {0}, m = {0};
    uint8_t digest[SL_DIGEST_BYTES];
    char hex[SL_DIGEST_HEX];
    add(&l, "b", 1, n + 2);
    add(&l, "a.b", 1, n + 1);
    add(&l, "a_b", 1, n);
    sl_model_digest(&l, first, digest);
    sl_hex(digest, sizeof(digest), hex);
    assert_string_equal(hex, want);
    add(&m, "a_b", 1, n);
    add(&m, "a.b", 1, n + 1);
    add(&m, "b", 1, n + 2);
    sl_model_digest(&m, second, digest);
    sl_hex(digest, sizeof(digest), hex);
    assert_string_equal(hex, want);
    sl_layout_deinit(&l);
    sl_layout_deinit(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensors_follow_one_another_in_the_flat_vector),
        cmocka_unit_test(bad_tensors_are_refused_and_leave_the_layout),
        cmocka_unit_test(a_layout_has_its_limits),
        cmocka_unit_test(a_name_of_63_bytes_fits),
        cmocka_unit_test(a_copy_matches_and_differences_are_named),
        cmocka_unit_test(an_empty_layout_can_be_copied),
        cmocka_unit_test(a_digest_takes_tensors_by_name_whatever_their_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
