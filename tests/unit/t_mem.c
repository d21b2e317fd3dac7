/* SPDX-License-Identifier: Apache-2.0 */
#include "common/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void sizes_that_do_not_fit_are_refused_and_leave_the_result(void **state)
{
    size_t r = 42;
    assert_false(sl_size_mul(SIZE_MAX / 2, 3, &r));
    assert_false(sl_size_add(SIZE_MAX, 1, &r));
    assert_int_equal(r, 42);
    assert_true(sl_size_mul(SIZE_MAX / 2, 2, &r));
    assert_int_equal(r, SIZE_MAX - 1);
    assert_true(sl_size_add(r, 1, &r));
    assert_int_equal(r, SIZE_MAX);
    assert_true(sl_size_mul(SIZE_MAX, 0, &r));
    assert_int_equal(r, 0);
}

static void calloc_gives_zeroes_or_nothing(void **state)
{
    uint8_t *p = sl_calloc(100, 7);
    assert_non_null(p);
    for (int i = 0; i < 700; i++)
        assert_int_equal(p[i], 0);
    free(p);
    p = sl_calloc(0, 8); /* no elements is no failure */
    assert_non_null(p);
    free(p);
    /* through volatile, so that the compiler does not see the overflow */
    volatile size_t huge = SIZE_MAX / 2;
    assert_null(sl_calloc(huge, 3));
}

static void allocations_of_an_arena_are_aligned_zero_and_apart(void **state)
{
    struct sl_arena a;
    assert_true(sl_arena_init(&a, 10000));
    assert_true(a.capacity >= 10000 && a.capacity % 4096 == 0);
    uint8_t *p[20];
    for (int i = 0; i < 20; i++) {
        size_t n = (size_t)i * 13;
        p[i] = sl_arena_alloc(&a, n);
        assert_non_null(p[i]);
        assert_int_equal((uintptr_t)p[i] % SL_ALIGN, 0);
        for (size_t b = 0; b < n; b++)
            assert_int_equal(p[i][b], 0);
        memset(p[i], i, n);
    }
    for (int i = 0; i < 20; i++)
        for (size_t b = 0; b < (size_t)i * 13; b++)
            assert_int_equal(p[i][b], i);
    sl_arena_deinit(&a);
}

static void a_full_arena_gives_nothing_and_stays_usable(void **state)
{
    struct sl_arena a;
    assert_true(sl_arena_init(&a, 4096));
    assert_null(sl_arena_alloc(&a, a.capacity + 1));
    assert_null(sl_arena_alloc(&a, SIZE_MAX));
    assert_non_null(sl_arena_alloc(&a, a.capacity - SL_ALIGN));
    assert_null(sl_arena_alloc(&a, SL_ALIGN + 1));
    assert_non_null(sl_arena_alloc(&a, SL_ALIGN));
    assert_null(sl_arena_alloc(&a, 0)); /* even nothing has an address of its own */
    assert_int_equal(a.used, a.capacity);
    sl_arena_deinit(&a);
}

static void a_reset_gives_memory_back_down_to_the_mark(void **state)
{
    struct sl_arena a;
    assert_true(sl_arena_init(&a, 4096));
    sl_arena_alloc(&a, 100);
    size_t mark = a.used;
    void *second = sl_arena_alloc(&a, 200);
    sl_arena_alloc(&a, 300);
    sl_arena_reset(&a, mark);
    assert_ptr_equal(sl_arena_alloc(&a, 10), second);
    sl_arena_reset(&a, a.used + 1000); /* a mark ahead changes nothing */
    assert_int_equal(a.used, mark + SL_ALIGN);
    sl_arena_reset(&a, 0);
    assert_ptr_equal(sl_arena_alloc(&a, 1), a.base);
    sl_arena_deinit(&a);
}

static void the_cost_of_an_allocation_is_what_it_takes(void **state)
{
    const size_t sizes[] = {0, 1, 63, 64, 65, 1000};
    struct sl_arena a;
    assert_true(sl_arena_init(&a, 8192));
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        size_t before = a.used;
        assert_non_null(sl_arena_alloc(&a, sizes[i]));
        assert_int_equal(a.used - before, sl_arena_cost(sizes[i]));
    }
    sl_arena_deinit(&a);
}

static void a_large_arena_starts_on_a_huge_page(void **state)
{
    struct sl_arena a;
    assert_true(sl_arena_init(&a, ((size_t)2 << 20) + 1));
    assert_int_equal((uintptr_t)a.base % (2 << 20), 0);
    assert_int_equal(a.capacity, 4 << 20);
    a.base[0] = a.base[a.capacity - 1] = 1;
    sl_arena_deinit(&a);
}

static void impossible_and_empty_arenas_are_safe_to_close(void **state)
{
    struct sl_arena a = {0};
    sl_arena_deinit(&a);
    sl_arena_deinit(NULL);
    assert_null(sl_arena_alloc(&a, 1));
    assert_false(sl_arena_init(&a, SIZE_MAX));
    assert_false(sl_arena_init(&a, SIZE_MAX / 2));
    sl_arena_deinit(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_that_do_not_fit_are_refused_and_leave_the_result),
        cmocka_unit_test(calloc_gives_zeroes_or_nothing),
        cmocka_unit_test(allocations_of_an_arena_are_aligned_zero_and_apart),
        cmocka_unit_test(a_full_arena_gives_nothing_and_stays_usable),
        cmocka_unit_test(a_reset_gives_memory_back_down_to_the_mark),
        cmocka_unit_test(the_cost_of_an_allocation_is_what_it_takes),
        cmocka_unit_test(a_large_arena_starts_on_a_huge_page),
        cmocka_unit_test(impossible_and_empty_arenas_are_safe_to_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
