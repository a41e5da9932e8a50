/*
 * Calls a function of any C type, as a frame describes it: what backends/marshal.py sends into a
 * sandbox to call a library that was not written for one. It is foreign code like what it calls and
 * runs behind the same wall; nobody trusts its reply.
 *
 * A function is called through one type that has room for all arguments there may be: callers leave
 * a register that the callee does not know as it is, and the caller gives the stack's words back.
 * Numbers are in the machine's order, words of 64 bits.
 */
#include "isolation.h"

#include <stdlib.h>
#include <string.h>

int dispatch_call(const uint8_t *input, size_t input_length, struct iso_bytes *output);

enum { NO_MEMORY = 1, MALFORMED = 2 };

#if defined(__x86_64__)
enum { INTEGER_REGISTERS = 6 }; /* System V ABI, AMD64 supplement, 3.2.3 */
#define INTEGER_TYPES U, U, U, U, U, U
#define INTEGERS(of) of[0], of[1], of[2], of[3], of[4], of[5]
#else
enum { INTEGER_REGISTERS = 8 }; /* Procedure Call Standard for the Arm 64-bit Architecture, 6.8 */
#define INTEGER_TYPES U, U, U, U, U, U, U, U
#define INTEGERS(of) of[0], of[1], of[2], of[3], of[4], of[5], of[6], of[7]
#endif

/* A float lies in the low half of what a double of these is passed in. */
enum { FLOATING_REGISTERS = 8, STACK_WORDS = 16, ARGUMENTS_MAX = 64, BUFFERS_MAX = 64 };
#define FLOATING_TYPES double, double, double, double, double, double, double, double
#define FLOATINGS(of) of[0], of[1], of[2], of[3], of[4], of[5], of[6], of[7]
#define STACK_TYPES U, U, U, U, U, U, U, U, U, U, U, U, U, U, U, U
#define STACK(of)                                                                                  \
    of[0], of[1], of[2], of[3], of[4], of[5], of[6], of[7], of[8], of[9], of[10], of[11], of[12],  \
        of[13], of[14], of[15]

typedef uint64_t U;
typedef U integer_function(INTEGER_TYPES, FLOATING_TYPES, STACK_TYPES);
typedef double floating_function(INTEGER_TYPES, FLOATING_TYPES, STACK_TYPES);

/* ---- the frame: this header, the arguments, the buffers, what the buffers begin with ---- */

struct header {
    uint64_t function; /* its address */
    uint64_t floating; /* it returns a float or a double */
    uint64_t
        string_limit; /* it returns a C string, of which so many bytes matter; 0: it does not */
    uint64_t argument_count;
    uint64_t buffer_count;
    uint64_t result_size; /* bytes of what it returns; above them a register may hold anything */
};

enum argument_kind { ARGUMENT_INTEGER, ARGUMENT_FLOATING, ARGUMENT_BUFFER };

struct argument {
    uint64_t kind;
    uint64_t value; /* the number's bits; or which buffer's address */
};

/* How many bytes of a buffer are part of the reply, afterwards. */
enum extent {
    EXTENT_NONE,     /* the function only reads it, and reads it in the frame */
    EXTENT_CAPACITY, /* all */
    EXTENT_BUFFER,   /* as another buffer says, which holds an integer */
    EXTENT_RETURNED, /* as the function returned */
    EXTENT_STRING,   /* up to the terminating zero */
};

struct buffer {
    uint64_t offset;   /* in the frame, of what it begins with; a multiple of ALIGNMENT */
    uint64_t length;   /* bytes of that */
    uint64_t capacity; /* bytes; the rest are zeroes; 0 where the function only reads it */
    uint64_t extent;
    uint64_t source; /* which other buffer */
    uint64_t unit;   /* bytes of what that integer counts */
};

/* Of buffers, as malloc() would align them. */
#define ALIGNMENT ((size_t)16)

/* ---- the reply: this, the lengths of the buffers that have one, their content, the string ---- */

struct reply {
    uint64_t result;        /* the bits that were returned */
    uint64_t string_length; /* bytes */
    uint64_t lengths[];
};

struct call {
    struct header header;
    const struct argument *arguments;
    const struct buffer *buffers;
    const uint8_t *frame;
    struct reply *reply;
    size_t reply_length;
    uint8_t *places[BUFFERS_MAX];
    size_t written_count; /* buffers that are part of the reply */
};

