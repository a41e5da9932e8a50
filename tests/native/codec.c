/* Codecs on memory of exactly the size that they may touch: under AddressSanitizer, a byte more is
 * a failure. What holds for arbitrary types is in tests/backends/test_codec.py and tests/fuzz. */
#include "check.h"

#include "../../native/codec/codec.h"

#include <stdlib.h>
#include <string.h>

/* A value with all that has a rule of its own: padding, an option in use and one that is empty, a
 * vector of vectors, vectors of different alignment. */
struct record {
    uint8_t small;
    struct {
        bool some;
        uint64_t value;
    } used, empty;
    struct codec_vector text;
    struct codec_vector list; /* of items */
    int16_t last;
};
struct item {
    bool flag;
    struct codec_vector bytes;
    uint32_t number;
};

static const struct codec_type u8 = {.kind = CODEC_U8, .size = 1, .alignment = 1};
static const struct codec_type u16 = {.kind = CODEC_U16, .size = 2, .alignment = 2};
static const struct codec_type u32 = {.kind = CODEC_U32, .size = 4, .alignment = 4};
static const struct codec_type u64 = {.kind = CODEC_U64, .size = 8, .alignment = 8};
static const struct codec_type i16 = {.kind = CODEC_I16, .size = 2, .alignment = 2};
static const struct codec_type boolean = {.kind = CODEC_BOOL, .size = 1, .alignment = 1};
static const struct codec_type nothing = {.kind = CODEC_TUPLE, .size = 0, .alignment = 1};
static const struct codec_type text_type = {
    .kind = CODEC_TEXT, .size = sizeof(struct codec_vector), .alignment = 8};
static const struct codec_type option_type = {
    .kind = CODEC_OPTION, .size = 16, .alignment = 8, .element = &u64};
static const struct codec_type item_type = {
    .kind = CODEC_TUPLE,
    .size = sizeof(struct item),
    .alignment = _Alignof(struct item),
    .fields = (const struct codec_type *const[]){&boolean, &codec_bytes_type, &u32},
    .field_count = 3};
static const struct codec_type record_type = {
    .kind = CODEC_TUPLE,
    .size = sizeof(struct record),
    .alignment = _Alignof(struct record),
    .fields = (const struct codec_type *const[]){&u8, &option_type, &option_type, &text_type,
                                                 &(const struct codec_type){
                                                     .kind = CODEC_LIST,
                                                     .size = sizeof(struct codec_vector),
                                                     .alignment = 8,
                                                     .element = &item_type},
                                                 &i16},
    .field_count = 6};

#define EACH_CODEC(codec)                                                                          \
    for (const struct codec *const *at = codecs, *codec = *at; codec != NULL; codec = *++at)

static bool is_abomonation(const struct codec *codec)
{
    return codec->name[0] == 'a';
}

static bool is(const struct codec *codec, const char *family)
{
    return strncmp(codec->name, family, strlen(family)) == 0;
}

static void *some(size_t size)
{
    void *memory = malloc(size);
    CHECK(memory != NULL || size == 0);
    return memory;
}

/* ---- memory for decoding ---- */

struct blocks {
    struct codec_memory memory;
    void *blocks[64];
    size_t count;
    size_t limit; /* allocations that succeed */
};

static void *allocate(struct codec_memory *memory, size_t size, size_t alignment)
{
    struct blocks *blocks = (struct blocks *)memory;
    CHECK(size > 0 && alignment <= 8);
    if (blocks->count == blocks->limit || size > 1 << 20) {
        return NULL;
    }
    return blocks->blocks[blocks->count++] = malloc(size);
}

static struct blocks no_blocks(size_t limit)
{
    CHECK(limit <= 64);
    return (struct blocks){.memory = {allocate}, .limit = limit};
}

static void release(struct blocks *blocks)
{
    while (blocks->count > 0) {
        free(blocks->blocks[--blocks->count]);
    }
}

/* ---- encoded forms ---- */

struct encoded {
    uint8_t *data; /* of exactly the length */
    size_t length;
};

static struct encoded encode(const struct codec *codec, const struct codec_type *type,
                             const void *value)
{
    size_t bound = codec->bound(type, value);
    uint8_t *buffer = some(bound);
    size_t used = 0;
    CHECK_EQUAL(codec->encode(type, value, buffer, bound, &used), CODEC_OK);
    CHECK(used <= bound);
    struct encoded encoded = {some(used), used};
    memcpy(encoded.data, buffer, used);
    free(buffer);
    return encoded;
}

