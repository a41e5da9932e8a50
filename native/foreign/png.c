/*
 * libpng as a foreign function: a PNG in memory to rows of pixels.
 *
 * libpng reports an error by a function that must not return; here that is a longjmp to where the
 * decoding began, within the sandbox. Nothing is printed: in a domain printing is a system call,
 * and refused.
 */
#include "isolation.h"

#include <png.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

enum { NO_MEMORY = 100, CORRUPT = 101 };
enum { SIGNATURE_LENGTH = 8, HEADER_LENGTH = 2 * sizeof(uint32_t) };

int foreign_decode_png(const uint8_t *input, size_t input_length, struct iso_bytes *output);
int foreign_is_png(const uint8_t *input, size_t input_length, struct iso_bytes *output);

/* Lives outside of the function that longjmp returns to, whose own variables it may lose. */
struct decoding {
    const uint8_t *next; /* input that libpng has not read */
    size_t left;
    png_structp png;
    png_infop info;
    int code; /* of the error, once there is one */
    struct iso_bytes result;
};

static void give(png_structp png, png_bytep to, size_t length)
{
    struct decoding *decoding = png_get_io_ptr(png);
    if (length > decoding->left) {
        png_error(png, "the input ends early");
    }
    memcpy(to, decoding->next, length);
    decoding->next += length;
    decoding->left -= length;
}

static void keep_quiet(png_structp png, png_const_charp message)
{
    (void)png;
    (void)message;
}

static void go_back(png_structp png, png_const_charp message)
{
    (void)message;
    png_longjmp(png, 1);
}

/* 8-bit RGB of whatever the image is made of. */
static void ask_for_rgb(png_structp png)
{
    png_set_expand(png); /* palettes to RGB, gray to 8 bits, transparency to alpha */
    png_set_strip_16(png);
    png_set_gray_to_rgb(png);
    png_set_strip_alpha(png);
}

static void decode(struct decoding *decoding)
{
    png_structp png = decoding->png;
    if (setjmp(png_jmpbuf(png))) {
        if (decoding->code == 0) {
            decoding->code = CORRUPT;
        }
        return;
    }
    png_set_read_fn(png, decoding, give);
    png_read_info(png, decoding->info);
    ask_for_rgb(png);
    int passes = png_set_interlace_handling(png);
    png_read_update_info(png, decoding->info);

    const uint32_t header[] = {png_get_image_height(png, decoding->info),
                               (uint32_t)png_get_rowbytes(png, decoding->info)};
    /* Below 2^52: libpng takes no more than a million rows or columns. */
    size_t length = HEADER_LENGTH + (size_t)header[0] * header[1];
    uint8_t *rows = malloc(length);
    decoding->result = (struct iso_bytes){rows, length};
    if (rows == NULL) {
        decoding->code = NO_MEMORY;
        png_error(png, "no memory");
    }
    memcpy(rows, header, HEADER_LENGTH);
    for (int pass = 0; pass < passes; pass++) {
        for (size_t y = 0; y < header[0]; y++) {
            png_read_row(png, rows + HEADER_LENGTH + y * header[1], NULL);
        }
    }
    png_read_end(png, NULL);
}

/*
 * The output: the number of rows and the bytes of each (two uint32_t in the machine's byte order),
 * then the rows, without gaps, three bytes a pixel: red, green, blue.
 */
int foreign_decode_png(const uint8_t *input, size_t input_length, struct iso_bytes *output)
{
    struct decoding decoding = {.next = input, .left = input_length};
    decoding.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, NULL, go_back, keep_quiet);
    if (decoding.png == NULL) {
        return NO_MEMORY;
    }
    decoding.info = png_create_info_struct(decoding.png);
    if (decoding.info == NULL) {
        decoding.code = NO_MEMORY;
    } else {
        decode(&decoding);
    }
    png_destroy_read_struct(&decoding.png, &decoding.info, NULL);
    if (decoding.code != 0) {
        free(decoding.result.data);
        return decoding.code;
    }
    *output = decoding.result;
    return 0;
}

/* The output: one byte, 1 if the input, of which 8 bytes are enough, begins as a PNG; 0 if not. */
int foreign_is_png(const uint8_t *input, size_t input_length, struct iso_bytes *output)
{
    uint8_t *answer = malloc(1);
    if (answer == NULL) {
        return NO_MEMORY;
    }
    *answer = input_length >= SIGNATURE_LENGTH && png_sig_cmp(input, 0, SIGNATURE_LENGTH) == 0;
    *output = (struct iso_bytes){answer, 1};
    return 0;
}
