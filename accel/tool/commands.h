/* SPDX-License-Identifier: Apache-2.0 */
/* commands.h - the verbs of starling-accel, one file each. They print to stdout, and
 * return the code that the program ends with; err has the one line to print when it is
 * not SL_OK (an empty one: everything has been said). cpu: kernels that may be used.
 * Thread: main. */
#ifndef SL_ACCEL_TOOL_COMMANDS_H
#define SL_ACCEL_TOOL_COMMANDS_H

#include <stdint.h>

#include "accel/tool/options.h"
#include "common/error.h"

/* Golden vectors of a folder. SL_E_FAILED when a case differs. Runs all kernels. */
enum sl_code sl_tool_check(const struct sl_tool_options *o, uint32_t cpu,
                           struct sl_err *err);
enum sl_code sl_tool_quantize(const struct sl_tool_options *o, uint32_t cpu,
                              struct sl_err *err);
enum sl_code sl_tool_matmul(const struct sl_tool_options *o, uint32_t cpu,
                            struct sl_err *err);
enum sl_code sl_tool_info(const struct sl_tool_options *o, uint32_t cpu,
                          struct sl_err *err);
enum sl_code sl_tool_cost(const struct sl_tool_options *o, uint32_t cpu,
                          struct sl_err *err);

#endif
