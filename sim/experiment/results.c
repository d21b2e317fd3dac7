/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/experiment/results.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Welford's running mean and sum of squares. */
struct running {
    struct sl_sample s;
    double m2;
};

static void add(struct running *r, double v)
{
    if (!isfinite(v))
        return;
    r->s.n++;
    double d = v - r->s.mean;
    r->s.mean += d / (double)r->s.n;
    r->m2 += d * (v - r->s.mean);
    r->s.lo = r->s.n == 1 || v < r->s.lo ? v : r->s.lo;
    r->s.hi = r->s.n == 1 || v > r->s.hi ? v : r->s.hi;
}

static struct sl_sample finish(struct running r)
{
    r.s.sd = r.s.n > 1 ? sqrt(r.m2 / (double)(r.s.n - 1)) : 0;
    return r.s;
}

static bool is(const json_t *object, const char *key, const char *value)
{
    const char *s = json_string_value(json_object_get(object, key));
    return s != NULL && strcmp(s, value) == 0;
}

static bool of(const json_t *line, const char *part, const char *setting)
{
    const json_t *cell = json_object_get(line, "cell");
    return is(cell, "part", part) && is(cell, "setting", setting);
}

size_t sl_results_count(const json_t *results, const char *part)
{
    size_t n = 0, i;
    json_t *line;
    json_array_foreach(results, i, line) n +=
        is(json_object_get(line, "cell"), "part", part);
    return n;
}

static const json_t *at(const json_t *result, const char *key)
{
    while (result != NULL && *key != '\0') {
        size_t n = strcspn(key, ".");
        result = json_is_array(result) ? json_array_get(result, strtoul(key, NULL, 10))
                                       : json_object_getn(result, key, n);
        key += n + (key[n] == '.');
    }
    return result;
}

double sl_result_number(const json_t *result, const char *key)
{
    const json_t *v = at(result, key);
    return json_is_number(v) ? json_number_value(v) : NAN;
}

struct sl_sample sl_results_sample(const json_t *results, const char *part,
                                   const char *setting, const char *key)
{
    struct running r = {0};
    size_t i;
    json_t *line;
    json_array_foreach(results, i, line) if (of(line, part, setting))
        add(&r, sl_result_number(json_object_get(line, "result"), key));
    return finish(r);
}

static double of_seed(const json_t *results, const char *part, const char *setting,
                      const json_t *seed, const char *key)
{
    size_t i;
    json_t *line;
    json_array_foreach(
        results, i,
        line) if (of(line, part, setting) &&
                  json_equal(json_object_get(json_object_get(line, "cell"), "seed"),
                             seed)) return sl_result_number(json_object_get(line,
                                                                            "result"),
                                                            key);
    return NAN;
}

struct sl_sample sl_results_paired(const json_t *results, const char *part,
                                   const char *setting, const char *reference,
                                   const char *key)
{
    struct running r = {0};
    size_t i;
    json_t *line;
    json_array_foreach(results, i, line)
    {
        const json_t *cell = json_object_get(line, "cell");
        if (of(line, part, setting))
            add(&r, sl_result_number(json_object_get(line, "result"), key) -
                        of_seed(results, part, reference, json_object_get(cell, "seed"),
                                key));
    }
    return finish(r);
}

static double element(const json_t *array, size_t i)
{
    const json_t *v = json_array_get(array, i);
    return json_is_number(v) ? json_number_value(v) : NAN;
}

size_t sl_results_curve(const json_t *results, const char *part, const char *setting,
                        const char *key, double *ret, size_t room)
{
    size_t n = room, seeds = 0, i;
    json_t *line;
    json_array_foreach(results, i, line)
    {
        const json_t *array = at(json_object_get(line, "result"), key);
        if (!of(line, part, setting) || !json_is_array(array))
            continue;
        n = json_array_size(array) < n ? json_array_size(array) : n;
        seeds++;
        for (size_t k = 0; k < n; k++) {
            double before = seeds == 1 ? 0 : ret[k];
            ret[k] = before + (element(array, k) - before) / (double)seeds;
        }
    }
    return seeds == 0 ? 0 : n;
}

static const char *text(const struct sl_sample *s, double scale, int digits,
                        const char *format, char ret[SL_SAMPLE_TEXT])
{
    if (s->n == 0)
        return "-";
    int n = snprintf(ret, SL_SAMPLE_TEXT, format, digits, s->mean * scale);
    if (s->n > 1 && n > 0 && n < SL_SAMPLE_TEXT)
        snprintf(ret + n, SL_SAMPLE_TEXT - (size_t)n, " +- %.*f", digits, s->sd * scale);
    return ret;
}

const char *sl_sample_text(const struct sl_sample *s, double scale, int digits,
                           char ret[SL_SAMPLE_TEXT])
{
    return text(s, scale, digits, "%.*f", ret);
}

const char *sl_difference_text(const struct sl_sample *s, double scale, int digits,
                               char ret[SL_SAMPLE_TEXT])
{
    return text(s, scale, digits, "%+.*f", ret);
}
