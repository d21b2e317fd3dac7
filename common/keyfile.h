/* SPDX-License-Identifier: Apache-2.0 */
/* keyfile.h - identities on disk. A key file is two lines, mode 0600:
 *
 *     starling identity v1
 *     <64 hex digits: the X25519 secret>
 *
 * The public key is what peers pin, 64 hex digits. Thread: any. */
#ifndef SL_COMMON_KEYFILE_H
#define SL_COMMON_KEYFILE_H

#include <stdint.h>

#include "common/error.h"

#define SL_KEYFILE_KEY 32
#define SL_KEYFILE_HEX (2 * SL_KEYFILE_KEY + 1) /* with the closing zero */

/* Writes a new key file, whole or not at all. SL_E_EXISTS when there is something at the
 * path. */
enum sl_code sl_keyfile_create(const char *path, const uint8_t secret[SL_KEYFILE_KEY],
                               struct sl_err *err);

/* Draws a secret from the operating system and writes it as sl_keyfile_create. */
enum sl_code sl_keyfile_generate(const char *path, uint8_t ret_secret[SL_KEYFILE_KEY],
                                 struct sl_err *err);

/* SL_E_NOTFOUND, SL_E_INPUT (not a regular file, other people can read it, other
 * content). */
enum sl_code sl_keyfile_read(const char *path, uint8_t ret_secret[SL_KEYFILE_KEY],
                             struct sl_err *err);

/* The public key of a secret, and as hex. */
void sl_keyfile_public(const uint8_t secret[SL_KEYFILE_KEY],
                       uint8_t ret_public[SL_KEYFILE_KEY]);
void sl_key_format(const uint8_t key[SL_KEYFILE_KEY], char ret_hex[SL_KEYFILE_HEX]);

/* Reads a public key as people write it in a config: 64 hex digits. SL_E_INPUT otherwise,
 * also for points of low order, which no key pair has. */
enum sl_code sl_key_parse(const char *text, uint8_t ret_key[SL_KEYFILE_KEY],
                          struct sl_err *err);

#endif
