/* SPDX-License-Identifier: Apache-2.0 */
#include "common/file.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <signal.h>
#include <unistd.h>

#include <cmocka.h>

#define PATH_BYTES 320

struct folder {
    char path[32];
};

static struct folder new_folder(void)
{
    struct folder f = {"/tmp/sl_file_XXXXXX"};
    assert_non_null(mkdtemp(f.path));
    return f;
}

static const char *in(const struct folder *f, const char *name, char path[PATH_BYTES])
{
    snprintf(path, PATH_BYTES, "%s/%s", f->path, name);
    return path;
}

/* Entries of the folder, hidden ones too. */
static size_t count_entries(const struct folder *f)
{
    DIR *d = opendir(f->path);
    assert_non_null(d);
    size_t n = 0;
    for (struct dirent *e = readdir(d); e != NULL; e = readdir(d))
        n += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
    closedir(d);
    return n;
}

static void assert_holds(const char *path, const void *want, size_t n)
{
    uint8_t *got;
    size_t got_n;
    assert_int_equal(sl_file_read(path, 1u << 24, &got, &got_n, NULL), SL_OK);
    assert_int_equal(got_n, n);
    if (n > 0)
        assert_memory_equal(got, want, n);
    assert_int_equal(got[n], 0);
    free(got);
}

static void a_written_file_reads_back_and_stands_alone(void **state)
{
    struct folder f = new_folder();
    char path[PATH_BYTES];
    in(&f, "a", path);
    static uint8_t large[300000];
    for (size_t i = 0; i < sizeof(large); i++)
        large[i] = (uint8_t)(i * 7);
    for (int sync = 0; sync < 2; sync++) {
        assert_int_equal(sl_file_write_atomic(path, large, sizeof(large), sync, NULL),
                         SL_OK);
        assert_holds(path, large, sizeof(large));
        assert_int_equal(sl_file_write_atomic(path, "new", 3, sync, NULL), SL_OK);
        assert_holds(path, "new", 3);
        assert_int_equal(sl_file_write_atomic(path, NULL, 0, sync, NULL), SL_OK);
        assert_holds(path, "", 0);
    }
    assert_int_equal(count_entries(&f), 1);
    unlink(path);
    rmdir(f.path);
}

static void a_file_in_the_working_folder_needs_no_slash(void **state)
{
    struct folder f = new_folder();
    char here[1024], path[PATH_BYTES];
    assert_non_null(getcwd(here, sizeof(here)));
    assert_int_equal(chdir(f.path), 0);
    assert_int_equal(sl_file_write_atomic("plain", "x", 1, true, NULL), SL_OK);
    assert_int_equal(chdir(here), 0);
    assert_holds(in(&f, "plain", path), "x", 1);
    unlink(path);
    rmdir(f.path);
}

static void names_of_full_length_can_be_written(void **state)
{
    struct folder f = new_folder();
    char name[256], path[PATH_BYTES];
    memset(name, 'n', 255);
    name[255] = '\0';
    in(&f, name, path);
    assert_int_equal(sl_file_write_atomic(path, "x", 1, false, NULL), SL_OK);
    assert_holds(path, "x", 1);
    unlink(path);
    rmdir(f.path);
}

static void the_limit_is_the_largest_file_that_is_read(void **state)
{
    struct folder f = new_folder();
    char path[PATH_BYTES];
    in(&f, "a", path);
    assert_int_equal(sl_file_write_atomic(path, "12345", 5, false, NULL), SL_OK);
    uint8_t *got = NULL;
    size_t n = 99;
    struct sl_err err;
    assert_int_equal(sl_file_read(path, 4, &got, &n, &err), SL_E_LIMIT);
    assert_non_null(strstr(err.msg, "larger than the 4 bytes allowed"));
    assert_null(got);
    assert_int_equal(n, 99);
    assert_int_equal(sl_file_read(path, 5, &got, &n, &err), SL_OK);
    assert_int_equal(n, 5);
    free(got);
    unlink(path);
    rmdir(f.path);
}

