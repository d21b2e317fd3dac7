/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a gate record: what parses packs to the same bytes and goes into an inbox. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/tmc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sl_tmc_record r;
    uint8_t again[SL_TMC_RECORD_MAX];
    if (sl_tmc_record_get(data, size, &r, NULL) != SL_OK)
        return 0;
    assert(sl_tmc_record_put(&r, again) == size);
    assert(memcmp(again, data, size) == 0);
    struct sl_tmc_options o = sl_tmc_defaults(r.width);
    struct sl_tmc_inbox b;
    if (sl_tmc_inbox_init(&b, &o, 2, NULL) != SL_OK)
        abort();
    assert(sl_tmc_receive(&b, r.round, 1, &r));
    sl_tmc_settle(&b, r.round);
    struct sl_tmc_view v = sl_tmc_look(&b, 1);
    assert(v.valid && v.age == 0 && memcmp(v.values, r.values, 4 * (size_t)r.width) == 0);
    sl_tmc_inbox_deinit(&b);
    return 0;
}
