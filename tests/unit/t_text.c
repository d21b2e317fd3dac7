/* SPDX-License-Identifier: Apache-2.0 */
#include "common/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void a_character_is_the_shortest_form_of_a_code_point(void **state)
{
    static const struct {
        const char *text;
        size_t n;
    } cases[] = {
        {"a", 1},
        {"", 1},
        {"\xc2\x80", 2},
        {"\xdf\xbf", 2},
        {"\xe0\xa0\x80", 3},
        {"\xed\x9f\xbf", 3},
        {"\xee\x80\x80", 3},
        {"\xf0\x90\x80\x80", 4},
        {"\xf4\x8f\xbf\xbf", 4},
        {"\x80", 0},             /* the middle of one */
        {"\xc2", 0},             /* cut */
        {"\xe2\x82", 0},         /* cut */
        {"\xf0\x9f\x98", 0},     /* cut */
        {"\xc3(", 0},
        {"\xc0\xaf", 0},         /* '/' in two bytes */
        {"\xc1\xbf", 0},
        {"\xe0\x9f\xbf", 0},     /* too long */
        {"\xf0\x8f\xbf\xbf", 0}, /* too long */
        {"\xed\xa0\x80", 0},     /* surrogates */
        {"\xed\xbf\xbf", 0},
        {"\xf4\x90\x80\x80", 0}, /* beyond 0x10ffff */
        {"\xf5\x80\x80\x80", 0},
        {"\xff", 0},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
        assert_int_equal(sl_text_character(cases[i].text), cases[i].n);
}

static void a_text_is_cut_between_characters(void **state)
{
    const char *text = "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80z"; /* 1, 2, 3, 4 and 1 bytes */
    static const size_t kept[] = {0, 0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 11, 11};
    for (size_t cap = 1; cap < sizeof(kept) / sizeof(*kept); cap++) {
        char out[16];
        memset(out, '#', sizeof(out));
        sl_text_copy(out, cap, text);
        assert_int_equal(strlen(out), kept[cap]);
        assert_memory_equal(out, text, kept[cap]);
        assert_int_equal(out[cap], '#');
    }
}

static void what_is_no_character_becomes_a_question_mark(void **state)
{
    char out[32];
    sl_text_copy(out, sizeof(out), "a\xff\xc3\xa9\x80\xe2\x82");
    assert_string_equal(out, "a?\xc3\xa9???");
    sl_text_copy(out, sizeof(out), out);
    assert_string_equal(out, "a?\xc3\xa9???");
    sl_text_copy(out, 3, "\xff\xff\xff");
    assert_string_equal(out, "??");
    sl_text_copy(out, sizeof(out), "");
    assert_string_equal(out, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_character_is_the_shortest_form_of_a_code_point),
        cmocka_unit_test(a_text_is_cut_between_characters),
        cmocka_unit_test(what_is_no_character_becomes_a_question_mark),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
