/* SPDX-License-Identifier: Apache-2.0 */
#include "common/plot.h"
#include "common/plot_svg.h"
#include "common/plot_term.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define N 60

/* --- axes and tables -------------------------------------------------------------- */

static bool is_round(double step)
{
    double times = step / pow(10, floor(log10(step) + 1e-9));
    return fabs(times - 1) < 1e-6 || fabs(times - 2) < 1e-6 || fabs(times - 5) < 1e-6;
}

static void ticks_are_round_numbers_inside_the_axis(void **state)
{
    static const double ends[][2] = {
        {0, 1},          {0.13, 0.91},      {0, 49},
        {-3, 1e6},       {1e-9, 2e-9},      {5, 5},
        {0, 0},          {-7, -7},          {1e300, 1e300},
        {-1e300, 1e300}, {0, DBL_TRUE_MIN}, {1, 1 + 1e-12},
        {1e9, 1e9 + 1},  {0.1, 0.3},        {-1e-300, 1e-300},
    };
    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
        for (int ticks = 1; ticks <= 12; ticks++)
            for (int out = 0; out < 2; out++) {
                const struct sl_plot_range r = {ends[i][0], ends[i][1]};
                struct sl_plot_axis a = sl_plot_axis_fit(&r, ticks, out);
                assert_true(isfinite(a.lo) && isfinite(a.hi) && a.lo < a.hi);
                assert_true(a.lo <= r.lo + a.step * 1e-5 && a.hi >= r.hi - a.step * 1e-5);
                assert_true(is_round(a.step));
                assert_true(a.last - a.first <= ticks + 2);
                assert_true(a.last >= a.first || !out);
                for (int64_t k = a.first; k <= a.last; k++) {
                    double v = sl_plot_axis_tick(&a, k);
                    assert_true(v >= a.lo - a.step * 1e-5 && v <= a.hi + a.step * 1e-5);
                    char label[SL_PLOT_LABEL];
                    sl_plot_axis_label(&a, k, label);
                    assert_in_range(strlen(label), 1, SL_PLOT_LABEL - 1);
                }
            }
}

