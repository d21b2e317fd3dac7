/* SPDX-License-Identifier: Apache-2.0 */
/* address.h - numeric internet addresses with a port. No names are looked up. */
#ifndef SL_COMMON_ADDRESS_H
#define SL_COMMON_ADDRESS_H

#include <stdbool.h>
#include <sys/socket.h>

#define SL_ADDRESS_TEXT 64 /* with the closing zero */

/* "127.0.0.1:8080" or "[::1]:8080", port 0 to 65535; ret is untouched when text is neither. */
bool sl_address_parse(const char *text, struct sockaddr_storage *ret);

#endif
