/*
 * The fuzz targets of tests/fuzz without a fuzzer: each one's corpus, and simple mutations of that.
 */
#include "check.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* LLVMFuzzerTestOneInput() of tests/fuzz/TARGET.c, which CMakeLists.txt gives these names. */
typedef int entry(const uint8_t *data, size_t size);
entry fuzz_codec, fuzz_dispatch, fuzz_exchange;

enum { LENGTH_MAX = 8192, MUTATIONS = 100 };

static uint64_t random_state = 3141592653;

static size_t random_below(size_t bound)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (size_t)(random_state >> 33) % bound;
}

/* Each run gets memory of exactly its input's size. */
static void run(entry *target, const uint8_t *data, size_t length)
{
    uint8_t *exact = malloc(length);
    CHECK(exact != NULL || length == 0);
    if (length > 0) {
        memcpy(exact, data, length);
    }
    CHECK_EQUAL(target(exact, length), 0);
    free(exact);
}

static size_t read_file(const char *folder, const char *name, uint8_t *data)
{
    char path[4096];
    CHECK(snprintf(path, sizeof(path), "%s/%s", folder, name) < (int)sizeof(path));
    FILE *file = fopen(path, "rb");
    CHECK(file != NULL);
    size_t length = fread(data, 1, LENGTH_MAX, file);
    CHECK(fclose(file) == 0);
    return length;
}

static void replay(entry *target, const char *path)
{
    DIR *folder = opendir(path);
    CHECK(folder != NULL);
    size_t files = 0;
    for (struct dirent *file = readdir(folder); file != NULL; file = readdir(folder)) {
        if (file->d_name[0] == '.') {
            continue;
        }
        uint8_t data[LENGTH_MAX];
        size_t length = read_file(path, file->d_name, data);
        CHECK(length > 0 && length < LENGTH_MAX);
        run(target, data, length);
        for (int i = 0; i < MUTATIONS; i++) {
            data[random_below(length)] = (uint8_t)random_below(256);
            run(target, data, 1 + random_below(length));
            run(target, data, length);
        }
        files++;
    }
    CHECK(closedir(folder) == 0);
    CHECK(files >= 20);
}

TEST(the_corpus_of_the_codecs_and_its_mutations_find_nothing)
{
    replay(fuzz_codec, CORPUS "/codec");
}

TEST(the_corpus_of_frames_and_its_mutations_find_nothing)
{
    replay(fuzz_dispatch, CORPUS "/dispatch");
}

TEST(the_corpus_of_answers_and_its_mutations_find_nothing)
{
    replay(fuzz_exchange, CORPUS "/exchange");
}
