/* SPDX-License-Identifier: Apache-2.0 */
/* attacker.h - an attacker's desk beside a bench: honest updates go in as a client would
 * send them, what is sent instead comes out in the same encoding. Owns: its vectors.
 * Borrows: attack, codec. Thread: one. */
#ifndef SL_SIM_ATTACKER_H
#define SL_SIM_ATTACKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "accel/codec/codec.h"
#include "common/error.h"
#include "sim/attack/attack.h"

struct sl_attacker {
    const struct sl_attack *attack;
    const struct sl_codec *codec;
    float *update, *one; /* [n_values] own; the one at hand */
    float *mean, *sd;    /* [n_values] over the attackers; NULL unless it colludes. sd:
                            squared deviations until all are there */
    uint32_t n_seen;     /* attackers in mean */
    uint8_t *bytes;      /* [codec->n_bytes] what is sent */
};

enum sl_code sl_attacker_init(struct sl_attacker *a, const struct sl_attack *attack,
                              const struct sl_codec *codec, struct sl_err *err);
void sl_attacker_deinit(struct sl_attacker *a); /* NULL, {0} allowed */

/* Before the updates of a task. */
void sl_attacker_begin(struct sl_attacker *a);
/* An update that an attacker would have sent; own: the one of this attacker. Others only
 * when attack->ops->colludes. SL_E_REJECTED for bytes that no encoder writes. */
enum sl_code sl_attacker_add(struct sl_attacker *a, const uint8_t *bytes, bool own,
                             struct sl_err *err);
/* What is sent: codec->n_bytes, borrowed until the next begin. SL_E_FAILED when it is not
 * finite. */
enum sl_code sl_attacker_send(struct sl_attacker *a, const struct sl_codec_noise *noise,
                              const uint8_t **ret, struct sl_err *err);

#endif
