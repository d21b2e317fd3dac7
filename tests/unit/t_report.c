/* SPDX-License-Identifier: Apache-2.0 */
#include "common/report.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char path[] = "/tmp/t_report.XXXXXX";

static void doubles_come_back_bit_for_bit_and_nan_as_null(void **state)
{
    struct sl_report *r = NULL;
    assert_int_equal(sl_report_open(path, &r, NULL), SL_OK);
    json_t *o = json_pack("{s:s, s:o, s:o}", "event", "round", "x", sl_report_real(0.1 + 0.2),
                          "y", sl_report_real(NAN));
    assert_int_equal(sl_report_write(r, o, NULL), SL_OK);
    json_decref(o);
    sl_report_close(r);
    json_t *all = NULL;
    assert_int_equal(sl_report_read(path, &all, NULL), SL_OK);
    assert_int_equal(json_array_size(all), 1);
    json_t *got = json_array_get(all, 0);
    assert_true(json_real_value(json_object_get(got, "x")) == 0.1 + 0.2);
    assert_true(json_is_null(json_object_get(got, "y")));
    json_decref(all);
}

static enum sl_code read_text(const char *text, json_t **ret, struct sl_err *err)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    return sl_report_read(path, ret, err);
}

static void an_incomplete_last_line_is_dropped_and_a_bad_one_refused(void **state)
{
    json_t *all = NULL;
    struct sl_err err;
    assert_int_equal(read_text("{\"a\":1}\n{\"a\":2}\n{\"a\"", &all, &err), SL_OK);
    assert_int_equal(json_array_size(all), 2);
    json_decref(all);
    all = NULL;
    assert_int_equal(read_text("{\"a\":1}\n7\n{\"a\":2}\n", &all, &err), SL_E_INPUT);
    assert_null(all);
}

static void a_full_disk_is_reported(void **state)
{
    struct sl_report *r = NULL;
    struct sl_err err;
    if (access("/dev/full", W_OK) != 0)
        skip();
    assert_int_equal(sl_report_open("/dev/full", &r, &err), SL_OK);
    json_t *o = json_object();
    assert_int_equal(sl_report_write(r, o, &err), SL_E_NOSPACE);
    json_decref(o);
    sl_report_close(r);
}

int main(void)
{
    close(mkstemp(path));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(doubles_come_back_bit_for_bit_and_nan_as_null),
        cmocka_unit_test(an_incomplete_last_line_is_dropped_and_a_bad_one_refused),
        cmocka_unit_test(a_full_disk_is_reported),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    return failed;
}