static void files_that_tell_no_size_are_read_to_their_end(void **state)
{
    uint8_t *got = NULL;
    size_t n = 0;
    struct sl_err err;
    assert_int_equal(sl_file_read("/proc/self/status", 1u << 20, &got, &n, &err), SL_OK);
    assert_in_range(n, 100, 1u << 20);
    free(got);
    assert_int_equal(sl_file_read("/proc/self/status", 10, &got, &n, &err), SL_E_LIMIT);
    assert_int_equal(sl_file_read("/dev/zero", 200000, &got, &n, &err), SL_E_LIMIT);
    assert_int_equal(sl_file_read("/dev/null", 0, &got, &n, &err), SL_OK);
    assert_int_equal(n, 0);
    free(got);
}

static void what_cannot_be_read_names_its_path(void **state)
{
    uint8_t *got;
    size_t n;
    struct sl_err err;
    assert_int_equal(sl_file_read("/nowhere/x", 10, &got, &n, &err), SL_E_NOTFOUND);
    assert_string_equal(err.msg, "/nowhere/x: No such file or directory");
    assert_int_equal(sl_file_read("/tmp", 1u << 20, &got, &n, &err), SL_E_IO);
}

static void a_write_that_fails_leaves_nothing(void **state)
{
    struct folder f = new_folder();
    struct sl_err err;
    char path[PATH_BYTES], inside[PATH_BYTES];
    assert_int_equal(sl_file_write_atomic("/nowhere/x", "x", 1, true, &err),
                     SL_E_NOTFOUND);
    assert_int_equal(mkdir(in(&f, "dir", path), 0700), 0); /* can't be renamed over */
    assert_int_equal(mkdir(in(&f, "dir/full", inside), 0700), 0);
    assert_int_equal(sl_file_write_atomic(path, "x", 1, true, &err), SL_E_IO);
    assert_int_equal(count_entries(&f), 1);
    rmdir(inside);
    rmdir(path);
    rmdir(f.path);
}

/* A file system of a few pages, mounted for this process alone; false where that is not
 * allowed. */
static bool mount_small(const struct folder *f)
{
    return geteuid() == 0 && unshare(CLONE_NEWNS) == 0 &&
           mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount("tmpfs", f->path, "tmpfs", 0, "size=64k") == 0;
}

static void a_full_disk_keeps_the_old_file(void **state)
{
    struct folder f = new_folder();
    if (!mount_small(&f)) {
        rmdir(f.path);
        skip();
    }
    static uint8_t large[100000];
    char path[PATH_BYTES];
    struct sl_err err;
    in(&f, "a", path);
    assert_int_equal(sl_file_write_atomic(path, "old", 3, true, &err), SL_OK);
    for (int sync = 0; sync < 2; sync++) {
        assert_int_equal(sl_file_write_atomic(path, large, sizeof(large), sync, &err),
                         SL_E_NOSPACE);
        assert_non_null(strstr(err.msg, "No space left"));
        assert_int_equal(count_entries(&f), 1);
        assert_holds(path, "old", 3);
    }
    int fd = open(path, O_RDWR);
    assert_int_equal(sl_file_pwrite(fd, path, large, sizeof(large), 0, &err),
                     SL_E_NOSPACE);
    close(fd);
    assert_int_equal(umount(f.path), 0);
    rmdir(f.path);
}

