/* SPDX-License-Identifier: Apache-2.0 */
/* options.h - the command line of starling-accel. Values stay text here and are read by
 * the command that takes them, which knows their ranges. Options are called like the
 * fields p_* of tests/golden/accel/manifest.json; "-" and "_" are the same in them.
 * Strings are borrowed from argv. Thread: main only. */
#ifndef SL_ACCEL_TOOL_OPTIONS_H
#define SL_ACCEL_TOOL_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

#define SL_TOOL_ONLY_MAX 64
#define SL_TOOL_PATHS 2

/* id, option */
#define SL_TOOL_OPTIONS(X)                                                               \
    X(SL_OPT_ONLY, "only")                                                               \
    X(SL_OPT_UNIT, "unit")                                                               \
    X(SL_OPT_OUT, "out")                                                                 \
    X(SL_OPT_COST, "cost")                                                               \
    X(SL_OPT_AXIS, "axis")                                                               \
    X(SL_OPT_M, "m")                                                                     \
    X(SL_OPT_E, "e")                                                                     \
    X(SL_OPT_G, "g")                                                                     \
    X(SL_OPT_ROUND, "round")                                                             \
    X(SL_OPT_KEY, "key")                                                                 \
    X(SL_OPT_LFSR_START, "lfsr-start")                                                   \
    X(SL_OPT_NOISE, "noise")                                                             \
    X(SL_OPT_MA, "ma")                                                                   \
    X(SL_OPT_MW, "mw")                                                                   \
    X(SL_OPT_ROUND_A, "round-a")                                                         \
    X(SL_OPT_ROUND_W, "round-w")                                                         \
    X(SL_OPT_KEY_A, "key-a")                                                             \
    X(SL_OPT_KEY_W, "key-w")                                                             \
    X(SL_OPT_EXACT, "exact")                                                             \
    X(SL_OPT_BITS, "bits")                                                               \
    X(SL_OPT_BITS_X, "bits-x")                                                           \
    X(SL_OPT_BITS_W, "bits-w")                                                           \
    X(SL_OPT_K, "k")                                                                     \
    X(SL_OPT_S, "s")                                                                     \
    X(SL_OPT_ENC, "enc")                                                                 \
    X(SL_OPT_SF, "sf")                                                                   \
    X(SL_OPT_SF_X, "sf-x")                                                               \
    X(SL_OPT_BIAS, "bias")                                                               \
    X(SL_OPT_ROLE, "role")                                                               \
    X(SL_OPT_SCOPE, "scope")                                                             \
    X(SL_OPT_GAMMA, "gamma")                                                             \
    X(SL_OPT_BETA, "beta")                                                               \
    X(SL_OPT_GA, "ga")                                                                   \
    X(SL_OPT_BA, "ba")                                                                   \
    X(SL_OPT_GW, "gw")                                                                   \
    X(SL_OPT_BW, "bw")                                                                   \
    X(SL_OPT_MODEL, "model")                                                             \
    X(SL_OPT_INPUT, "input")                                                             \
    X(SL_OPT_CLASSES, "classes")                                                         \
    X(SL_OPT_BATCH, "batch")                                                             \
    X(SL_OPT_HELP, "help")                                                               \
    X(SL_OPT_VERSION, "version")

enum sl_tool_option {
#define SL_TOOL_ENUM(id, name) id,
    SL_TOOL_OPTIONS(SL_TOOL_ENUM)
#undef SL_TOOL_ENUM
        SL_OPT_COUNT
};

struct sl_tool_options {
    const char *verb; /* NULL = only --help or --version */
    const char *path[SL_TOOL_PATHS];
    size_t n_paths;
    const char *only[SL_TOOL_ONLY_MAX];
    size_t n_only;
    const char *value[SL_OPT_COUNT]; /* NULL = not given; "" for one without a value */
};

/* SL_E_USAGE with one line for an unknown option, one given twice, a missing value, too
 * many words. Does not know verbs. */
enum sl_code sl_tool_options_parse(int argc, char **argv, struct sl_tool_options *ret,
                                   struct sl_err *err);

/* "bits-x"; never NULL. */
const char *sl_tool_option_name(enum sl_tool_option o);

/* SL_E_USAGE when an option outside list[0..n-1] was given; unit NULL or what is named
 * beside the verb in the message. */
enum sl_code sl_tool_allow(const struct sl_tool_options *o, const char *unit,
                           const enum sl_tool_option *list, size_t n, struct sl_err *err);

/* Values: the fallback when the option was not given. Each is SL_E_USAGE with the allowed
 * range for anything else. */
enum sl_code sl_tool_int(const struct sl_tool_options *o, enum sl_tool_option which,
                         int64_t lo, int64_t hi, int64_t fallback, int64_t *ret,
                         struct sl_err *err);
enum sl_code sl_tool_u64(const struct sl_tool_options *o, enum sl_tool_option which,
                         uint64_t fallback, uint64_t *ret, struct sl_err *err);
/* A finite number as float, nearest; decimal or hexadecimal ("0x1.8p-3"). */
enum sl_code sl_tool_float(const struct sl_tool_options *o, enum sl_tool_option which,
                           float fallback, float *ret, struct sl_err *err);
/* Index of one of names[0..n-1], by name or by number. */
enum sl_code sl_tool_choice(const struct sl_tool_options *o, enum sl_tool_option which,
                            const char *const *names, size_t n, size_t fallback,
                            size_t *ret, struct sl_err *err);

#endif