static enum codec_status decode(const struct codec *codec, const struct codec_type *type,
                                const void *data, size_t length)
{
    struct blocks blocks = no_blocks(64);
    uint8_t *exact = some(length);
    if (length > 0) {
        memcpy(exact, data, length);
    }
    void *value = some(type->size);
    size_t used = 0;
    enum codec_status status = codec->decode(type, exact, length, &blocks.memory, value, &used);
    CHECK(used <= length);
    if (status == CODEC_OK) { /* a valid value can be encoded: all of it is read */
        free(encode(codec, type, value).data);
    }
    free(value);
    free(exact);
    release(&blocks);
    return status;
}

/* The record, with this byte wherever a value has padding. */
static struct record *record_in(uint8_t padding)
{
    static char bytes[] = "some bytes";
    static char text[] = "t\xc3\xa9xt";
    struct record *record = some(sizeof(*record));
    struct item *items = some(2 * sizeof(*items));
    memset((void *)record, padding, sizeof(*record));
    memset((void *)items, padding, 2 * sizeof(*items));
    for (int i = 0; i < 2; i++) {
        items[i].flag = i == 1;
        items[i].bytes = (struct codec_vector){bytes, 10, 3 + (size_t)i};
        items[i].number = 70000;
    }
    record->small = 7;
    record->used.some = true;
    record->used.value = 1ull << 40;
    record->empty.some = false;
    record->text = (struct codec_vector){text, 5, 5};
    record->list = (struct codec_vector){items, 2, 2};
    record->last = -300;
    return record;
}

static void free_record(struct record *record)
{
    free(record->list.data);
    free(record);
}

TEST(what_is_cut_short_is_told_at_every_length)
{
    struct record *record = record_in(0xaa);
    EACH_CODEC(codec)
    {
        check_context = codec->name;
        struct encoded encoded = encode(codec, &record_type, record);
        CHECK_EQUAL(decode(codec, &record_type, encoded.data, encoded.length), CODEC_OK);
        for (size_t length = 0; length < encoded.length; length++) {
            CHECK_EQUAL(decode(codec, &record_type, encoded.data, length), CODEC_TRUNCATED);
        }
        free(encoded.data);
    }
    free_record(record);
}

TEST(encoding_writes_nothing_behind_its_room)
{
    struct record *record = record_in(0xaa);
    EACH_CODEC(codec)
    {
        check_context = codec->name;
        struct encoded encoded = encode(codec, &record_type, record);
        for (size_t room = 0; room < encoded.length; room++) {
            uint8_t *exact = some(room);
            size_t used = 0;
            CHECK_EQUAL(codec->encode(&record_type, record, exact, room, &used), CODEC_TRUNCATED);
            free(exact);
        }
        free(encoded.data);
    }
    free_record(record);
}

TEST(padding_and_empty_options_keep_what_lies_there)
{
    struct record *one = record_in(0xaa);
    struct record *other = record_in(0x55);
    EACH_CODEC(codec)
    {
        check_context = codec->name;
        uint8_t buffers[2][512];
        size_t used[2];
        memset(buffers[0], 0x33, sizeof(buffers[0])); /* the gaps for alignment, too */
        memset(buffers[1], 0xcc, sizeof(buffers[1]));
        CHECK_EQUAL(codec->encode(&record_type, one, buffers[0], 512, &used[0]), CODEC_OK);
        CHECK_EQUAL(codec->encode(&record_type, other, buffers[1], 512, &used[1]), CODEC_OK);
        CHECK_EQUAL(used[0], used[1]);
        CHECK(memcmp(buffers[0], buffers[1], used[0]) == 0);
    }
    free_record(one);
    free_record(other);
}

TEST(every_change_of_a_byte_is_an_error_or_a_valid_value)
{
    struct record *record = record_in(0);
    EACH_CODEC(codec)
    {
        check_context = codec->name;
        struct encoded encoded = encode(codec, &record_type, record);
        for (size_t i = 0; i < encoded.length; i++) {
            uint8_t was = encoded.data[i];
            for (int byte = 0; byte < 256; byte++) {
                encoded.data[i] = (uint8_t)byte;
                CHECK(decode(codec, &record_type, encoded.data, encoded.length) <= CODEC_NO_MEMORY);
            }
            encoded.data[i] = was;
        }
        free(encoded.data);
    }
    free_record(record);
}

