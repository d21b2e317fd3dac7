/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fuzz/files.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>

#define GZIP_WINDOW (9 + 16) /* zlib: smallest window, gzip wrapper */

void fuzz_must(bool promise)
{
    if (!promise)
        abort();
}

void fuzz_check_line(enum sl_code rc, const struct sl_err *err)
{
    if (rc != SL_OK)
        fuzz_must(err->code == rc && err->msg[0] != '\0' &&
                  memchr(err->msg, '\0', SL_ERR_MAX) != NULL &&
                  strchr(err->msg, '\n') == NULL);
}

size_t fuzz_set_lines(const uint8_t *data, size_t size,
                      char ret[FUZZ_SETS][FUZZ_SET_BYTES])
{
    size_t n = 0;
    while (n < FUZZ_SETS && size > 5 && memcmp(data, "#set ", 5) == 0) {
        const uint8_t *nl = memchr(data, '\n', size);
        size_t line = nl != NULL ? (size_t)(nl - data) : size, text = line - 5;
        if (text >= FUZZ_SET_BYTES)
            break;
        memcpy(ret[n], data + 5, text);
        ret[n++][text] = '\0';
        line += nl != NULL;
        data += line;
        size -= line;
    }
    return n;
}

/* The file system let us down. */
static void give_up(const char *what)
{
    perror(what);
    abort();
}

static void write_all(int fd, const uint8_t *bytes, size_t n, const char *path)
{
    while (n > 0) {
        ssize_t put = write(fd, bytes, n);
        if (put <= 0)
            give_up(path);
        bytes += put;
        n -= (size_t)put;
    }
}

void fuzz_file_open(struct fuzz_file *f, const void *bytes, size_t n)
{
    f->fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (f->fd < 0)
        give_up("memfd_create");
    snprintf(f->path, sizeof(f->path), "/proc/self/fd/%d", f->fd);
    write_all(f->fd, bytes, n, f->path);
}

void fuzz_file_close(struct fuzz_file *f)
{
    close(f->fd);
}

void fuzz_folder_open(struct fuzz_folder *d)
{
    const char *in = getenv("TMPDIR");
    snprintf(d->path, sizeof(d->path), "%s/fuzz-XXXXXX",
             in != NULL && in[0] != '\0' && strlen(in) < 200 ? in : "/dev/shm");
    if (mkdtemp(d->path) == NULL)
        give_up(d->path);
}

void fuzz_folder_put(const struct fuzz_folder *d, const char *name, const void *bytes,
                     size_t n)
{
    char path[512];
    snprintf(path, sizeof(path), "%s/%s", d->path, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        give_up(path);
    write_all(fd, bytes, n, path);
    close(fd);
}

void fuzz_folder_put_gzip(const struct fuzz_folder *d, const char *name,
                          const void *bytes, size_t n)
{
    const uint8_t *magic = bytes;
    if (n >= 2 && magic[0] == 0x1f && magic[1] == 0x8b) {
        fuzz_folder_put(d, name, bytes, n);
        return;
    }
    z_stream z = {.next_in = (Bytef *)(uintptr_t)bytes, .avail_in = (uInt)n};
    if (deflateInit2(&z, 1, Z_DEFLATED, GZIP_WINDOW, 1, Z_DEFAULT_STRATEGY) != Z_OK)
        give_up("deflateInit2");
    size_t room = deflateBound(&z, (uLong)n);
    uint8_t *packed = malloc(room);
    z.next_out = packed;
    z.avail_out = (uInt)room;
    fuzz_must(packed != NULL && deflate(&z, Z_FINISH) == Z_STREAM_END);
    fuzz_folder_put(d, name, packed, room - z.avail_out);
    deflateEnd(&z);
    free(packed);
}

void fuzz_folder_close(struct fuzz_folder *d)
{
    DIR *list = opendir(d->path);
    if (list == NULL)
        give_up(d->path);
    for (struct dirent *e = readdir(list); e != NULL; e = readdir(list))
        if (e->d_name[0] != '.')
            unlinkat(dirfd(list), e->d_name, 0);
    closedir(list);
    if (rmdir(d->path) != 0)
        give_up(d->path);
}
