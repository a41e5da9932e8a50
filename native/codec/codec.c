/* The table of all codecs, and what none of them has a copy of at each level. */
#include "level.h"

#include <string.h>

#define EACH_LEVEL(action, name) action(name, 0) action(name, 1) action(name, 2) action(name, 3)
#define EACH(action)                                                                               \
    EACH_LEVEL(action, bincode_v1)                                                                 \
    EACH_LEVEL(action, bincode_v2)                                                                 \
    EACH_LEVEL(action, abomonation_v1)                                                             \
    EACH_LEVEL(action, abomonation_v2)

#define DECLARE(name, level) extern const struct codec CODEC_SYMBOL(name, level);
#define LIST(name, level) &CODEC_SYMBOL(name, level),

EACH(DECLARE)

const struct codec *const codecs[] = {EACH(LIST) NULL};

const struct codec_type codec_u8_type = {.kind = CODEC_U8, .size = 1, .alignment = 1};
const struct codec_type codec_bytes_type = {.kind = CODEC_BYTES,
                                            .size = sizeof(struct codec_vector),
                                            .alignment = _Alignof(struct codec_vector)};

const struct codec *codec_find(const char *name)
{
    static const char level[] = "-O2";
    size_t length = strlen(name);
    for (const struct codec *const *codec = codecs; *codec != NULL; codec++) {
        const char *full = (*codec)->name;
        if (strcmp(full, name) == 0 ||
            (strncmp(full, name, length) == 0 && strcmp(full + length, level) == 0)) {
            return *codec;
        }
    }
    return NULL;
}
