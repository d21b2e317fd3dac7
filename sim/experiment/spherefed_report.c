/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "sim/experiment/results.h"
#include "sim/experiment/spherefed.h"

#define ROUNDS 64 /* of a curve, at most */

static struct sl_sample sample(const json_t *results, enum sl_sphere_part part,
                               enum sl_sphere_method method, enum sl_sphere_head head,
                               const char *key)
{
    char setting[SL_SPHERE_NAME];
    sl_sphere_setting(method, head, 0, setting);
    return sl_results_sample(results, sl_sphere_part_name(part), setting, key);
}

static size_t n_failed(const json_t *results, const char *part, const char *setting)
{
    size_t n = 0, i;
    json_t *line;
    json_array_foreach(results, i, line)
    {
        const json_t *c = json_object_get(line, "cell");
        n += strcmp(json_string_value(json_object_get(c, "part")), part) == 0 &&
             strcmp(json_string_value(json_object_get(c, "setting")), setting) == 0 &&
             json_object_get(json_object_get(line, "result"), "failed") != NULL;
    }
    return n;
}

/* --- tables ----------------------------------------------------------------------- */

static void row(const json_t *results, struct sl_page *page,
                const struct sl_sphere_row *r)
{
    const char *part = sl_sphere_part_name(r->part);
    static const char *const keys[] = {"mean3", "last", "calibrated", "last_cohort"};
    char control[SL_SPHERE_NAME], text[SL_SAMPLE_TEXT];
    struct sl_sample s = sl_results_sample(results, part, r->name, "last");
    size_t failed = n_failed(results, part, r->name);
    if (s.n == 0)
        return;
    sl_sphere_setting(r->method, SL_SPHERE_TRAINED, r->width, control);
    sl_page_cell(page, "%s", r->name);
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        s = sl_results_sample(results, part, r->name, keys[i]);
        sl_page_cell(page, "%s", sl_sample_text(&s, 100, 2, text));
    }
    s = sl_results_sample(results, part, r->name, "gain");
    sl_page_cell(page, "%s", sl_difference_text(&s, 100, 2, text));
    s = sl_results_paired(results, part, r->name, control, "calibrated");
    sl_page_cell(page, "%s", r->head == SL_SPHERE_TRAINED
                                 ? ""
                                 : sl_difference_text(&s, 100, 2, text));
    s = sl_results_sample(results, part, r->name, "last");
    if (failed > 0)
        sl_page_cell(page, "%zu (%zu ended early)", s.n, failed);
    else
        sl_page_cell(page, "%zu", s.n);
}

static void table(const json_t *results, struct sl_page *page, enum sl_sphere_part part)
{
    static const char *const columns[] = {"strategy, head",
                                          "mean3 %",
                                          "last %",
                                          "calibrated %",
                                          "by the last cohort %",
                                          "calibrated minus mean3",
                                          "calibrated minus the control's, paired",
                                          "seeds",
                                          NULL};
    struct sl_sphere_row rows[SL_SPHERE_ROWS];
    size_t n = sl_sphere_rows(part, rows);
    sl_page_table_begin(page, columns);
    for (size_t i = 0; i < n; i++)
        row(results, page, &rows[i]);
    sl_page_table_end(page);
}

/* --- plots ------------------------------------------------------------------------ */

static size_t curve(const json_t *results, enum sl_sphere_part part,
                    enum sl_sphere_head head, const char *key, double ret[ROUNDS])
{
    char setting[SL_SPHERE_NAME];
    sl_sphere_setting(SL_SPHERE_FEDAVG, head, 0, setting);
    return sl_results_curve(results, sl_sphere_part_name(part), setting, key, ret,
                            ROUNDS);
}

