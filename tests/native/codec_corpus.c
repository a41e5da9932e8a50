/* The fuzz target of tests/fuzz without a fuzzer: its corpus, and simple mutations of that. */
#include "check.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { LENGTH_MAX = 1024, MUTATIONS = 100 };

static uint64_t random_state = 3141592653;

static size_t random_below(size_t bound)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (size_t)(random_state >> 33) % bound;
}

/* Each run gets memory of exactly its input's size. */
static void run(const uint8_t *data, size_t length)
{
    uint8_t *exact = malloc(length);
    CHECK(exact != NULL || length == 0);
    if (length > 0) {
        memcpy(exact, data, length);
    }
    CHECK_EQUAL(LLVMFuzzerTestOneInput(exact, length), 0);
    free(exact);
}

static size_t read_file(const char *name, uint8_t *data)
{
    char path[4096];
    CHECK(snprintf(path, sizeof(path), "%s/%s", CODEC_CORPUS, name) < (int)sizeof(path));
    FILE *file = fopen(path, "rb");
    CHECK(file != NULL);
    size_t length = fread(data, 1, LENGTH_MAX, file);
    CHECK(fclose(file) == 0);
    return length;
}

TEST(the_fuzzers_corpus_and_its_mutations_find_nothing)
{
    DIR *folder = opendir(CODEC_CORPUS);
    CHECK(folder != NULL);
    size_t files = 0;
    for (struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
        if (entry->d_name[0] == '.') {
            continue;
        }
        uint8_t data[LENGTH_MAX];
        size_t length = read_file(entry->d_name, data);
        CHECK(length > 0);
        run(data, length);
        for (int i = 0; i < MUTATIONS; i++) {
            data[random_below(length)] = (uint8_t)random_below(256);
            run(data, 1 + random_below(length));
            run(data, length);
        }
        files++;
    }
    CHECK(closedir(folder) == 0);
    CHECK(files >= 20);
}
