/* The PNG decoder that workloads call: right rows, errors for broken files, and nothing left over.
 */
#include "check.h"
#include "isolation.h"

#include <dlfcn.h>
#include <malloc.h>
#include <png.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH = 37, HEIGHT = 23, CHANNELS = 3, HEADER = 8, ROW = CHANNELS * WIDTH };

static iso_function *decoder(void)
{
    void *library = dlopen(PNG_FUNCTIONS, RTLD_NOW | RTLD_LOCAL);
    CHECK(library != NULL);
    union { /* POSIX's way from an object pointer to a function pointer */
        void *object;
        iso_function *function;
    } symbol = {.object = dlsym(library, "foreign_decode_png")};
    CHECK(symbol.object != NULL);
    return symbol.function;
}

static void draw(uint8_t *pixels)
{
    for (int i = 0; i < HEIGHT * ROW; i++) {
        pixels[i] = (uint8_t)(i * i / 7 + i);
    }
}

/* A file in memory of its own. */
static struct iso_bytes encode(const uint8_t *pixels)
{
    png_image image = {
        .version = PNG_IMAGE_VERSION, .width = WIDTH, .height = HEIGHT, .format = PNG_FORMAT_RGB};
    struct iso_bytes file = {.length = PNG_IMAGE_PNG_SIZE_MAX(image)};
    file.data = malloc(file.length);
    CHECK(file.data != NULL);
    CHECK(png_image_write_to_memory(&image, file.data, &file.length, 0, pixels, 0, NULL));
    return file;
}

TEST(the_output_is_the_number_of_rows_their_length_and_the_rows)
{
    uint8_t pixels[HEIGHT * ROW];
    draw(pixels);
    struct iso_bytes file = encode(pixels);
    struct iso_bytes output = {0};
    CHECK_EQUAL(decoder()(file.data, file.length, &output), 0);
    const uint32_t header[] = {HEIGHT, ROW};
    CHECK_EQUAL(output.length, HEADER + sizeof(pixels));
    CHECK(memcmp(output.data, header, HEADER) == 0);
    CHECK(memcmp(output.data + HEADER, pixels, sizeof(pixels)) == 0);
    free(output.data);
    free(file.data);
}

TEST(a_file_cut_short_anywhere_is_an_error)
{
    uint8_t pixels[HEIGHT * ROW];
    draw(pixels);
    struct iso_bytes file = encode(pixels);
    iso_function *decode = decoder();
    for (size_t length = 0; length < file.length; length++) {
        uint8_t *cut = malloc(length); /* so that the sanitizers see a byte read beyond */
        CHECK(length == 0 || cut != NULL);
        memcpy(cut, file.data, length);
        struct iso_bytes output = {0};
        CHECK_EQUAL(decode(cut, length, &output), 101);
        CHECK(output.data == NULL && output.length == 0);
        free(cut);
    }
    free(file.data);
}

/* The sanitizers' own allocator tells of leaks at the end, and glibc's counts are of none. */
static size_t bytes_in_use(void)
{
    return mallinfo2().uordblks;
}

TEST(neither_images_nor_broken_ones_leave_memory_behind)
{
    enum { TIMES = 3000, MAY_GROW = 4096 };
    uint8_t pixels[HEIGHT * ROW];
    draw(pixels);
    struct iso_bytes file = encode(pixels);
    iso_function *decode = decoder();
    size_t before = 0;
    unsigned errors = 0;
    for (unsigned i = 0; i < TIMES; i++) {
        if (i == TIMES / 3) {
            before = bytes_in_use(); /* by now the allocator's caches are full */
        }
        struct iso_bytes output = {0};
        size_t at = 8 + i % (file.length - 8);
        file.data[at] ^= i % 2 ? 0x10 : 0;
        int code = decode(file.data, file.length, &output);
        file.data[at] ^= i % 2 ? 0x10 : 0;
        CHECK(code == 0 || (i % 2 && code == 101));
        CHECK((code == 0) == (output.data != NULL));
        errors += code != 0;
        free(output.data);
    }
    CHECK(errors > TIMES / 4);
    CHECK(bytes_in_use() <= before + MAY_GROW);
    free(file.data);
}