static void labels_have_the_digits_their_step_needs(void **state)
{
    static const struct {
        double lo, hi;
        const char *first, *last;
    } cases[] = {
        {0.0, 1.0, "0.0", "1.0"},    {0.81, 0.89, "0.80", "0.90"}, {0, 50, "0", "50"},
        {-30, 1000, "-200", "1000"}, {0, 3e9, "0", "3e+09"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct sl_plot_range r = {cases[i].lo, cases[i].hi};
        struct sl_plot_axis a = sl_plot_axis_fit(&r, 6, true);
        char label[SL_PLOT_LABEL];
        sl_plot_axis_label(&a, a.first, label);
        assert_string_equal(label, cases[i].first);
        sl_plot_axis_label(&a, a.last, label);
        assert_string_equal(label, cases[i].last);
    }
}

static void ranges_pass_over_what_is_not_finite(void **state)
{
    const double x[5] = {1, 2, NAN, 4, 5}, y[5] = {9, NAN, 7, -INFINITY, 3};
    struct sl_plot_range r = SL_PLOT_RANGE_NONE;
    sl_plot_range_add(&r, x, y, 5);
    assert_true(r.lo == 1 && r.hi == 5);
    const double huge[1] = {DBL_MAX};
    sl_plot_range_add(&r, huge, huge, 1);
    assert_true(r.hi == 1e300);
    struct sl_plot_range none = SL_PLOT_RANGE_NONE;
    sl_plot_range_add(&none, y + 1, y + 1, 1);
    assert_true(none.lo > none.hi);
}

static void folded_cells_are_means_and_the_last_may_be_smaller(void **state)
{
    const uint64_t counts[5 * 3] = {1, 2, 3, 3, 4, 5, 10, 10, 10, 20, 20, 20, 7, 8, 9};
    const struct sl_plot_heat h = {"t", "r", "c", counts, 5, 3};
    struct sl_plot_fold f = sl_plot_fold_fit(&h, 3, 2);
    assert_int_equal(f.rows, 3);
    assert_int_equal(f.cols, 2);
    assert_int_equal(f.per_row, 2);
    assert_int_equal(f.per_col, 2);
    assert_true(sl_plot_fold_mean(&h, &f, 0, 0) == 2.5);
    assert_true(sl_plot_fold_mean(&h, &f, 0, 1) == 4);
    assert_true(sl_plot_fold_mean(&h, &f, 2, 1) == 9);
    assert_true(f.most == 15);
    f = sl_plot_fold_fit(&h, 100, 100);
    assert_true(f.rows == 5 && f.cols == 3 && f.per_row == 1 && f.most == 20);
}

/* --- terminal --------------------------------------------------------------------- */

/* What `draw` prints; the caller frees it. */
struct printed {
    char *text;
    size_t n;
    FILE *to;
};

static struct printed start(const char *locale)
{
    setenv("LC_ALL", locale, 1);
    return (struct printed){0};
}

static char *curve(const char *locale, const double *x, const double *y, size_t n,
                   int width, int height)
{
    struct printed p = start(locale);
    p.to = open_memstream(&p.text, &p.n);
    sl_plot_term_curve(p.to, "title", x, y, n, width, height);
    fclose(p.to);
    return p.text;
}

static char *heat(const char *locale, const struct sl_plot_heat *h, int width, int height)
{
    struct printed p = start(locale);
    p.to = open_memstream(&p.text, &p.n);
    sl_plot_term_heat(p.to, h, width, height);
    fclose(p.to);
    return p.text;
}

static void a_curve_in_ascii_looks_like_this(void **state)
{
    double x[5] = {0, 1, 2, 3, 4}, y[5] = {0, 1, NAN, 3, 4};
    char *got = curve("C", x, y, 5, 24, 5);
    assert_string_equal(got, "title\n"
                             "4 +                  ***\n"
                             "  |             *****\n"
                             "2 +        *****\n"
                             "  |   *****\n"
                             "0 +***\n"
                             "  ++---------+---------+\n"
                             "   0         2         4\n");
    free(got);
}

static void a_curve_in_utf8_looks_like_this(void **state)
{
    double x[2] = {0, 4}, y[2] = {0, 4};
    char *got = curve("C.UTF-8", x, y, 2, 24, 3);
    assert_string_equal(got, "title\n"
                             "4 ┤              ⣀⣀⠤⠤⠒⠒⠉\n"
                             "2 ┤       ⣀⡠⠤⠔⠒⠊⠉\n"
                             "0 ┤⣀⠤⠤⠒⠒⠉⠉\n"
                             "  └┬─────────┬─────────┬\n"
                             "   0         2         4\n");
    free(got);
}

static void the_first_variable_that_is_set_decides_about_utf8(void **state)
{
    static const struct {
        const char *all, *ctype, *lang;
        bool want;
    } cases[] = {
        {NULL, NULL, NULL, false},          {NULL, NULL, "de_DE.UTF-8", true},
        {"C", "C.UTF-8", "C.UTF-8", false}, {"", "en_US.utf8", "C", true},
        {"", "", "POSIX", false},           {"en_US.ISO-8859-1", NULL, "C.UTF-8", false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *const v[3] = {cases[i].all, cases[i].ctype, cases[i].lang};
        static const char *const names[3] = {"LC_ALL", "LC_CTYPE", "LANG"};
        for (int k = 0; k < 3; k++)
            if (v[k] != NULL)
                setenv(names[k], v[k], 1);
            else
                unsetenv(names[k]);
        assert_int_equal(sl_plot_term_utf8(), cases[i].want);
    }
}

static size_t columns_of(const char *line, size_t n)
{
    size_t columns = 0;
    for (size_t i = 0; i < n; i++)
        columns += ((unsigned char)line[i] & 0xc0) != 0x80;
    return columns;
}

/* Returns the number of lines; all are at most `width` columns, none ends in a blank. */
static int check_lines(const char *text, size_t width)
{
    int lines = 0;
    for (const char *at = text; *at != '\0'; lines++) {
        const char *nl = strchr(at, '\n');
        assert_non_null(nl);
        assert_in_range(columns_of(at, (size_t)(nl - at)), 0, width);
        assert_false(nl > at && nl[-1] == ' ');
        at = nl + 1;
    }
    return lines;
}

static void curves_stay_in_their_width_and_height(void **state)
{
    double x[N], y[N];
    static const double scale[] = {1, 1e-8, 1e12, -1e300, 1e-310};
    for (size_t s = 0; s < sizeof(scale) / sizeof(scale[0]); s++)
        for (int width = -5; width < 240; width += 13)
            for (int height = 0; height < 70; height += 9)
                for (int utf8 = 0; utf8 < 2; utf8++) {
                    for (int i = 0; i < N; i++) {
                        x[i] = i * scale[(s + 1) % 5];
                        y[i] = i % 7 == 3 ? NAN : cos(i * 0.3) * scale[s];
                    }
                    char *got = curve(utf8 ? "C.UTF-8" : "C", x, y, N, width, height);
                    size_t most = width < 24 ? 24 : width > 200 ? 200 : (size_t)width;
                    int lines = check_lines(got, most);
                    assert_int_equal(lines, (height < 3    ? 3
                                             : height > 60 ? 60
                                                           : height) +
                                                3);
                    free(got);
                }
}

static void curves_without_points_say_so_and_one_point_is_a_dot(void **state)
{
    const double x[3] = {1, NAN, 3}, y[3] = {NAN, 2, INFINITY}, one = 5;
    char *got = curve("C", x, y, 3, 60, 10);
    assert_string_equal(got, "title\n(no points)\n");
    free(got);
    got = curve("C", NULL, NULL, 0, 60, 10);
    assert_string_equal(got, "title\n(no points)\n");
    free(got);
    got = curve("C", &one, &one, 1, 60, 10);
    const char *star = strchr(got, '*');
    assert_non_null(star);
    assert_null(strchr(star + 1, '*'));
    free(got);
}

static void a_heat_map_looks_like_this(void **state)
{
    const uint64_t counts[2 * 3] = {0, 1, 100, 50, 75, 26};
    const struct sl_plot_heat h = {"title", "client", "label", counts, 2, 3};
    char *got = heat("C", &h, 40, 10);
    assert_string_equal(got, "title\n"
                             "client 0   1   2    label\n"
                             "     0 ....::::@@@@\n"
                             "     1 ++++####++++\n"
                             "       . 0  : to 25  + to 50  # to 75  @ to 100\n");
    free(got);
    got = heat("C.UTF-8", &h, 40, 10);
    assert_non_null(strstr(got, "     0 ····░░░░████\n"
                                "     1 ▒▒▒▒▓▓▓▓▒▒▒▒\n"));
    free(got);
}

static void large_heat_maps_are_folded_to_the_room_there_is(void **state)
{
    static uint64_t counts[1000 * 300];
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++)
        counts[i] = i % 11;
    const size_t sizes[][2] = {{1000, 300}, {1, 1}, {1000, 1}, {1, 300}, {61, 201}};
    for (size_t i = 0; i < 5; i++)
        for (int width = 24; width <= 200; width += 11) {
            const struct sl_plot_heat h = {"title", "client",    "label",
                                           counts,  sizes[i][0], sizes[i][1]};
            char *got = heat("C", &h, width, 20);
            char *legend = strrchr(got, '.');
            while (legend[-1] != '\n') /* the legend may be wider than the map */
                legend--;
            *legend = '\0';
            int lines = check_lines(got, (size_t)width);
            assert_in_range(lines, 3, 22);
            free(got);
        }
    const struct sl_plot_heat none = {"title", "client", "label", NULL, 0, 5};
    char *got = heat("C", &none, 40, 10);
    assert_string_equal(got, "title\n(no counts)\n");
    free(got);
}

/* --- SVG -------------------------------------------------------------------------- */

static char *svg_lines(const struct sl_plot_lines *p)
{
    char *text = NULL;
    size_t n;
    FILE *to = open_memstream(&text, &n);
    assert_int_equal(sl_plot_svg_lines(to, p, NULL), SL_OK);
    fclose(to);
    return text;
}

static char *svg_heat(const struct sl_plot_heat *h)
{
    char *text = NULL;
    size_t n;
    FILE *to = open_memstream(&text, &n);
    assert_int_equal(sl_plot_svg_heat(to, h, NULL), SL_OK);
    fclose(to);
    return text;
}

static size_t count_of(const char *text, const char *what)
{
    size_t n = 0;
    for (const char *at = strstr(text, what); at != NULL; at = strstr(at + 1, what))
        n++;
    return n;
}

static void a_line_chart_places_points_on_its_axes(void **state)
{
    const double x[4] = {0, 5, 7, 10}, y[4] = {0, 1, NAN, 0.5}, far[1] = {10};
    const struct sl_plot_series s[2] = {{"fedavg", x, y, 4}, {"one", far, y + 1, 1}};
    const struct sl_plot_lines p = {"accuracy", "round", NULL, s, 2};
    char *got = svg_lines(&p);
    /* plot from (74, 384) at (0, 0) to (696, 48) at (10, 1) */
    assert_non_null(strstr(got, "points=\"74.0,384.0 385.0,48.0 696.0,216.0\""));
    assert_non_null(strstr(got, "<circle cx=\"696.0\" cy=\"48.0\""));
    assert_int_equal(count_of(got, "<polyline"), 2);
    assert_int_equal(count_of(got, ">fedavg</text>"), 1);
    assert_int_equal(count_of(got, ">round</text>"), 1);
    assert_int_equal(count_of(got, ">0.4</text>"), 1);
    free(got);
    const struct sl_plot_lines single = {"accuracy", "round", "", s, 1};
    got = svg_lines(&single);
    assert_int_equal(count_of(got, "fedavg"), 0);
    free(got);
}

static void a_heat_map_draws_every_cell_and_its_count(void **state)
{
    const uint64_t counts[2 * 3] = {0, 1, 100, 50, 75, 26};
    const struct sl_plot_heat h = {"title", "client", "label", counts, 2, 3};
    char *got = svg_heat(&h);
    assert_int_equal(count_of(got, "<rect x="), 6 + 1);
    assert_int_equal(count_of(got, ">75</text>"), 1);
    assert_int_equal(count_of(got, "fill=\"#08306b\""), 1); /* the largest */
    assert_int_equal(count_of(got, "fill=\"#f7fbff\""), 1); /* none at all */
    free(got);
    static uint64_t many[3000 * 150];
    const struct sl_plot_heat large = {"title", "client", "label", many, 3000, 150};
    got = svg_heat(&large);
    assert_int_equal(count_of(got, "<rect x="), 200 * 75 + 1);
    assert_non_null(strstr(got, "mean of 15 x 2"));
    free(got);
    const struct sl_plot_heat none = {"title", "client", "label", NULL, 5, 0};
    got = svg_heat(&none);
    assert_non_null(strstr(got, "no counts"));
    free(got);
}

static const char *const texts[] = {
    "a<b>&\"c\"",   "line\nbreak\x01",  "\xff\xfe",     "\xe2\x82",       "\xc0\xaf",
    "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xef\xbf\xbf", "\xce\xb1 = 0.3", "]]>",
};

static void text_is_escaped(void **state)
{
    static const char *const want[] = {"a&lt;b&gt;&amp;&quot;c&quot;",
                                       "line?break?",
                                       "??",
                                       "??",
                                       "??",
                                       "???",
                                       "????",
                                       "???",
                                       "\xce\xb1 = 0.3",
                                       "]]&gt;"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        const struct sl_plot_lines p = {.title = texts[i]};
        char *got = svg_lines(&p), title[64];
        snprintf(title, sizeof(title), "<title>%s</title>", want[i]);
        if (strstr(got, title) == NULL)
            fail_msg("text %zu: no %s", i, title);
        free(got);
    }
}

static void documents_are_well_formed_for_other_parsers(void **state)
{
    if (system("/usr/bin/python3 -c 'import xml.etree.ElementTree' 2>/dev/null") != 0)
        skip();
    char path[] = "/tmp/sl_plot_XXXXXX", command[256];
    int fd = mkstemp(path);
    FILE *to = fdopen(fd, "w");
    const double x[3] = {0, 1, 2}, y[3] = {1e300, -1e300, NAN};
    struct sl_plot_series s[10];
    for (size_t i = 0; i < 10; i++)
        s[i] = (struct sl_plot_series){texts[i], x, y, 3};
    const struct sl_plot_lines p = {texts[0], texts[1], texts[2], s, 10};
    const uint64_t counts[2] = {0, UINT64_MAX};
    const struct sl_plot_heat h = {texts[3], texts[4], texts[5], counts, 1, 2};
    fputs("<both>\n", to);
    assert_int_equal(sl_plot_svg_lines(to, &p, NULL), SL_OK);
    assert_int_equal(sl_plot_svg_heat(to, &h, NULL), SL_OK);
    fputs("</both>\n", to);
    fclose(to);
    snprintf(command, sizeof(command),
             "/usr/bin/python3 -c \"import sys, xml.etree.ElementTree as e\n"
             "assert len(e.parse(sys.argv[1]).getroot()) == 2\" %s",
             path);
    int rc = system(command);
    unlink(path);
    assert_int_equal(rc, 0);
}

static void a_full_disk_is_an_error(void **state)
{
    FILE *to = fopen("/dev/full", "w");
    if (to == NULL)
        skip();
    struct sl_err err;
    const struct sl_plot_lines p = {.title = "t"};
    assert_int_equal(sl_plot_svg_lines(to, &p, &err), SL_E_NOSPACE);
    assert_string_equal(err.msg, "SVG plot: No space left on device");
    fclose(to);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ticks_are_round_numbers_inside_the_axis),
        cmocka_unit_test(labels_have_the_digits_their_step_needs),
        cmocka_unit_test(ranges_pass_over_what_is_not_finite),
        cmocka_unit_test(folded_cells_are_means_and_the_last_may_be_smaller),
        cmocka_unit_test(a_curve_in_ascii_looks_like_this),
        cmocka_unit_test(a_curve_in_utf8_looks_like_this),
        cmocka_unit_test(the_first_variable_that_is_set_decides_about_utf8),
        cmocka_unit_test(curves_stay_in_their_width_and_height),
        cmocka_unit_test(curves_without_points_say_so_and_one_point_is_a_dot),
        cmocka_unit_test(a_heat_map_looks_like_this),
        cmocka_unit_test(large_heat_maps_are_folded_to_the_room_there_is),
        cmocka_unit_test(a_line_chart_places_points_on_its_axes),
        cmocka_unit_test(a_heat_map_draws_every_cell_and_its_count),
        cmocka_unit_test(text_is_escaped),
        cmocka_unit_test(documents_are_well_formed_for_other_parsers),
        cmocka_unit_test(a_full_disk_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
