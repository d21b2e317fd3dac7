/* SPDX-License-Identifier: Apache-2.0 */
/* commands.h - the verbs of starling-sim, one file each. They print to stdout, and return
 * the code that the program ends with; err has the one line to print when it is not
 * SL_OK. Thread: main. */
#ifndef SL_SIM_COMMANDS_H
#define SL_SIM_COMMANDS_H

#include "common/error.h"
#include "sim/options.h"

enum sl_code sl_command_run(const struct sl_sim_options *o, struct sl_err *err);
enum sl_code sl_command_partition(const struct sl_sim_options *o, struct sl_err *err);
/* SL_E_FAILED without a message when a case failed: it has been printed. */
enum sl_code sl_command_check(const struct sl_sim_options *o, struct sl_err *err);

enum sl_code sl_command_experiment(const struct sl_sim_options *o, struct sl_err *err);
enum sl_code sl_command_train_policy(const struct sl_sim_options *o, struct sl_err *err);

#endif
