/* SPDX-License-Identifier: Apache-2.0 */
/* unit_options.h - options of units from the command line. Thread: main only. */
#ifndef SL_ACCEL_TOOL_UNIT_OPTIONS_H
#define SL_ACCEL_TOOL_UNIT_OPTIONS_H

#include "accel/tool/options.h"
#include "accel/units/bfp.h"
#include "accel/units/tr.h"
#include "common/error.h"

enum sl_tool_unit { SL_TOOL_FP32, SL_TOOL_FAST, SL_TOOL_TR, SL_TOOL_RTN };

/* --unit, which has to be there. */
enum sl_code sl_tool_unit(const struct sl_tool_options *o, enum sl_tool_unit *ret,
                          struct sl_err *err);
const char *sl_tool_unit_name(enum sl_tool_unit u);

/* --bits-w, --bits-x, --g, --k, --s, --enc over the unit's defaults; checked. */
enum sl_code sl_tool_tr_options(const struct sl_tool_options *o,
                                struct sl_tr_options *ret, struct sl_err *err);

/* --g and --e, and a width, rounding and key by the options given; checked, but for the
 * bytes of given noise. */
enum sl_code sl_tool_bfp_options(const struct sl_tool_options *o, enum sl_tool_option m,
                                 enum sl_tool_option round, enum sl_tool_option key,
                                 struct sl_bfp_options *ret, struct sl_err *err);

#endif