static size_t align(size_t length)
{
    return (length + ALIGNMENT - 1) & ~(ALIGNMENT - 1);
}

static int read_frame(struct call *call, const uint8_t *frame, size_t length)
{
    if (length < sizeof(call->header)) {
        return MALFORMED;
    }
    memcpy(&call->header, frame, sizeof(call->header));
    const struct header *header = &call->header;
    if (header->argument_count > ARGUMENTS_MAX || header->buffer_count > BUFFERS_MAX ||
        sizeof(*header) + header->argument_count * sizeof(*call->arguments) +
                header->buffer_count * sizeof(*call->buffers) >
            length) {
        return MALFORMED;
    }
    call->frame = frame;
    call->arguments = (const struct argument *)(frame + sizeof(*header));
    call->buffers = (const struct buffer *)(call->arguments + header->argument_count);
    for (size_t i = 0; i < header->buffer_count; i++) {
        const struct buffer *buffer = &call->buffers[i];
        bool written = buffer->extent != EXTENT_NONE;
        if (buffer->offset > length || buffer->length > length - buffer->offset ||
            (written ? buffer->length > buffer->capacity : buffer->capacity != 0) ||
            buffer->unit == 0 || buffer->source >= header->buffer_count) {
            return MALFORMED;
        }
        call->written_count += written;
    }
    return 0;
}

/* What is written lies in the reply from the start, each buffer aligned. */
static int place_buffers(struct call *call)
{
    size_t begin = align(sizeof(*call->reply) + call->written_count * sizeof(uint64_t));
    size_t total = begin;
    for (size_t i = 0; i < call->header.buffer_count; i++) {
        const struct buffer *buffer = &call->buffers[i];
        if (buffer->extent == EXTENT_NONE) {
            continue;
        }
        if (buffer->capacity > SIZE_MAX / 2 || total > SIZE_MAX / 2 - align(buffer->capacity)) {
            return NO_MEMORY;
        }
        total += align(buffer->capacity);
    }
    call->reply = calloc(total, 1);
    if (call->reply == NULL) {
        return NO_MEMORY;
    }
    uint8_t *place = (uint8_t *)call->reply + begin;
    for (size_t i = 0; i < call->header.buffer_count; i++) {
        const struct buffer *buffer = &call->buffers[i];
        const uint8_t *content = call->frame + buffer->offset;
        if (buffer->extent == EXTENT_NONE) {
            call->places[i] = (uint8_t *)(uintptr_t)content;
            continue;
        }
        if (buffer->length != 0) {
            memcpy(place, content, buffer->length);
        }
        call->places[i] = place;
        place += align(buffer->capacity);
    }
    return 0;
}

static int invoke(struct call *call, uint64_t *result)
{
    uint64_t integers[INTEGER_REGISTERS] = {0};
    uint64_t stack[STACK_WORDS] = {0};
    double floatings[FLOATING_REGISTERS] = {0};
    size_t integer_count = 0, floating_count = 0, stack_count = 0;
    for (size_t i = 0; i < call->header.argument_count; i++) {
        const struct argument *argument = &call->arguments[i];
        uint64_t value = argument->value;
        if (argument->kind == ARGUMENT_BUFFER) {
            if (value >= call->header.buffer_count) {
                return MALFORMED;
            }
            value = (uint64_t)(uintptr_t)call->places[value];
        }
        if (argument->kind == ARGUMENT_FLOATING && floating_count < FLOATING_REGISTERS) {
            memcpy(&floatings[floating_count++], &value, sizeof(value));
        } else if (argument->kind != ARGUMENT_FLOATING && integer_count < INTEGER_REGISTERS) {
            integers[integer_count++] = value;
        } else if (stack_count < STACK_WORDS) {
            stack[stack_count++] = value;
        } else {
            return MALFORMED;
        }
    }
    union {
        uintptr_t address;
        integer_function *integer;
        floating_function *floating;
    } function = {.address = (uintptr_t)call->header.function};
    if (call->header.floating != 0) {
        double value = function.floating(INTEGERS(integers), FLOATINGS(floatings), STACK(stack));
        memcpy(result, &value, sizeof(value));
    } else {
        *result = function.integer(INTEGERS(integers), FLOATINGS(floatings), STACK(stack));
    }
    if (call->header.result_size < sizeof(*result)) {
        *result &= ((uint64_t)1 << (8 * call->header.result_size)) - 1;
    }
    return 0;
}

