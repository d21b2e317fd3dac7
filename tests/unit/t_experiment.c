/* SPDX-License-Identifier: Apache-2.0 */
/* What experiments are reported with: samples over seeds, pages, the log of results. */
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/file.h"
#include "sim/experiment/experiment.h"
#include "sim/experiment/log.h"
#include "sim/experiment/results.h"

/* --- samples ---------------------------------------------------------------------- */

static json_t *results_of(const char *text)
{
    json_error_t e;
    json_t *r = json_loads(text, 0, &e);
    if (r == NULL)
        fail_msg("%s", e.text);
    return r;
}

static const char three_seeds[] =
    "[{\"cell\": {\"part\": \"p\", \"setting\": \"a\", \"seed\": 1},"
    "  \"result\": {\"x\": 1, \"deep\": {\"list\": [{\"y\": 5}, {\"y\": 7}]}, \"c\": [1, "
    "2]}},"
    " {\"cell\": {\"part\": \"p\", \"setting\": \"a\", \"seed\": 2},"
    "  \"result\": {\"x\": 2, \"c\": [3, 4, 9]}},"
    " {\"cell\": {\"part\": \"p\", \"setting\": \"a\", \"seed\": 3},"
    "  \"result\": {\"x\": 6, \"c\": [5, null]}},"
    " {\"cell\": {\"part\": \"p\", \"setting\": \"b\", \"seed\": 2},"
    "  \"result\": {\"x\": 10}},"
    " {\"cell\": {\"part\": \"p\", \"setting\": \"b\", \"seed\": 3},"
    "  \"result\": {\"x\": 12}},"
    " {\"cell\": {\"part\": \"q\", \"setting\": \"a\", \"seed\": 1},"
    "  \"result\": {\"x\": 100}}]";

static void samples_are_mean_and_spread_over_seeds(void **state)
{
    json_t *r = results_of(three_seeds);
    struct sl_sample s = sl_results_sample(r, "p", "a", "x");
    assert_int_equal(s.n, 3);
    assert_true(s.mean == 3 && s.lo == 1 && s.hi == 6);
    assert_true(fabs(s.sd - sqrt(7)) < 1e-12); /* (4 + 1 + 9) / 2 */
    s = sl_results_sample(r, "p", "a", "deep.list.1.y");
    assert_int_equal(s.n, 1);
    assert_true(s.mean == 7 && s.sd == 0);
    assert_int_equal(sl_results_sample(r, "p", "a", "deep.list.2.y").n, 0);
    assert_int_equal(sl_results_sample(r, "p", "a", "deep").n, 0);
    assert_int_equal(sl_results_sample(r, "p", "c", "x").n, 0);
    assert_int_equal(sl_results_count(r, "p"), 5);
    assert_int_equal(sl_results_count(r, "z"), 0);
    json_decref(r);
}

static void differences_pair_what_shares_a_seed(void **state)
{
    json_t *r = results_of(three_seeds);
    struct sl_sample s = sl_results_paired(r, "p", "a", "b", "x");
    assert_int_equal(s.n, 2);
    assert_true(s.mean == -7 && s.lo == -8 && s.hi == -6);
    assert_int_equal(sl_results_paired(r, "p", "a", "none", "x").n, 0);
    json_decref(r);
}

static void curves_are_means_up_to_the_shortest(void **state)
{
    json_t *r = results_of(three_seeds);
    double y[3];
    assert_int_equal(sl_results_curve(r, "p", "a", "c", y, 3), 2);
    assert_true(y[0] == 3 && isnan(y[1]));
    assert_int_equal(sl_results_curve(r, "p", "a", "c", y, 1), 1);
    assert_int_equal(sl_results_curve(r, "p", "b", "c", y, 3), 0);
    json_decref(r);
}

static void samples_are_written_with_their_spread(void **state)
{
    char text[SL_SAMPLE_TEXT];
    struct sl_sample s = {.n = 3, .mean = 0.8617, .sd = 0.0021},
                     one = {.n = 1, .mean = 2};
    assert_string_equal(sl_sample_text(&s, 100, 2, text), "86.17 +- 0.21");
    assert_string_equal(sl_difference_text(&s, 100, 1, text), "+86.2 +- 0.2");
    assert_string_equal(sl_sample_text(&one, 1, 0, text), "2");
    assert_string_equal(sl_sample_text(&(struct sl_sample){0}, 1, 0, text), "-");
}

/* --- pages and logs --------------------------------------------------------------- */

static char folder[64];

static int make_folder(void **state)
{
    strcpy(folder, "/tmp/t_experiment.XXXXXX");
    return mkdtemp(folder) == NULL ? -1 : 0;
}

static const char *in_folder(const char *name)
{
    static char path[128];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    return path;
}

