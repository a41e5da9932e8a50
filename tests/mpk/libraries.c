/* Prebuilt libraries as foreign functions: zlib, libbz2, libpng with its own error handling. */
#include "isolation.h"

#include <bzlib.h>
#include <png.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define FOREIGN(name)                                                                              \
    int name(const uint8_t *input, size_t input_length, struct iso_bytes *output);                 \
    int name(const uint8_t *input, size_t input_length, struct iso_bytes *output)

enum { NO_MEMORY = 100, CORRUPT = 101 };

FOREIGN(zlib_compress)
{
    uLongf length = compressBound(input_length);
    uint8_t *data = malloc(length);
    if (data == NULL) {
        return NO_MEMORY;
    }
    if (compress2(data, &length, input, input_length, 9) != Z_OK) {
        free(data);
        return CORRUPT;
    }
    *output = (struct iso_bytes){data, length};
    return 0;
}

/* By the streaming interface: inflate's state is on the heap, and its output grows by realloc. */
FOREIGN(zlib_uncompress)
{
    z_stream stream = {.next_in = (Bytef *)(uintptr_t)input, .avail_in = (uInt)input_length};
    uint8_t *data = NULL;
    size_t room = 0;
    int code = inflateInit(&stream);
    while (code == Z_OK) {
        if (stream.total_out == room) {
            room = room == 0 ? 1024 : 2 * room;
            uint8_t *more = realloc(data, room);
            if (more == NULL) {
                code = Z_MEM_ERROR;
                break;
            }
            data = more;
        }
        stream.next_out = data + stream.total_out;
        stream.avail_out = (uInt)(room - stream.total_out);
        code = inflate(&stream, Z_NO_FLUSH);
    }
    inflateEnd(&stream);
    if (code != Z_STREAM_END) {
        free(data);
        return code == Z_MEM_ERROR ? NO_MEMORY : CORRUPT;
    }
    *output = (struct iso_bytes){data, stream.total_out};
    return 0;
}

FOREIGN(bzip2_compress)
{
    unsigned length = (unsigned)(input_length + input_length / 100 + 600);
    uint8_t *data = malloc(length);
    if (data == NULL) {
        return NO_MEMORY;
    }
    if (BZ2_bzBuffToBuffCompress((char *)data, &length, (char *)(uintptr_t)input,
                                 (unsigned)input_length, 9, 0, 0) != BZ_OK) {
        free(data);
        return CORRUPT;
    }
    *output = (struct iso_bytes){data, length};
    return 0;
}

struct source {
    const uint8_t *next;
    size_t left;
};

static void read_source(png_structp png, png_bytep to, size_t length)
{
    struct source *source = png_get_io_ptr(png);
    if (length > source->left) {
        png_error(png, "the file ends early");
    }
    memcpy(to, source->next, length);
    source->next += length;
    source->left -= length;
}

static void be_quiet(png_structp png, png_const_charp message)
{
    (void)png;
    (void)message;
}

/* libpng's own would print, and in a domain printing is a system call that is refused. */
static void go_back(png_structp png, png_const_charp message)
{
    (void)message;
    png_longjmp(png, 1);
}

/* The rows, one after the other; libpng's errors come back by longjmp. */
FOREIGN(png_decode)
{
    struct source source = {input, input_length};
    uint8_t *volatile pixels = NULL;
    png_infop info = NULL;
    png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, NULL, go_back, be_quiet);
    if (png == NULL) {
        return NO_MEMORY;
    }
    if (setjmp(png_jmpbuf(png))) {
        png_destroy_read_struct(&png, &info, NULL);
        free(pixels);
        return CORRUPT;
    }
    info = png_create_info_struct(png);
    png_set_read_fn(png, &source, read_source);
    png_read_info(png, info);
    png_set_expand(png);
    int passes = png_set_interlace_handling(png);
    png_read_update_info(png, info);
    size_t row = png_get_rowbytes(png, info);
    size_t height = png_get_image_height(png, info);
    pixels = malloc(row * height);
    if (pixels == NULL) {
        png_error(png, "no memory");
    }
    for (int pass = 0; pass < passes; pass++) {
        for (size_t y = 0; y < height; y++) {
            png_read_row(png, pixels + y * row, NULL);
        }
    }
    png_read_end(png, NULL);
    png_destroy_read_struct(&png, &info, NULL);
    *output = (struct iso_bytes){pixels, row * height};
    return 0;
}
