/* SPDX-License-Identifier: Apache-2.0 */
#include "common/keyfile.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/hash.h"

#define HEADER "starling identity v1\n"
#define HEADER_CHARS (sizeof(HEADER) - 1)
#define FILE_CHARS (HEADER_CHARS + 2 * SL_KEYFILE_KEY + 1)

static enum sl_code write_all(int fd, const char *text, size_t n, const char *path,
                              struct sl_err *err)
{
    while (n > 0) {
        ssize_t w = write(fd, text, n);
        if (w < 0 && errno == EINTR)
            continue;
        if (w <= 0)
            return sl_err_errno(err, w < 0 ? errno : EIO, "key file %s", path);
        text += w;
        n -= (size_t)w;
    }
    return fsync(fd) == 0 ? SL_OK : sl_err_errno(err, errno, "key file %s", path);
}

/* link() does not replace what is there, unlike rename(). */
static enum sl_code put_in_place(const char *temp, const char *path, struct sl_err *err)
{
    if (link(temp, path) == 0)
        return SL_OK;
    if (errno == EEXIST)
        return sl_err_set(err, SL_E_EXISTS,
                          "key file %s: exists already; it is never overwritten", path);
    return sl_err_errno(err, errno, "key file %s", path);
}

enum sl_code sl_keyfile_create(const char *path, const uint8_t secret[SL_KEYFILE_KEY],
                               struct sl_err *err)
{
    char temp[4096], text[FILE_CHARS + 1];
    int n = snprintf(temp, sizeof(temp), "%s.%ld.tmp", path, (long)getpid());
    if (n < 0 || (size_t)n >= sizeof(temp))
        return sl_err_set(err, SL_E_INPUT, "key file: path too long");
    unlink(temp); /* of an earlier process with this number that was killed */
    int fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return sl_err_errno(err, errno, "key file %s", path);
    memcpy(text, HEADER, HEADER_CHARS);
    sl_hex(secret, SL_KEYFILE_KEY, text + HEADER_CHARS);
    text[FILE_CHARS - 1] = '\n';
    enum sl_code rc = write_all(fd, text, FILE_CHARS, path, err);
    sodium_memzero(text, sizeof(text));
    close(fd);
    if (rc == SL_OK)
        rc = put_in_place(temp, path, err);
    unlink(temp);
    return rc;
}

enum sl_code sl_keyfile_generate(const char *path, uint8_t ret_secret[SL_KEYFILE_KEY],
                                 struct sl_err *err)
{
    uint8_t secret[SL_KEYFILE_KEY];
    randombytes_buf(secret, sizeof(secret));
    enum sl_code rc = sl_keyfile_create(path, secret, err);
    if (rc == SL_OK)
        memcpy(ret_secret, secret, sizeof(secret));
    sodium_memzero(secret, sizeof(secret));
    return rc;
}

static enum sl_code check_file(int fd, const char *path, struct sl_err *err)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return sl_err_errno(err, errno, "key file %s", path);
    if (!S_ISREG(st.st_mode))
        return sl_err_set(err, SL_E_INPUT, "key file %s: not a regular file", path);
    if ((st.st_mode & 077) != 0)
        return sl_err_set(err, SL_E_INPUT,
                          "key file %s: mode %04o lets other people in; chmod 600 it",
                          path, (unsigned)(st.st_mode & 07777));
    return SL_OK;
}

static enum sl_code read_secret(int fd, const char *path,
                                uint8_t ret_secret[SL_KEYFILE_KEY], struct sl_err *err)
{
    char text[FILE_CHARS + 1];
    uint8_t secret[SL_KEYFILE_KEY];
    size_t n = 0;
    ssize_t r = 1;
    while (n < sizeof(text) && r != 0) {
        r = read(fd, text + n, sizeof(text) - n);
        if (r < 0 && errno != EINTR)
            return sl_err_errno(err, errno, "key file %s", path);
        n += r > 0 ? (size_t)r : 0;
    }
    bool good = n == FILE_CHARS && memcmp(text, HEADER, HEADER_CHARS) == 0 &&
                text[FILE_CHARS - 1] == '\n';
    if (good) {
        text[FILE_CHARS - 1] = '\0';
        good = sl_unhex(text + HEADER_CHARS, SL_KEYFILE_KEY, secret);
    }
    if (good)
        memcpy(ret_secret, secret, sizeof(secret));
    sodium_memzero(secret, sizeof(secret));
    sodium_memzero(text, sizeof(text));
    return good
               ? SL_OK
               : sl_err_set(
                     err, SL_E_INPUT,
                     "key file %s: expected the line \"starling identity v1\" and a line "
                     "of 64 hex digits",
                     path);
}

enum sl_code sl_keyfile_read(const char *path, uint8_t ret_secret[SL_KEYFILE_KEY],
                             struct sl_err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return sl_err_errno(err, errno, "key file %s", path);
    enum sl_code rc = check_file(fd, path, err);
    if (rc == SL_OK)
        rc = read_secret(fd, path, ret_secret, err);
    close(fd);
    return rc;
}

void sl_keyfile_public(const uint8_t secret[SL_KEYFILE_KEY],
                       uint8_t ret_public[SL_KEYFILE_KEY])
{
    crypto_scalarmult_base(ret_public, secret);
}

void sl_key_format(const uint8_t key[SL_KEYFILE_KEY], char ret_hex[SL_KEYFILE_HEX])
{
    sl_hex(key, SL_KEYFILE_KEY, ret_hex);
}

enum sl_code sl_key_parse(const char *text, uint8_t ret_key[SL_KEYFILE_KEY],
                          struct sl_err *err)
{
    uint8_t key[SL_KEYFILE_KEY], shared[SL_KEYFILE_KEY];
    static const uint8_t any_secret[SL_KEYFILE_KEY] = {64};
    if (!sl_unhex(text, SL_KEYFILE_KEY, key))
        return sl_err_set(err, SL_E_INPUT, "public key: expected 64 hex digits");
    if (crypto_scalarmult(shared, any_secret, key) != 0)
        return sl_err_set(err, SL_E_INPUT, "public key: a point of low order, not a key");
    memcpy(ret_key, key, sizeof(key));
    return SL_OK;
}
