/* SPDX-License-Identifier: Apache-2.0 */
/* ctl.h - what the files of starlingctl share. */
#ifndef SL_SERVER_CTL_CTL_H
#define SL_SERVER_CTL_CTL_H

#include <stdbool.h>
#include <stdint.h>

#include "server/ctl/link.h"

struct sl_ctl_options {
    const char *socket;
    const char *out;   /* -o */
    const char *svg;   /* --svg */
    const char *name;  /* --name */
    const char *key;   /* --key */
    const char **sets; /* --set, repeated */
    size_t n_sets;
    int64_t index, run, seed; /* -1 = not given */
    bool json, quiet, best;
    char **args; /* what follows the command */
    int n_args;
};

/* Follows a run (0 = the newest) until it ends: a table that is redrawn on a terminal, a line a
 * round otherwise, and at the end the learning curve. SL_E_FAILED when the run failed. */
enum sl_code sl_ctl_watch(struct sl_ctl_link *l, const struct sl_ctl_options *o,
                          struct sl_err *err);

#endif
