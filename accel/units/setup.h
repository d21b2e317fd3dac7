/* SPDX-License-Identifier: Apache-2.0 */
/* setup.h - from the description of an accelerator (common/accelerator.h) to the unit and
 * its options, and from what a unit counted to the cost of a task. Thread: any. */
#ifndef SL_ACCEL_UNITS_SETUP_H
#define SL_ACCEL_UNITS_SETUP_H

#include "accel/units/fast.h"
#include "accel/units/matmul.h"
#include "accel/units/rtn.h"
#include "accel/units/tr.h"
#include "common/accelerator.h"
#include "common/error.h"

struct sl_unit_setup {
    const struct sl_matmul_unit *unit;
    struct sl_fast_options fast;
    struct sl_tr_options tr;
    struct sl_rtn_options rtn;
};

/* SL_E_RANGE for options that do not fit together. */
enum sl_code sl_unit_setup(const struct sl_accelerator *a, struct sl_unit_setup *ret,
                           struct sl_err *err);
/* For sl_trainer_options; points into *s. */
struct sl_unit_options sl_unit_setup_options(const struct sl_unit_setup *s);

/* "fp32", "fast adaptive", "tr naf g 8 k 12 s 3": for people. */
#define SL_UNIT_TEXT 64
void sl_unit_text(const struct sl_accelerator *a, char ret[SL_UNIT_TEXT]);

/* What was counted between two looks at a ledger. */
struct sl_unit_ledger sl_unit_ledger_since(const struct sl_unit_ledger *now,
                                           const struct sl_unit_ledger *before);

/* A ledger's sums over the passes. Energy in the units of the options, as sl_fast_energy,
 * sl_tr_energy and sl_rtn_energy say; 0 for fp32, which emulates nothing. */
void sl_unit_cost(const struct sl_unit_setup *s, const struct sl_unit_ledger *l,
                  struct sl_task_cost *ret);

#endif
