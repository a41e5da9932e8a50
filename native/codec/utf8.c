#include "level.h"

/* One step a character. The second byte's range keeps out long forms, surrogates and what is above
 * U+10FFFF; the bytes after it are 0x80 to 0xbf. */
static size_t character_length(const uint8_t *text, size_t length)
{
    uint8_t first = text[0];
    if (first < 0x80) {
        return 1;
    }
    size_t wanted = first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0;
    if (wanted == 0 || wanted > length) {
        return 0;
    }
    uint8_t lowest = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
    uint8_t highest = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
    if (text[1] < lowest || text[1] > highest) {
        return 0;
    }
    for (size_t i = 2; i < wanted; i++) {
        if ((text[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    return wanted;
}

bool codec_is_utf8(const uint8_t *text, size_t length)
{
    while (length > 0) {
        size_t step = character_length(text, length);
        if (step == 0) {
            return false;
        }
        text += step;
        length -= step;
    }
    return true;
}