static void plot_rounds(const json_t *results, struct sl_page *page,
                        enum sl_sphere_part part)
{
    static const struct {
        const char *name, *key;
        enum sl_sphere_head head;
    } lines[] = {{"trained head", "calibration.before", SL_SPHERE_TRAINED},
                 {"sphere", "calibration.before", SL_SPHERE_SQUARED},
                 {"trained head, calibrated", "calibration.after", SL_SPHERE_TRAINED},
                 {"sphere, calibrated", "calibration.after", SL_SPHERE_SQUARED}};
    double x[4][ROUNDS], y[4][ROUNDS];
    struct sl_plot_series series[4];
    char name[64], title[128];
    size_t n = 0;
    for (size_t i = 0; i < 4; i++) {
        size_t points = curve(results, part, lines[i].head, lines[i].key, y[n]);
        curve(results, part, lines[i].head, "calibration.rounds", x[n]);
        for (size_t k = 0; k < points; k++)
            y[n][k] *= 100;
        if (points > 0) {
            series[n] = (struct sl_plot_series){lines[i].name, x[n], y[n], points};
            n++;
        }
    }
    if (n == 0)
        return;
    snprintf(name, sizeof(name), "spherefed-%s", sl_sphere_part_name(part));
    snprintf(title, sizeof(title), "%s, FedAvg: mean over seeds",
             sl_sphere_part_name(part));
    sl_page_plot(page, name,
                 &(struct sl_plot_lines){title, "round", "test accuracy (%)", series, n});
}

/* Calibrated accuracy against the width of the features, a line a head. */
static void plot_widths(const json_t *results, struct sl_page *page,
                        enum sl_sphere_part part)
{
    static const struct {
        const char *name;
        enum sl_sphere_head head;
    } lines[] = {{"trained head", SL_SPHERE_TRAINED},
                 {"sphere, squared loss", SL_SPHERE_SQUARED},
                 {"sphere, cross-entropy, temperature 10", SL_SPHERE_COSINE_10}};
    struct sl_sphere_row rows[SL_SPHERE_ROWS];
    double x[3][SL_SPHERE_ROWS], y[3][SL_SPHERE_ROWS];
    struct sl_plot_series series[3];
    char name[64], title[128];
    size_t n_rows = sl_sphere_rows(part, rows), n = 0;
    for (size_t i = 0; i < 3; i++) {
        size_t points = 0;
        for (size_t k = 0; k < n_rows; k++) {
            struct sl_sample s = sl_results_sample(results, sl_sphere_part_name(part),
                                                   rows[k].name, "calibrated");
            if (rows[k].head != lines[i].head || s.n == 0)
                continue;
            x[n][points] = rows[k].width;
            y[n][points++] = 100 * s.mean;
        }
        if (points > 0) {
            series[n] = (struct sl_plot_series){lines[i].name, x[n], y[n], points};
            n++;
        }
    }
    if (n == 0)
        return;
    snprintf(name, sizeof(name), "spherefed-%s-width", sl_sphere_part_name(part));
    snprintf(title, sizeof(title), "%s: calibrated accuracy, mean over seeds",
             sl_sphere_part_name(part));
    sl_page_plot(page, name,
                 &(struct sl_plot_lines){title, "features in front of the head",
                                         "test accuracy (%)", series, n});
}

/* --- the digest's six points ------------------------------------------------------ */

struct verdict {
    const json_t *results;
    struct sl_page *page;
    enum sl_sphere_part part;
    enum sl_sphere_method method;
};

static struct sl_sample of(const struct verdict *v, enum sl_sphere_head head,
                           const char *key)
{
    return sample(v->results, v->part, v->method, head, key);
}

static void say(const struct verdict *v, int point, bool holds, size_t seeds,
                const char *fmt, ...) __attribute__((format(printf, 5, 6)));

static void say(const struct verdict *v, int point, bool holds, size_t seeds,
                const char *fmt, ...)
{
    char text[256];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    sl_page_cell(v->page, "%d", point);
    sl_page_cell(v->page, "%s", sl_sphere_method_name(v->method));
    sl_page_cell(v->page, "%s", sl_sphere_part_name(v->part));
    sl_page_cell(v->page, "%s", text);
    sl_page_cell(v->page, "%s", holds ? "holds" : "does not hold");
    sl_page_cell(v->page, "%zu", seeds);
}

/* 1: what calibration gains over mean3: 2 points and more at 0.1, less but something at
 * 0.3, less still where data are iid. */
