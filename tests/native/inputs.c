/* The generator of the inputs: what must hold of it whatever its values are. */
#include "check.h"

#include "../../native/measure/allocator.h"
#include "../../native/measure/inputs.h"

#include <stdlib.h>
#include <string.h>

enum { LENGTH = 100000 };

TEST(a_shorter_input_is_the_beginning_of_a_longer_one)
{
    uint8_t *longer = malloc(LENGTH);
    uint8_t *shorter = malloc(LENGTH);
    CHECK(longer != NULL && shorter != NULL);
    iso_paper_bytes(longer, LENGTH);
    static const size_t lengths[] = {0, 1, 2, 255, 4096, LENGTH};
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        memset(shorter, 0xff, LENGTH);
        iso_paper_bytes(shorter, lengths[i]);
        CHECK(memcmp(shorter, longer, lengths[i]) == 0);
        CHECK(lengths[i] == LENGTH || shorter[lengths[i]] == 0xff);
    }
    free(shorter);
    free(longer);
}

TEST(every_byte_but_255_occurs_about_as_often_as_any_other)
{
    uint8_t *bytes = malloc(LENGTH);
    CHECK(bytes != NULL);
    iso_paper_bytes(bytes, LENGTH);
    int counts[256] = {0};
    for (size_t i = 0; i < LENGTH; i++) {
        counts[bytes[i]]++;
    }
    CHECK_EQUAL(counts[255], 0);
    for (int value = 0; value < 255; value++) {
        CHECK(counts[value] > 280 && counts[value] < 510); /* 392 expected, 20 its deviation */
    }
    free(bytes);
}

TEST(sizes_of_blocks_are_below_4096_and_about_evenly_spread)
{
    enum { COUNT = 40000 };
    uint16_t *sizes = malloc(COUNT * sizeof(*sizes));
    CHECK(sizes != NULL);
    iso_paper_sizes(sizes, COUNT);
    int counts[4] = {0};
    for (int i = 0; i < COUNT; i++) {
        CHECK(sizes[i] < 4096);
        counts[sizes[i] / 1024]++;
    }
    for (int quarter = 0; quarter < 4; quarter++) {
        CHECK(counts[quarter] > 9500 && counts[quarter] < 10500); /* 10,000, 87 its deviation */
    }
    uint16_t first[10];
    iso_paper_sizes(first, 10);
    CHECK(memcmp(first, sizes, sizeof(first)) == 0);
    free(sizes);
}

TEST(draws_start_afresh_with_each_buffer)
{
    uint32_t first[100];
    uint32_t second[100];
    iso_paper_draws(first, 100);
    iso_paper_draws(second, 100);
    CHECK(memcmp(first, second, sizeof(first)) == 0);
    CHECK(first[0] != first[1]);
}

TEST(large_buffers_can_be_kept_mapped)
{
#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__)
    CHECK(iso_keep_buffers_mapped());
#endif
    void *buffer = malloc(10 << 20);
    CHECK(buffer != NULL);
    free(buffer);
}