/* An integer in a buffer of 1, 2, 4 or 8 bytes; a negative one is very long. */
static uint64_t count_in(const uint8_t *place, size_t width)
{
    uint64_t count = 0;
    memcpy(&count, place, width < sizeof(count) ? width : sizeof(count));
    return count;
}

static uint64_t written_length(const struct call *call, const struct buffer *buffer,
                               const uint8_t *place, uint64_t result)
{
    uint64_t count = 0;
    switch ((enum extent)buffer->extent) {
    case EXTENT_STRING:
        return strnlen((const char *)place, buffer->capacity);
    case EXTENT_BUFFER:
        count = count_in(call->places[buffer->source], call->buffers[buffer->source].capacity);
        break;
    case EXTENT_RETURNED:
        count = result;
        break;
    default:
        return buffer->capacity;
    }
    /* Whoever reads the reply sees that count, too, and judges it. */
    return count < buffer->capacity / buffer->unit ? count * buffer->unit : buffer->capacity;
}

/* Moves what was written together. All lengths first: a move overwrites what another depends on. */
static void collect(struct call *call, uint64_t result)
{
    struct reply *reply = call->reply;
    uint8_t *end = (uint8_t *)&reply->lengths[call->written_count];
    size_t written = 0;
    reply->result = result;
    for (size_t i = 0; i < call->header.buffer_count; i++) {
        const struct buffer *buffer = &call->buffers[i];
        if (buffer->extent != EXTENT_NONE) {
            reply->lengths[written++] = written_length(call, buffer, call->places[i], result);
        }
    }
    written = 0;
    for (size_t i = 0; i < call->header.buffer_count; i++) {
        if (call->buffers[i].extent != EXTENT_NONE) {
            size_t length = reply->lengths[written++];
            memmove(end, call->places[i], length);
            end += length;
        }
    }
    call->reply_length = (size_t)(end - (uint8_t *)reply);
}

/* A string that was returned, which may lie in a buffer that is about to move. */
static int copy_string(const struct call *call, uint64_t result, char **copy, size_t *length)
{
    const char *string = (const char *)(uintptr_t)result;
    if (call->header.string_limit == 0 || string == NULL) {
        return 0;
    }
    *length = strnlen(string, call->header.string_limit);
    *copy = malloc(*length + 1);
    if (*copy == NULL) {
        return NO_MEMORY;
    }
    memcpy(*copy, string, *length);
    return 0;
}

static int append(struct call *call, const char *string, size_t length)
{
    if (length == 0) {
        return 0;
    }
    struct reply *longer = malloc(call->reply_length + length);
    if (longer == NULL) {
        return NO_MEMORY;
    }
    memcpy(longer, call->reply, call->reply_length);
    memcpy((uint8_t *)longer + call->reply_length, string, length);
    longer->string_length = length;
    free(call->reply);
    call->reply = longer;
    call->reply_length += length;
    return 0;
}

static int run(const uint8_t *frame, size_t length, struct iso_bytes *output)
{
    struct call call = {0};
    uint64_t result = 0;
    int code = read_frame(&call, frame, length);
    if (code == 0) {
        code = place_buffers(&call);
    }
    if (code == 0) {
        code = invoke(&call, &result);
    }
    char *string = NULL;
    size_t string_length = 0;
    if (code == 0) {
        code = copy_string(&call, result, &string, &string_length);
    }
    if (code == 0) {
        collect(&call, result);
        code = append(&call, string, string_length);
    }
    free(string);
    if (code != 0) {
        free(call.reply);
        return code;
    }
    *output = (struct iso_bytes){(uint8_t *)call.reply, call.reply_length};
    return 0;
}

int dispatch_call(const uint8_t *input, size_t input_length, struct iso_bytes *output)
{
    if ((uintptr_t)input % ALIGNMENT == 0) {
        return run(input, input_length, output);
    }
    uint8_t *aligned = malloc(input_length);
    if (aligned == NULL) {
        return NO_MEMORY;
    }
    memcpy(aligned, input, input_length);
    int code = run(aligned, input_length, output);
    free(aligned);
    return code;
}