static void a_file_size_limit_is_an_error_that_leaves_nothing(void **state)
{
    struct folder f = new_folder();
    char path[PATH_BYTES];
    in(&f, "a", path);
    static uint8_t large[100000];
    pid_t child = fork();
    if (child == 0) {
        const struct rlimit small = {4096, 4096};
        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &small);
        struct sl_err err;
        _exit(sl_file_write_atomic(path, large, sizeof(large), false, &err) == SL_E_IO
                  ? 0
                  : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_int_equal(count_entries(&f), 0);
    rmdir(f.path);
}

static void pieces_are_read_and_written_whole(void **state)
{
    struct folder f = new_folder();
    char path[PATH_BYTES], got[6];
    struct sl_err err;
    in(&f, "a", path);
    int fd = open(path, O_RDWR | O_CREAT, 0600);
    assert_int_equal(sl_file_pwrite(fd, path, "abcdef", 6, 10, &err), SL_OK);
    assert_int_equal(sl_file_pread(fd, path, got, 6, 10, &err), SL_OK);
    assert_memory_equal(got, "abcdef", 6);
    assert_int_equal(sl_file_pread(fd, path, got, 6, 11, &err), SL_E_INPUT);
    assert_non_null(strstr(err.msg, "ends 1 bytes too early"));
    assert_int_equal(sl_file_pread(fd, path, got, 0, 1000, &err), SL_OK);
    assert_int_equal(sl_file_pread(fd, path, got, 6, UINT64_MAX - 2, &err), SL_E_RANGE);
    assert_int_equal(sl_file_pwrite(fd, path, got, 6, INT64_MAX, &err), SL_E_RANGE);
    close(fd);
    fd = open(path, O_RDONLY);
    assert_int_equal(sl_file_pwrite(fd, path, "x", 1, 0, &err), SL_E_IO);
    close(fd);
    unlink(path);
    rmdir(f.path);
}

static void a_lock_is_held_once_and_ends_with_its_descriptor(void **state)
{
    struct folder f = new_folder();
    char path[PATH_BYTES];
    struct sl_err err;
    int fd = -1, second = -1;
    in(&f, "lock", path);
    assert_int_equal(sl_file_lock(path, &fd, &err), SL_OK);
    assert_int_equal(sl_file_lock(path, &second, &err), SL_E_EXISTS);
    assert_non_null(strstr(err.msg, "in use by another process"));
    assert_int_equal(second, -1);
    close(fd);
    assert_int_equal(sl_file_lock(path, &fd, &err), SL_OK);
    close(fd);
    assert_int_equal(sl_file_lock("/nowhere/lock", &fd, &err), SL_E_NOTFOUND);
    unlink(path);
    rmdir(f.path);
}

static void folders_are_made_with_those_above_them(void **state)
{
    struct folder f = new_folder();
    char path[PATH_BYTES], file[PATH_BYTES];
    struct sl_err err;
    struct stat st;
    in(&f, "a/b//c/", path);
    assert_int_equal(sl_dir_make(path, 0700, &err), SL_OK);
    assert_int_equal(sl_dir_make(path, 0700, &err), SL_OK);
    assert_int_equal(stat(path, &st), 0);
    assert_true(S_ISDIR(st.st_mode) && (st.st_mode & 0777) == 0700);
    assert_int_equal(sl_dir_sync(path, &err), SL_OK);
    assert_int_equal(sl_dir_sync("/nowhere", &err), SL_E_NOTFOUND);

    in(&f, "a/file", file);
    assert_int_equal(sl_file_write_atomic(file, "x", 1, false, &err), SL_OK);
    assert_int_equal(sl_dir_make(file, 0700, &err), SL_E_IO);
    assert_int_equal(sl_dir_make(in(&f, "a/file/deep", path), 0700, &err), SL_E_IO);
    assert_int_equal(sl_dir_sync(file, &err), SL_E_IO);
    assert_int_equal(sl_dir_make("", 0700, &err), SL_E_RANGE);
    unlink(file);
    rmdir(in(&f, "a/b/c", path));
    rmdir(in(&f, "a/b", path));
    rmdir(in(&f, "a", path));
    assert_int_equal(rmdir(f.path), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_written_file_reads_back_and_stands_alone),
        cmocka_unit_test(a_file_in_the_working_folder_needs_no_slash),
        cmocka_unit_test(names_of_full_length_can_be_written),
        cmocka_unit_test(the_limit_is_the_largest_file_that_is_read),
        cmocka_unit_test(files_that_tell_no_size_are_read_to_their_end),
        cmocka_unit_test(what_cannot_be_read_names_its_path),
        cmocka_unit_test(a_write_that_fails_leaves_nothing),
        cmocka_unit_test(a_full_disk_keeps_the_old_file),
        cmocka_unit_test(a_file_size_limit_is_an_error_that_leaves_nothing),
        cmocka_unit_test(pieces_are_read_and_written_whole),
        cmocka_unit_test(a_lock_is_held_once_and_ends_with_its_descriptor),
        cmocka_unit_test(folders_are_made_with_those_above_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