TEST(byte_vectors_are_borrowed_by_all_but_bincode_v1)
{
    uint8_t content[100];
    memset(content, 3, sizeof(content));
    struct codec_vector vector = {content, 100, 100};
    EACH_CODEC(codec)
    {
        check_context = codec->name;
        struct encoded encoded = encode(codec, &codec_bytes_type, &vector);
        struct blocks blocks = no_blocks(1);
        struct codec_vector decoded;
        size_t used = 0;
        CHECK_EQUAL(codec->decode(&codec_bytes_type, encoded.data, encoded.length, &blocks.memory,
                                  &decoded, &used),
                    CODEC_OK);
        CHECK_EQUAL(decoded.length, 100);
        CHECK(memcmp(decoded.data, content, 100) == 0);
        bool borrowed = decoded.data == encoded.data + encoded.length - 100;
        CHECK_EQUAL(borrowed, !is(codec, "bincode-v1"));
        CHECK_EQUAL(blocks.count, borrowed ? 0 : 1);
        release(&blocks);
        free(encoded.data);
    }
}

TEST(a_length_beyond_the_data_is_an_error_however_large)
{
    static const uint64_t lengths[] = {1,
                                       1 << 20,
                                       1ull << 32,
                                       1ull << 60,
                                       1ull << 61,
                                       (1ull << 61) + 1,
                                       SIZE_MAX / 24,
                                       SIZE_MAX / 24 + 1,
                                       SIZE_MAX - 7,
                                       SIZE_MAX};
    const struct codec_type list_of_records = {
        .kind = CODEC_LIST, .size = 24, .alignment = 8, .element = &record_type};
    const struct codec_type list_of_vectors = {
        .kind = CODEC_LIST, .size = 24, .alignment = 8, .element = &codec_bytes_type};
    const struct codec_type *const types[] = {&codec_bytes_type, &text_type, &list_of_records,
                                              &list_of_vectors};
    EACH_CODEC(codec)
    {
        check_context = codec->name;
        for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
            uint64_t words[] = {24, SIZE_MAX, lengths[i]}; /* abomonation's offset, capacity */
            uint8_t variable[9] = {253};
            memcpy(variable + 1, &lengths[i], 8);
            if (lengths[i] < 251) {
                variable[0] = (uint8_t)lengths[i];
            } else if (lengths[i] <= UINT32_MAX) {
                variable[0] = 252;
            }
            size_t length = lengths[i] < 251 ? 1 : lengths[i] <= UINT32_MAX ? 5 : 9;
            for (size_t t = 0; t < sizeof(types) / sizeof(types[0]); t++) {
                enum codec_status status =
                    is_abomonation(codec)     ? decode(codec, types[t], words, sizeof(words))
                    : is(codec, "bincode-v1") ? decode(codec, types[t], &lengths[i], 8)
                                              : decode(codec, types[t], variable, length);
                CHECK_EQUAL(status, CODEC_TRUNCATED);
            }
        }
    }
}

TEST(bounds_and_encoding_withstand_lengths_that_do_not_fit)
{
    const struct codec_type list_of_u64 = {
        .kind = CODEC_LIST, .size = 24, .alignment = 8, .element = &u64};
    uint64_t content = 0;
    struct codec_vector vector = {&content, SIZE_MAX, SIZE_MAX / 8 + 2};
    EACH_CODEC(codec)
    {
        check_context = codec->name;
        CHECK(codec->bound(&list_of_u64, &vector) == SIZE_MAX);
        uint8_t buffer[32];
        size_t used = 0;
        if (is_abomonation(codec)) { /* bincode would read what is not there until the room ends */
            CHECK_EQUAL(codec->encode(&list_of_u64, &vector, buffer, sizeof(buffer), &used),
                        CODEC_TRUNCATED);
        }
    }
}

