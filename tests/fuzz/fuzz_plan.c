/* SPDX-License-Identifier: Apache-2.0 */
/* Plans: what can be read has a canonical text that reads back to the same text; what cannot says
 * so in one line. A first line "#set KEY=VALUE" becomes an override. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/plan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_text(const struct sl_plan *p)
{
    struct sl_plan again;
    struct sl_err err;
    char *a, *b;
    size_t n_a, n_b;
    if (sl_plan_canonical(p, &a, &n_a, &err) != SL_OK)
        abort();
    if (sl_plan_parse(a, n_a, "canonical", NULL, 0, &again, &err) != SL_OK ||
        sl_plan_canonical(&again, &b, &n_b, &err) != SL_OK || n_a != n_b ||
        memcmp(a, b, n_a) != 0)
        abort();
    free(a);
    free(b);
    sl_plan_deinit(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sl_plan p;
    struct sl_err err;
    char set[256] = "";
    const struct sl_plan_override o = {set};
    if (size > 5 && memcmp(data, "#set ", 5) == 0) {
        const uint8_t *end = memchr(data, '\n', size);
        size_t n = (end == NULL ? size : (size_t)(end - data)) - 5;
        if (n >= sizeof(set))
            return 0;
        memcpy(set, data + 5, n);
    }
    if (sl_plan_parse((const char *)data, size, "f", &o, set[0] != '\0', &p, &err) != SL_OK) {
        if (err.msg[0] == '\0' || strlen(err.msg) >= SL_ERR_MAX || strchr(err.msg, '\n') != NULL)
            abort();
        return 0;
    }
    check_text(&p);
    for (uint32_t round = 0; round < 3; round++)
        if (!(sl_plan_lr(&p, round * (p.run.rounds / 2)) >= 0))
            abort();
    sl_plan_deinit(&p);
    return 0;
}
