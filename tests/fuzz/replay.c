/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a fuzz target once over every file of its corpus (and over the empty input), without
 * libFuzzer: any compiler, any sanitizer. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int run_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (f == NULL) {
        perror(path);
        return -1;
    }
    struct stat st;
    if (fstat(fileno(f), &st) != 0 || !S_ISREG(st.st_mode)) {
        fclose(f);
        return 0;
    }
    size_t n = (size_t)st.st_size;
    uint8_t *data = malloc(n == 0 ? 1 : n); /* exact size: sanitizers see a read beyond */
    if (data == NULL || fread(data, 1, n, f) != n) {
        fprintf(stderr, "%s: can't be read\n", path);
        free(data);
        fclose(f);
        return -1;
    }
    fclose(f);
    LLVMFuzzerTestOneInput(data, n);
    free(data);
    return 1;
}

int main(int argc, char **argv)
{
    int n_run = 0;
    LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
    for (int i = 1; i < argc; i++) {
        DIR *d = opendir(argv[i]);
        if (d == NULL) {
            perror(argv[i]);
            return 1;
        }
        for (struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
            char path[4096];
            snprintf(path, sizeof(path), "%s/%s", argv[i], e->d_name);
            int rc = run_file(path);
            if (rc < 0)
                return 1;
            n_run += rc;
        }
        closedir(d);
    }
    if (n_run == 0) {
        fprintf(stderr, "no inputs: the corpus is empty\n");
        return 1;
    }
    printf("%d inputs\n", n_run);
    return 0;
}