TEST(a_list_of_elements_without_size_cannot_be_of_any_length)
{
    const struct codec_type type = {
        .kind = CODEC_LIST, .size = 24, .alignment = 8, .element = &nothing};
    EACH_CODEC(codec)
    {
        check_context = codec->name;
        uint8_t buffer[32];
        size_t used = 0;
        struct codec_vector vector = {NULL, SIZE_MAX, CODEC_EMPTY_ELEMENTS_MAX};
        CHECK_EQUAL(codec->encode(&type, &vector, buffer, sizeof(buffer), &used), CODEC_OK);
        CHECK_EQUAL(decode(codec, &type, buffer, used), CODEC_OK);
        vector.length++;
        CHECK_EQUAL(codec->encode(&type, &vector, buffer, sizeof(buffer), &used), CODEC_MALFORMED);
        uint64_t words[] = {0, SIZE_MAX, SIZE_MAX};
        uint8_t longest[9];
        memset(longest, 0xff, sizeof(longest));
        longest[0] = 253;
        CHECK_EQUAL(is_abomonation(codec)     ? decode(codec, &type, words, sizeof(words))
                    : is(codec, "bincode-v1") ? decode(codec, &type, longest + 1, 8)
                                              : decode(codec, &type, longest, sizeof(longest)),
                    CODEC_MALFORMED);
    }
}

TEST(elements_without_size_are_counted_across_lists)
{
    const struct codec_type list = {
        .kind = CODEC_LIST, .size = 24, .alignment = 8, .element = &nothing};
    const struct codec_type lists = {
        .kind = CODEC_LIST, .size = 24, .alignment = 8, .element = &list};
    enum { HALF = CODEC_EMPTY_ELEMENTS_MAX / 2 };
    EACH_CODEC(codec)
    {
        check_context = codec->name;
        struct codec_vector halves[2] = {{NULL, HALF, HALF}, {NULL, HALF, HALF}};
        struct codec_vector both = {halves, 2, 2};
        uint8_t buffer[72];
        size_t used = 0;
        CHECK_EQUAL(codec->encode(&lists, &both, buffer, sizeof(buffer), &used), CODEC_OK);
        CHECK_EQUAL(decode(codec, &lists, buffer, used), CODEC_OK);
        /* One more in the second list: its length is the last number there, in the lowest byte. */
        buffer[used - (is(codec, "bincode-v2") ? 4 : 8)]++;
        if (is_abomonation(codec)) {
            buffer[used - 16]++; /* the capacity */
        }
        CHECK_EQUAL(decode(codec, &lists, buffer, used), CODEC_MALFORMED);
        halves[1].capacity = ++halves[1].length;
        CHECK_EQUAL(codec->encode(&lists, &both, buffer, sizeof(buffer), &used), CODEC_MALFORMED);
    }
}

TEST(bools_and_tags_are_0_or_1)
{
    EACH_CODEC(codec)
    {
        check_context = codec->name;
        for (int byte = 0; byte < 256; byte++) {
            uint8_t data[16] = {(uint8_t)byte};
            enum codec_status wanted = byte <= 1 ? CODEC_OK : CODEC_MALFORMED;
            CHECK_EQUAL(decode(codec, &boolean, data, 1), wanted);
            CHECK_EQUAL(decode(codec, &option_type, data, sizeof(data)), wanted);
        }
    }
}

TEST(variable_integers_are_taken_in_their_shortest_form_and_their_own_width)
{
    static const struct {
        uint8_t data[9];
        size_t length;
        enum codec_status u16, u64;
    } cases[] = {
        {{250}, 1, CODEC_OK, CODEC_OK},
        {{251, 250, 0}, 3, CODEC_MALFORMED, CODEC_MALFORMED},
        {{251, 251, 0}, 3, CODEC_OK, CODEC_OK},
        {{252, 0xff, 0xff, 0, 0}, 5, CODEC_MALFORMED, CODEC_MALFORMED},
        {{252, 0, 0, 1, 0}, 5, CODEC_MALFORMED, CODEC_OK},
        {{253, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0}, 9, CODEC_MALFORMED, CODEC_MALFORMED},
        {{253, 0, 0, 0, 0, 1, 0, 0, 0}, 9, CODEC_MALFORMED, CODEC_OK},
        {{254, 0, 0, 0, 0, 0, 0, 0, 0}, 9, CODEC_MALFORMED, CODEC_MALFORMED},
        {{255, 0, 0, 0, 0, 0, 0, 0, 0}, 9, CODEC_MALFORMED, CODEC_MALFORMED},
    };
    const struct codec *codec = codec_find("bincode-v2");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        CHECK_EQUAL(decode(codec, &u16, cases[i].data, cases[i].length), cases[i].u16);
        CHECK_EQUAL(decode(codec, &u64, cases[i].data, cases[i].length), cases[i].u64);
    }
}

