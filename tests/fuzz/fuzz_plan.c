/* SPDX-License-Identifier: Apache-2.0 */
/* Plans: what can be read, from memory or from a file, has a canonical text that reads
 * back to the same plan; what cannot says so in one line. First lines "#set KEY=VALUE"
 * become overrides. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/plan.h"
#include "tests/fuzz/files.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Learning rates, cohort and digest follow from a plan. */
static void check_equal(const struct sl_plan *p, const struct sl_plan *again)
{
    uint8_t digest[2][SL_DIGEST_BYTES];
    fuzz_must(sl_plan_digest(p, digest[0], NULL) == SL_OK &&
              sl_plan_digest(again, digest[1], NULL) == SL_OK &&
              memcmp(digest[0], digest[1], SL_DIGEST_BYTES) == 0);
    for (uint32_t i = 0; i <= 8; i++) {
        uint32_t round = (uint32_t)((uint64_t)p->run.rounds * i / 8);
        double lr = sl_plan_lr(p, round);
        fuzz_must(isfinite(lr) && lr >= 0 && lr == sl_plan_lr(again, round));
    }
    uint32_t cohort = sl_plan_cohort_size(p);
    fuzz_must(cohort >= 1 && cohort <= p->data.partition.clients &&
              cohort == sl_plan_cohort_size(again));
    fuzz_must(p->model.layers.n_layers == again->model.layers.n_layers);
}

static void check_plan(const struct sl_plan *p)
{
    struct sl_plan again;
    char *a, *b;
    size_t n_a, n_b;
    fuzz_must(sl_plan_canonical(p, &a, &n_a, NULL) == SL_OK);
    fuzz_must(sl_plan_parse(a, n_a, "canonical", NULL, 0, &again, NULL) == SL_OK);
    fuzz_must(sl_plan_canonical(&again, &b, &n_b, NULL) == SL_OK);
    fuzz_must(n_a == n_b && memcmp(a, b, n_a) == 0);
    check_equal(p, &again);
    free(a);
    free(b);
    sl_plan_deinit(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sl_plan p;
    struct sl_err err;
    struct fuzz_file file;
    char set[FUZZ_SETS][FUZZ_SET_BYTES];
    const struct sl_plan_override o[FUZZ_SETS] = {{set[0]}, {set[1]}, {set[2]}, {set[3]}};
    size_t n_set = fuzz_set_lines(data, size, set);
    enum sl_code rc = sl_plan_parse((const char *)data, size, "f", o, n_set, &p, &err);
    fuzz_check_line(rc, &err);
    if (rc == SL_OK) {
        check_plan(&p);
        sl_plan_deinit(&p);
    }
    fuzz_file_open(&file, data, size); /* relative paths are now relative to its folder */
    rc = sl_plan_load(file.path, o, n_set, &p, &err);
    fuzz_check_line(rc, &err);
    if (rc == SL_OK) {
        check_plan(&p);
        sl_plan_deinit(&p);
    }
    fuzz_file_close(&file);
    return 0;
}
