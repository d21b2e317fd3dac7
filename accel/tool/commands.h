/* SPDX-License-Identifier: Apache-2.0 */
/* commands.h - the verbs of starling-accel, one file each. They print to stdout, and
 * return the code that the program ends with; err has the one line to print when it is
 * not SL_OK (an empty one: everything has been said). Thread: main. */
#ifndef SL_ACCEL_TOOL_COMMANDS_H
#define SL_ACCEL_TOOL_COMMANDS_H

#include "accel/tool/options.h"
#include "common/error.h"

/* Golden vectors of a folder. SL_E_FAILED when a case differs. */
enum sl_code sl_tool_check(const struct sl_tool_options *o, struct sl_err *err);

#endif