static int drop_folder(void **state)
{
    static const char *const names[] = {"report.html", "p.svg", "results.jsonl", "lock"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        remove(in_folder(names[i]));
    return rmdir(folder);
}

static char *read_file(const char *name)
{
    uint8_t *bytes;
    size_t n;
    struct sl_err err;
    if (sl_file_read(in_folder(name), 1 << 20, &bytes, &n, &err) != SL_OK)
        fail_msg("%s", err.msg);
    return (char *)bytes;
}

static void a_page_is_the_same_as_text_and_as_html(void **state)
{
    static const char *const columns[] = {"name", "n", NULL};
    const double x[] = {1, 2};
    const struct sl_plot_series series = {"s", x, x, 2};
    char *text;
    size_t n;
    struct sl_page *p;
    struct sl_err err;
    FILE *to = open_memstream(&text, &n);
    assert_int_equal(sl_page_new(to, folder, "a < b", &p, &err), SL_OK);
    sl_page_paragraph(p, "%d & more", 5);
    sl_page_table_begin(p, columns);
    sl_page_cell(p, "<one>");
    sl_page_cell(p, "%d", 1);
    sl_page_cell(p, "unfinished");
    sl_page_table_end(p);
    sl_page_plot(p, "p", &(struct sl_plot_lines){"curve", "x", "y", &series, 1});
    assert_int_equal(sl_page_finish(p, &err), SL_OK);
    sl_page_free(p);
    fclose(to);
    assert_non_null(strstr(text, "a < b\n\n5 & more\n\nname        n\n-------------\n"
                                 "<one>       1\nunfinished   \n"));
    char *html = read_file("report.html"), *svg = read_file("p.svg");
    assert_non_null(strstr(html, "<title>a &lt; b</title>"));
    assert_non_null(strstr(html, "<p>5 &amp; more</p>"));
    assert_non_null(strstr(html, "<td>&lt;one&gt;</td><td>1</td>"));
    assert_non_null(strstr(html, svg));
    assert_null(strstr(html, "src="));
    assert_null(strstr(html, "<script"));
    free(html);
    free(svg);
    free(text);
}

static void a_page_that_has_no_folder_says_so(void **state)
{
    char *text;
    size_t n;
    struct sl_page *p;
    struct sl_err err;
    FILE *to = open_memstream(&text, &n);
    assert_int_equal(sl_page_new(to, in_folder("none"), "t", &p, &err), SL_OK);
    assert_int_equal(sl_page_finish(p, &err), SL_E_NOTFOUND);
    sl_page_free(p);
    fclose(to);
    free(text);
}

static void a_log_takes_a_cut_line_off_and_keeps_the_rest(void **state)
{
    struct sl_results_log log;
    struct sl_err err;
    json_t *cell = json_pack("{s:s, s:i}", "part", "p", "seed", 1);
    json_t *same = json_pack("{s:i, s:s}", "seed", 1, "part", "p");
    json_t *other = json_pack("{s:s, s:i}", "part", "p", "seed", 2);
    json_t *result = json_pack("{s:f}", "x", 0.5);
    assert_int_equal(sl_results_log_open(&log, folder, &err), SL_OK);
    assert_null(sl_results_log_find(&log, cell));
    assert_int_equal(sl_results_log_append(&log, cell, result, 1, &err), SL_OK);
    sl_results_log_close(&log);
    char *whole = read_file("results.jsonl");
    int fd = open(in_folder("results.jsonl"), O_WRONLY | O_APPEND);
    assert_int_equal(write(fd, whole, 20), 20);
    close(fd);
    assert_int_equal(sl_results_log_open(&log, folder, &err), SL_OK);
    char *after = read_file("results.jsonl");
    assert_string_equal(whole, after);
    assert_non_null(sl_results_log_find(&log, same)); /* the order of keys is nothing */
    assert_null(sl_results_log_find(&log, other));
    assert_true(
        sl_result_number(json_object_get(sl_results_log_find(&log, cell), "result"),
                         "x") == 0.5);
    sl_results_log_close(&log);
    free(whole);
    free(after);
    json_decref(cell);
    json_decref(same);
    json_decref(other);
    json_decref(result);
}

static void every_experiment_lists_cells_of_its_own(void **state)
{
    const uint64_t seeds[] = {1, 2};
    const struct sl_experiment *e;
    char policy[1024];
    snprintf(policy, sizeof(policy), "%s/../../plans/policies/fedmarl.safetensors",
             getenv("SL_GOLDEN"));
    for (size_t i = 0; (e = sl_experiment_at(i)) != NULL; i++)
        for (int quick = 0; quick < 2; quick++) {
            json_t *cells = json_array(), *names = json_object(), *cell;
            struct sl_err err;
            size_t k;
            const struct sl_experiment_options o = {seeds, 2, quick, policy};
            assert_ptr_equal(sl_experiment_find(e->name), e);
            assert_int_equal(e->list(&o, cells, &err), SL_OK);
            assert_true(json_array_size(cells) >= 2);
            json_array_foreach(cells, k, cell)
            {
                char name[SL_CELL_NAME];
                sl_cell_name(cell, name);
                assert_null(json_object_get(names, name));
                json_object_set(names, name, cell);
            }
            json_decref(cells);
            json_decref(names);
        }
    assert_null(sl_experiment_find("none"));
}

int main(void)
{
#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, make_folder, drop_folder)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(samples_are_mean_and_spread_over_seeds),
        cmocka_unit_test(differences_pair_what_shares_a_seed),
        cmocka_unit_test(curves_are_means_up_to_the_shortest),
        cmocka_unit_test(samples_are_written_with_their_spread),
        IN_FOLDER(a_page_is_the_same_as_text_and_as_html),
        IN_FOLDER(a_page_that_has_no_folder_says_so),
        IN_FOLDER(a_log_takes_a_cut_line_off_and_keeps_the_rest),
        cmocka_unit_test(every_experiment_lists_cells_of_its_own),
    };
    return cmocka_run_group_tests_name("experiment", tests, NULL, NULL);
}
