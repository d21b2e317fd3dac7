/* SPDX-License-Identifier: Apache-2.0 */
/* Input: a text that people hand around: as join token, as public key and as key file it
 * is read or refused in one line, and what is read has one text, which reads back. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/join_token.h"
#include "common/keyfile.h"
#include "tests/fuzz/files.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_token(const char *text)
{
    struct sl_join_token t, again;
    struct sl_err err;
    char out[SL_JOIN_TOKEN_TEXT];
    enum sl_code rc = sl_join_token_parse(text, &t, &err);
    fuzz_check_line(rc, &err);
    if (rc != SL_OK)
        return;
    sl_join_token_format(&t, out);
    fuzz_must(strlen(out) == SL_JOIN_TOKEN_TEXT - 1 && strcasestr(text, out) != NULL);
    fuzz_must(sl_join_token_parse(out, &again, NULL) == SL_OK &&
              memcmp(&t, &again, sizeof(t)) == 0);
}

static void check_public_key(const char *text)
{
    uint8_t key[SL_KEYFILE_KEY], again[SL_KEYFILE_KEY];
    struct sl_err err;
    char out[SL_KEYFILE_HEX];
    enum sl_code rc = sl_key_parse(text, key, &err);
    fuzz_check_line(rc, &err);
    if (rc != SL_OK)
        return;
    sl_key_format(key, out);
    fuzz_must(strcasecmp(out, text) == 0 && sl_key_parse(out, again, NULL) == SL_OK &&
              memcmp(key, again, sizeof(key)) == 0);
}

/* A secret that was read is written to a new file, which is never overwritten. */
static void check_secret(const struct fuzz_folder *folder,
                         const uint8_t secret[SL_KEYFILE_KEY])
{
    char path[300];
    uint8_t again[SL_KEYFILE_KEY], pub[SL_KEYFILE_KEY], other[SL_KEYFILE_KEY];
    struct sl_err err;
    snprintf(path, sizeof(path), "%s/new", folder->path);
    fuzz_must(sl_keyfile_create(path, secret, NULL) == SL_OK &&
              sl_keyfile_read(path, again, NULL) == SL_OK &&
              memcmp(secret, again, sizeof(again)) == 0);
    enum sl_code rc = sl_keyfile_generate(path, other, &err);
    fuzz_check_line(rc, &err);
    fuzz_must(rc == SL_E_EXISTS);
    sl_keyfile_public(secret, pub);
    sl_keyfile_public(again, other);
    fuzz_must(memcmp(pub, other, sizeof(pub)) == 0);
}

static void check_keyfile(const uint8_t *data, size_t size)
{
    struct fuzz_folder folder;
    char path[300];
    uint8_t secret[SL_KEYFILE_KEY];
    struct sl_err err;
    fuzz_folder_open(&folder);
    fuzz_folder_put(&folder, "key", data, size);
    snprintf(path, sizeof(path), "%s/key", folder.path);
    enum sl_code rc = sl_keyfile_read(path, secret, &err);
    fuzz_check_line(rc, &err);
    if (rc == SL_OK)
        check_secret(&folder, secret);
    rc = sl_keyfile_read(folder.path, secret, &err); /* no file */
    fuzz_check_line(rc, &err);
    fuzz_must(rc == SL_E_INPUT);
    fuzz_folder_close(&folder);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    fuzz_must(text != NULL);
    if (size > 0)
        memcpy(text, data, size);
    text[size] = '\0';
    check_token(text);
    check_public_key(text);
    check_keyfile(data, size);
    free(text);
    return 0;
}
