/* SPDX-License-Identifier: Apache-2.0 */
#include "common/log.h"

#include <setjmp.h>
#include <stddef.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void control_characters_cannot_forge_a_line(void **state)
{
    int fd[2];
    char got[256] = {0};
    assert_int_equal(pipe(fd), 0);
    setenv("JOURNAL_STREAM", "8:1", 1);
    FILE *out = fdopen(fd[1], "w");
    assert_non_null(out);
    struct sl_log *log = sl_log_new(out, SL_LOG_WARN);
    assert_non_null(log);
    sl_log_write(log, SL_LOG_INFO, "not written");
    sl_log_write(NULL, SL_LOG_ERROR, "nor this");
    sl_log_write(log, SL_LOG_WARN, "name %s", "a\n<3>b");
    sl_log_free(log);
    fclose(out);
    assert_true(read(fd[0], got, sizeof(got) - 1) > 0);
    assert_string_equal(got, "<4>name a\\x0a<3>b\n");
    close(fd[0]);
}

static void a_plain_line_has_time_and_level_and_levels_change(void **state)
{
    int fd[2];
    char got[256] = {0};
    assert_int_equal(pipe(fd), 0);
    unsetenv("JOURNAL_STREAM");
    FILE *out = fdopen(fd[1], "w");
    assert_non_null(out);
    struct sl_log *log = sl_log_new(out, SL_LOG_ERROR);
    assert_non_null(log);
    sl_log_set_level(log, SL_LOG_DEBUG);
    sl_log_write(log, SL_LOG_DEBUG, "x %d", 7);
    sl_log_free(log);
    fclose(out);
    assert_true(read(fd[0], got, sizeof(got) - 1) > 0);
    assert_int_equal(got[10], 'T');
    assert_string_equal(got + 23, "Z debug: x 7\n");
    close(fd[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(control_characters_cannot_forge_a_line),
        cmocka_unit_test(a_plain_line_has_time_and_level_and_levels_change),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
