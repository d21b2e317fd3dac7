/* SPDX-License-Identifier: Apache-2.0 */
/* plan_rows.h - the table of a plan's keys, shared by its reader and its printer. */
#ifndef SL_COMMON_PLAN_ROWS_H
#define SL_COMMON_PLAN_ROWS_H

#include "common/schema.h"

extern const struct sl_schema sl_plan_schema; /* of struct sl_plan */

#endif
