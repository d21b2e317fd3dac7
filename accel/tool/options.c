/* SPDX-License-Identifier: Apache-2.0 */
#include "accel/tool/options.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const names[] = {
#define SL_TOOL_NAME(id, name) [id] = name,
    SL_TOOL_OPTIONS(SL_TOOL_NAME)
#undef SL_TOOL_NAME
};

const char *sl_tool_option_name(enum sl_tool_option o)
{
    return names[o];
}

static bool is_flag(enum sl_tool_option o)
{
    return o == SL_OPT_COST || o == SL_OPT_EXACT || o == SL_OPT_HELP ||
           o == SL_OPT_VERSION;
}

/* The option called word[0..n-1]; SL_OPT_COUNT = none. */
static enum sl_tool_option option_of(const char *word, size_t n)
{
    for (int i = 0; i < SL_OPT_COUNT; i++) {
        size_t at = 0;
        while (at < n && names[i][at] != '\0' &&
               (word[at] == names[i][at] || (word[at] == '_' && names[i][at] == '-')))
            at++;
        if (at == n && names[i][at] == '\0')
            return (enum sl_tool_option)i;
    }
    return SL_OPT_COUNT;
}

static enum sl_code take(struct sl_tool_options *o, enum sl_tool_option which,
                         const char *value, struct sl_err *err)
{
    if (which == SL_OPT_ONLY) {
        if (o->n_only == SL_TOOL_ONLY_MAX)
            return sl_err_set(err, SL_E_USAGE, "--only: more than %d times",
                              SL_TOOL_ONLY_MAX);
        o->only[o->n_only++] = value;
    } else if (o->value[which] != NULL) {
        return sl_err_set(err, SL_E_USAGE, "--%s: given twice", names[which]);
    }
    o->value[which] = value;
    return SL_OK;
}

/* Reads argv[*at], an option, and its value ("--name value" or "--name=value"). */
static enum sl_code parse_option(struct sl_tool_options *o, int argc, char **argv,
                                 int *at, struct sl_err *err)
{
    const char *word = argv[*at] + 2;
    size_t n = strncmp(argv[*at], "--", 2) == 0 ? strcspn(word, "=") : 0;
    enum sl_tool_option which = n == 0 ? SL_OPT_COUNT : option_of(word, n);
    if (which == SL_OPT_COUNT)
        return sl_err_set(err, SL_E_USAGE, "unknown option %.60s (see --help)",
                          argv[*at]);
    const char *value = word[n] == '=' ? word + n + 1 : NULL;
    if (is_flag(which)) {
        if (value != NULL)
            return sl_err_set(err, SL_E_USAGE, "--%s takes no value", names[which]);
        value = "";
    } else if (value == NULL) {
        if (*at + 1 >= argc)
            return sl_err_set(err, SL_E_USAGE, "--%s wants a value", names[which]);
        value = argv[++*at];
    }
    return take(o, which, value, err);
}

enum sl_code sl_tool_options_parse(int argc, char **argv, struct sl_tool_options *ret,
                                   struct sl_err *err)
{
    *ret = (struct sl_tool_options){0};
    for (int i = 1; i < argc; i++) {
        enum sl_code rc = SL_OK;
        if (argv[i][0] == '-' && argv[i][1] != '\0')
            rc = parse_option(ret, argc, argv, &i, err);
        else if (ret->verb == NULL)
            ret->verb = argv[i];
        else if (ret->n_paths < SL_TOOL_PATHS)
            ret->path[ret->n_paths++] = argv[i];
        else
            rc = sl_err_set(err, SL_E_USAGE, "superfluous word \"%.60s\"", argv[i]);
        if (rc != SL_OK)
            return rc;
    }
    return SL_OK;
}

enum sl_code sl_tool_allow(const struct sl_tool_options *o, const char *unit,
                           const enum sl_tool_option *list, size_t n, struct sl_err *err)
{
    for (int i = 0; i < SL_OPT_COUNT; i++) {
        bool listed = o->value[i] == NULL;
        for (size_t k = 0; !listed && k < n; k++)
            listed = list[k] == (enum sl_tool_option)i;
        if (!listed)
            return sl_err_set(err, SL_E_USAGE, "%s%s%s does not take --%s (see --help)",
                              o->verb, unit == NULL ? "" : " --unit ",
                              unit == NULL ? "" : unit, names[i]);
    }
    return SL_OK;
}

enum sl_code sl_tool_int(const struct sl_tool_options *o, enum sl_tool_option which,
                         int64_t lo, int64_t hi, int64_t fallback, int64_t *ret,
                         struct sl_err *err)
{
    const char *text = o->value[which];
    char *end;
    if (text == NULL) {
        *ret = fallback;
        return SL_OK;
    }
    errno = 0;
    long long v = strtoll(text, &end, 10);
    if (text[0] == '\0' || text[0] == ' ' || *end != '\0' || errno != 0 || v < lo ||
        v > hi)
        return sl_err_set(err, SL_E_USAGE,
                          "--%s %.40s: not a number from %" PRId64 " to %" PRId64,
                          names[which], text, lo, hi);
    *ret = v;
    return SL_OK;
}

enum sl_code sl_tool_u64(const struct sl_tool_options *o, enum sl_tool_option which,
                         uint64_t fallback, uint64_t *ret, struct sl_err *err)
{
    const char *text = o->value[which];
    char *end;
    if (text == NULL) {
        *ret = fallback;
        return SL_OK;
    }
    errno = 0;
    unsigned long long v = strtoull(text, &end, 0);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0)
        return sl_err_set(err, SL_E_USAGE, "--%s %.40s: not a number from 0 to 2^64 - 1",
                          names[which], text);
    *ret = v;
    return SL_OK;
}

enum sl_code sl_tool_float(const struct sl_tool_options *o, enum sl_tool_option which,
                           float fallback, float *ret, struct sl_err *err)
{
    const char *text = o->value[which];
    char *end;
    if (text == NULL) {
        *ret = fallback;
        return SL_OK;
    }
    float v = strtof(text, &end);
    if (text[0] == '\0' || text[0] == ' ' || *end != '\0' || !isfinite(v))
        return sl_err_set(err, SL_E_USAGE, "--%s %.40s: not a finite float", names[which],
                          text);
    *ret = v;
    return SL_OK;
}

enum sl_code sl_tool_choice(const struct sl_tool_options *o, enum sl_tool_option which,
                            const char *const *choices, size_t n, size_t fallback,
                            size_t *ret, struct sl_err *err)
{
    const char *text = o->value[which];
    char list[160] = "";
    if (text == NULL) {
        *ret = fallback;
        return SL_OK;
    }
    for (size_t i = 0; i < n; i++) {
        char number[24];
        snprintf(number, sizeof(number), "%zu", i);
        if (strcmp(text, choices[i]) == 0 || strcmp(text, number) == 0) {
            *ret = i;
            return SL_OK;
        }
        size_t at = strlen(list);
        snprintf(list + at, sizeof(list) - at, "%s%s", i == 0 ? "" : ", ", choices[i]);
    }
    return sl_err_set(err, SL_E_USAGE, "--%s %.40s: not one of %s", names[which], text,
                      list);
}
