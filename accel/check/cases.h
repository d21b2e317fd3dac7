/* SPDX-License-Identifier: Apache-2.0 */
/* cases.h - what every conformance check has in common (DESIGN section 6): finding the
 * manifests of a folder, choosing cases by --only, the result line of a case, the closing
 * line, and the kernel variants to run. Thread: any; a run belongs to one. Never changes
 * a file. */
#ifndef SL_ACCEL_CHECK_CASES_H
#define SL_ACCEL_CHECK_CASES_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "common/error.h"

struct sl_check_counts {
    size_t passed, failed, skipped;
};

struct sl_cases {
    const char *const *only; /* shell patterns; a case runs when one matches, or when
                                there are none */
    size_t n_only;
    FILE *out;
    struct sl_check_counts counts;
};

/* Does a pattern match, or is there none? */
bool sl_cases_match(const struct sl_cases *c, const char *name);
/* The same; a case that is not wanted counts as skipped. */
bool sl_cases_wanted(struct sl_cases *c, const char *name);
/* Prints `ok NAME` or `not ok NAME: why` and counts; why NULL = ok. */
void sl_cases_result(struct sl_cases *c, const char *name, const char *why);

/* Called for each manifest.json found; an error ends the walk. */
typedef enum sl_code (*sl_cases_visit)(void *ctx, const char *dir, const json_t *manifest,
                                       struct sl_err *err);
/* dir: a folder with a manifest.json, or a folder of such folders (taken in the order of
 * their names). A manifest that is no JSON is a failed case named after its folder.
 * SL_E_INPUT when there is no manifest at all. */
enum sl_code sl_cases_walk(struct sl_cases *c, const char *dir, sl_cases_visit visit,
                           void *ctx, struct sl_err *err);

/* The last part of a path. */
const char *sl_cases_last_name(const char *dir);

/* Prints `N passed, N failed[, N skipped]`. SL_E_INPUT when no case ran; SL_E_FAILED with
 * an empty message when one failed: its line has been printed. */
enum sl_code sl_cases_close(const struct sl_cases *c, const char *dir,
                            struct sl_err *err);

/* Kernel variants of this CPU by number, plain C first, then one more instruction set at
 * a time; false beyond the last. */
bool sl_cases_cpu(size_t i, uint32_t *ret_cpu);

#endif
