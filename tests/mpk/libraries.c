/* Prebuilt libraries as foreign functions: zlib and libbz2. */
#include "isolation.h"

#include <bzlib.h>
#include <stdlib.h>
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
