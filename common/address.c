/* SPDX-License-Identifier: Apache-2.0 */
#include "common/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

static bool parse_port(const char *text, in_port_t *ret)
{
    size_t n = strlen(text);
    if (n == 0 || n > 5 || strspn(text, "0123456789") != n || atoi(text) > 65535)
        return false;
    *ret = htons((uint16_t)atoi(text));
    return true;
}

bool sl_address_parse(const char *text, struct sockaddr_storage *ret)
{
    char host[SL_ADDRESS_TEXT];
    const char *colon = strrchr(text, ':');
    in_port_t port;
    if (colon == NULL || (size_t)(colon - text) >= sizeof(host) || !parse_port(colon + 1, &port))
        return false;
    size_t n = (size_t)(colon - text);
    memcpy(host, text, n);
    host[n] = '\0';
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = port};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = port};
    if (inet_pton(AF_INET, host, &v4.sin_addr) == 1) {
        *ret = (struct sockaddr_storage){0};
        memcpy(ret, &v4, sizeof(v4));
        return true;
    }
    if (n < 2 || host[0] != '[' || host[n - 1] != ']')
        return false;
    host[n - 1] = '\0';
    if (inet_pton(AF_INET6, host + 1, &v6.sin6_addr) != 1)
        return false;
    *ret = (struct sockaddr_storage){0};
    memcpy(ret, &v6, sizeof(v6));
    return true;
}