static void gains(const struct verdict *v)
{
    struct sl_sample g = of(v, SL_SPHERE_SQUARED, "gain");
    struct sl_sample harder = sample(
        v->results, v->part == SL_SPHERE_MLP_03 ? SL_SPHERE_MLP_01 : SL_SPHERE_MLP_03,
        v->method, SL_SPHERE_SQUARED, "gain");
    if (g.n == 0)
        return;
    if (v->part == SL_SPHERE_MLP_01)
        say(v, 1, g.mean >= 0.02, g.n, "calibrated - mean3 = %+.2f (>= 2)", 100 * g.mean);
    else if (harder.n > 0 && v->part == SL_SPHERE_MLP_03)
        say(v, 1, g.mean > 0 && g.mean < harder.mean, g.n,
            "calibrated - mean3 = %+.2f (> 0, < %+.2f at 0.1)", 100 * g.mean,
            100 * harder.mean);
    else if (harder.n > 0)
        say(v, 1, g.mean < harder.mean, g.n,
            "calibrated - mean3 = %+.2f (near 0, < %+.2f at 0.3)", 100 * g.mean,
            100 * harder.mean);
}

/* 2 and 3: against the ordinary head without calibration. */
static void against_trained(const struct verdict *v)
{
    char sphere[SL_SPHERE_NAME], trained[SL_SPHERE_NAME];
    struct sl_sample c = of(v, SL_SPHERE_SQUARED, "calibrated");
    struct sl_sample last = of(v, SL_SPHERE_TRAINED, "last");
    struct sl_sample m = of(v, SL_SPHERE_TRAINED, "mean3");
    sl_sphere_setting(v->method, SL_SPHERE_SQUARED, 0, sphere);
    sl_sphere_setting(v->method, SL_SPHERE_TRAINED, 0, trained);
    struct sl_sample raw = sl_results_paired(v->results, sl_sphere_part_name(v->part),
                                             sphere, trained, "mean3");
    if (c.n > 0 && c.n == m.n && v->part == SL_SPHERE_MLP_01)
        say(v, 2, c.mean > last.mean && c.mean > m.mean, c.n,
            "sphere calibrated - trained: last %+.2f, mean3 %+.2f (> 0)",
            100 * (c.mean - last.mean), 100 * (c.mean - m.mean));
    if (raw.n > 0)
        say(v, 3, raw.hi <= 0, raw.n,
            "sphere - trained, mean3: %+.2f, on its best seed %+.2f (<= 0)",
            100 * raw.mean, 100 * raw.hi);
}

/* 4: statistics of all clients, of the last cohort, none. 5: curves. */
static void of_calibrations(const struct verdict *v)
{
    struct sl_sample all = of(v, SL_SPHERE_SQUARED, "calibrated"),
                     cohort = of(v, SL_SPHERE_SQUARED, "last_cohort"),
                     none = of(v, SL_SPHERE_SQUARED, "mean3"),
                     rough = of(v, SL_SPHERE_SQUARED, "jump.raw"),
                     smooth = of(v, SL_SPHERE_SQUARED, "jump.calibrated");
    if (cohort.n > 0 && v->part == SL_SPHERE_MLP_01)
        say(v, 4, all.mean > cohort.mean && cohort.mean > none.mean, all.n,
            "all %.2f > last cohort %.2f > mean3 %.2f", 100 * all.mean, 100 * cohort.mean,
            100 * none.mean);
    if (smooth.n > 0)
        say(v, 5, smooth.mean <= 0.5 * rough.mean, smooth.n,
            "sd of changes: calibrated %.2f, raw %.2f (<= half)", 100 * smooth.mean,
            100 * rough.mean);
}

/* 6: the head from the clients' sums and the one from all samples. */
static void pooled(const struct verdict *v)
{
    struct sl_sample apart = of(v, SL_SPHERE_SQUARED, "pooled.apart");
    struct sl_sample samples = of(v, SL_SPHERE_SQUARED, "pooled.samples");
    if (apart.n > 0)
        say(v, 6, apart.hi <= 1e-5 && samples.hi == 0, apart.n,
            "heads differ by %.1e (<= 1e-5), %g test samples (0)", apart.hi, samples.hi);
}

