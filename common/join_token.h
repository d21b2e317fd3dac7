/* SPDX-License-Identifier: Apache-2.0 */
/* join_token.h - what an operator hands to a new client: "sljt1-" and the base32 (lower
 * case, a-z2-7, no padding) of
 *
 *     0                  32         48    80             84
 *     | coordinator key  | token id | psk | checksum     |
 *
 * The checksum is the first 4 bytes of BLAKE2b-256 over the 80 before it: it catches
 * typing and cutting errors, nothing else. Thread: any. */
#ifndef SL_COMMON_JOIN_TOKEN_H
#define SL_COMMON_JOIN_TOKEN_H

#include <stdint.h>

#include "common/error.h"

#define SL_JOIN_TOKEN_TEXT (6 + 135 + 1) /* with the closing zero */

struct sl_join_token {
    uint8_t server[32]; /* the coordinator's public key */
    uint8_t id[16];
    uint8_t psk[32];
};

void sl_join_token_format(const struct sl_join_token *t,
                          char ret_text[SL_JOIN_TOKEN_TEXT]);

/* Surrounding white space and upper case are allowed. SL_E_INPUT says what is wrong,
 * without repeating the token. */
enum sl_code sl_join_token_parse(const char *text, struct sl_join_token *ret,
                                 struct sl_err *err);

#endif