TEST(pointers_of_abomonation_lead_where_the_walk_does)
{
    EACH_CODEC(codec)
    {
        if (!is_abomonation(codec)) {
            continue;
        }
        check_context = codec->name;
        uint64_t words[4] = {24, 5, 5, 0};
        CHECK_EQUAL(decode(codec, &codec_bytes_type, words, sizeof(words)), CODEC_OK);
        static const uint64_t elsewhere[] = {0, 8, 23, 25, 32, 1 << 20, SIZE_MAX};
        for (size_t i = 0; i < sizeof(elsewhere) / sizeof(elsewhere[0]); i++) {
            words[0] = elsewhere[i];
            CHECK_EQUAL(decode(codec, &codec_bytes_type, words, sizeof(words)), CODEC_MALFORMED);
        }
        words[0] = 24;
        words[1] = 4; /* less capacity than length */
        CHECK_EQUAL(decode(codec, &codec_bytes_type, words, sizeof(words)), CODEC_MALFORMED);
    }
}

TEST(a_buffer_that_decoding_in_place_cannot_use_is_told)
{
    struct record *record = record_in(0);
    EACH_CODEC(codec)
    {
        check_context = codec->name;
        struct encoded encoded = encode(codec, &record_type, record);
        for (size_t shift = 0; shift < 16; shift++) {
            uint8_t *memory = some(encoded.length + shift);
            memcpy(memory + shift, encoded.data, encoded.length);
            struct blocks blocks = no_blocks(64);
            struct record decoded;
            size_t used = 0;
            enum codec_status status = codec->decode(&record_type, memory + shift, encoded.length,
                                                     &blocks.memory, &decoded, &used);
            bool aligned = shift % 8 == 0 || !is_abomonation(codec);
            CHECK_EQUAL(status, aligned ? CODEC_OK : CODEC_MISALIGNED);
            release(&blocks);
            free(memory);
        }
        free(encoded.data);
    }
    free_record(record);
}

TEST(memory_that_is_not_there_is_an_error)
{
    struct record *record = record_in(0);
    EACH_CODEC(codec)
    {
        check_context = codec->name;
        struct encoded encoded = encode(codec, &record_type, record);
        uint8_t *copy = some(encoded.length);
        enum codec_status status = CODEC_NO_MEMORY;
        size_t limit = 0;
        for (; status == CODEC_NO_MEMORY; limit++) {
            struct blocks blocks = no_blocks(limit);
            struct record decoded;
            size_t used = 0;
            memcpy(copy, encoded.data, encoded.length);
            status =
                codec->decode(&record_type, copy, encoded.length, &blocks.memory, &decoded, &used);
            release(&blocks);
        }
        CHECK_EQUAL(status, CODEC_OK);
        /* text, list, two byte vectors; the list; nothing */
        CHECK_EQUAL(limit - 1, is(codec, "bincode-v1") ? 4 : is(codec, "bincode-v2") ? 1 : 0);
        free(copy);
        free(encoded.data);
    }
    free_record(record);
}

TEST(types_nested_too_deep_are_refused_both_ways)
{
    enum { DEEPEST = CODEC_DEPTH_MAX + 1 };
    struct codec_type types[DEEPEST];
    const struct codec_type *fields[DEEPEST];
    for (int i = 0; i < DEEPEST; i++) {
        fields[i] = i + 1 < DEEPEST ? &types[i + 1] : NULL;
        types[i] = (struct codec_type){
            .kind = CODEC_TUPLE, .size = 1, .alignment = 1, .fields = &fields[i], .field_count = 1};
    }
    types[DEEPEST - 1] = u8;
    EACH_CODEC(codec)
    {
        check_context = codec->name;
        uint8_t value = 9;
        uint8_t buffer[2];
        size_t used = 0;
        CHECK_EQUAL(codec->encode(&types[0], &value, buffer, 2, &used), CODEC_TOO_DEEP);
        CHECK_EQUAL(decode(codec, &types[0], &value, 1), CODEC_TOO_DEEP);
        CHECK_EQUAL(codec->bound(&types[0], &value) <= 1, true);
        CHECK_EQUAL(codec->encode(&types[1], &value, buffer, 2, &used), CODEC_OK);
        CHECK_EQUAL(decode(codec, &types[1], &value, 1), CODEC_OK);
    }
}