static void points(const json_t *results, struct sl_page *page)
{
    static const char *const columns[] = {"point",           "strategy", "part", "numbers",
                                          "verdict",         "seeds",    NULL};
    static void (*const all[])(const struct verdict *) = {gains, against_trained,
                                                          of_calibrations, pooled};
    sl_page_heading(page, "What a faithful build must show");
    sl_page_table_begin(page, columns);
    for (unsigned m = 0; m < SL_SPHERE_METHODS; m++)
        for (unsigned p = SL_SPHERE_MLP_01; p <= SL_SPHERE_MLP_03; p++)
            for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
                all[i](&(struct verdict){results, page, (enum sl_sphere_part)p,
                                         (enum sl_sphere_method)m});
    gains(&(struct verdict){results, page, SL_SPHERE_MLP_IID, SL_SPHERE_FEDAVG});
    sl_page_table_end(page);
}

/* --- FAST keeps the order --------------------------------------------------------- */

struct place {
    const char *name;
    double mean;
};

/* The four ways in falling order; false: not all of them are finished. */
static bool order(const json_t *results, enum sl_sphere_part part,
                  enum sl_sphere_method method, struct place ret[4])
{
    static const struct {
        const char *name, *key;
        enum sl_sphere_head head;
    } ways[] = {{"trained", "mean3", SL_SPHERE_TRAINED},
                {"trained + calibration", "calibrated", SL_SPHERE_TRAINED},
                {"sphere", "mean3", SL_SPHERE_SQUARED},
                {"sphere + calibration", "calibrated", SL_SPHERE_SQUARED}};
    for (size_t i = 0; i < 4; i++) {
        struct sl_sample s = sample(results, part, method, ways[i].head, ways[i].key);
        size_t k = i;
        if (s.n == 0)
            return false;
        for (; k > 0 && ret[k - 1].mean < s.mean; k--)
            ret[k] = ret[k - 1];
        ret[k] = (struct place){ways[i].name, s.mean};
    }
    return true;
}

static void orders(const json_t *results, struct sl_page *page)
{
    struct place a[4], b[4];
    for (unsigned p = SL_SPHERE_MLP_01; p <= SL_SPHERE_MLP_03; p++) {
        bool same = true;
        if (!order(results, (enum sl_sphere_part)p, SL_SPHERE_FEDAVG, a) ||
            !order(results, (enum sl_sphere_part)p, SL_SPHERE_FAST, b))
            continue;
        for (size_t i = 0; i < 4; i++)
            same = same && a[i].name == b[i].name;
        sl_page_paragraph(page,
                          "%s, order with FAST m = 4: %s %.2f, %s %.2f, %s %.2f, %s "
                          "%.2f: that of fp32 %s.",
                          sl_sphere_part_name((enum sl_sphere_part)p), b[0].name,
                          100 * b[0].mean, b[1].name, 100 * b[1].mean, b[2].name,
                          100 * b[2].mean, b[3].name, 100 * b[3].mean,
                          same ? "holds" : "does not hold");
    }
}

void sl_sphere_report(const json_t *results, struct sl_page *page)
{
    sl_page_paragraph(page, "mean3: mean of the last round and of those a tenth and a "
                            "fifth of the run before it, before any calibration. "
                            "calibrated: by all clients' statistics, after the last "
                            "round. The control is the trained head with the same "
                            "calibration.");
    for (unsigned p = 0; p < SL_SPHERE_PARTS; p++) {
        enum sl_sphere_part part = (enum sl_sphere_part)p;
        if (sl_results_count(results, sl_sphere_part_name(part)) == 0)
            continue;
        sl_page_heading(page, "%s", sl_sphere_part_name(part));
        table(results, page, part);
        if (p <= SL_SPHERE_MLP_IID)
            plot_rounds(results, page, part);
        if (part == SL_SPHERE_LENET_01 || part == SL_SPHERE_LENET_SHARDS)
            plot_widths(results, page, part);
    }
    points(results, page);
    orders(results, page);
}
