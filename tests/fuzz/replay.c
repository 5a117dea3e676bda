/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Runs a fuzz harness over a corpus: each file given, or in a directory given,
 * and each start of it, as inputs cut short are the classic of parsers.
 *
 * Every input lies in a heap block of exactly its size, so that sanitizers and
 * valgrind see a byte read too much.  That nothing was found to run is an
 * error: a test that tests nothing shall not pass. */
#include "tests/fuzz/fuzz.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"

enum { LARGEST_FILE = 1024 * 1024 };

static void fail(const char *what, const char *path)
{
    fprintf(stderr, "replay: %s %s: %s\n", what, path, strerror(errno));
    exit(EXIT_FAILURE);
}

static void run_start(const uint8_t *data, size_t size)
{
    _cleanup_free_ uint8_t *copy = malloc(size ? size : 1);

    if (!copy)
        fail("allocate", "an input");
    memcpy(copy, data, size);
    LLVMFuzzerTestOneInput(copy, size);
}

static void run_file(const char *path)
{
    _cleanup_free_ uint8_t *data = malloc(LARGEST_FILE);
    FILE *file = fopen(path, "rb");

    if (!file || !data)
        fail("open", path);

    size_t size = fread(data, 1, LARGEST_FILE, file);

    if (ferror(file))
        fail("read", path);
    fclose(file);
    /* Told first, so that an abort names the culprit. */
    printf("%s: %zu bytes\n", path, size);
    fflush(stdout);
    for (size_t start = 0; start <= size; start++)
        run_start(data, start);
}

static unsigned run_directory(const char *path)
{
    struct dirent **entries;
    int count = scandir(path, &entries, NULL, alphasort);
    unsigned run = 0;

    if (count < 0)
        fail("open", path);
    for (int i = 0; i < count; i++) {
        _cleanup_free_ char *name = NULL;

        if (entries[i]->d_name[0] != '.') {
            if (asprintf(&name, "%s/%s", path, entries[i]->d_name) < 0)
                fail("allocate a name in", path);
            run_file(name);
            run++;
        }
        free(entries[i]);
    }
    free(entries);
    return run;
}

int main(int argc, char **argv)
{
    unsigned run = 0;

    for (int i = 1; i < argc; i++) {
        struct stat status;

        if (stat(argv[i], &status) < 0)
            fail("look at", argv[i]);
        if (S_ISDIR(status.st_mode)) {
            run += run_directory(argv[i]);
        } else {
            run_file(argv[i]);
            run++;
        }
    }
    if (run == 0) {
        fprintf(stderr, "replay: no corpus files (usage: %s FILE|FOLDER...)\n",
                argv[0]);
        return EXIT_FAILURE;
    }
    printf("%u files\n", run);
    return EXIT_SUCCESS;
}
