/* Functions of all the types that a sandbox calls, and some that misbehave. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define SAME(name, type)                                                                           \
    type same_##name(type value);                                                                  \
    type same_##name(type value)                                                                   \
    {                                                                                              \
        return value;                                                                              \
    }
SAME(int8, int8_t)
SAME(uint8, uint8_t)
SAME(int16, int16_t)
SAME(uint16, uint16_t)
SAME(int32, int32_t)
SAME(uint32, uint32_t)
SAME(int64, int64_t)
SAME(uint64, uint64_t)
SAME(float, float)
SAME(double, double)
SAME(bool, bool)
SAME(char, char)

/* Widens what it gets, so that a badly extended argument shows. */
int64_t widen(int8_t a, int16_t b, int32_t c, bool d);
int64_t widen(int8_t a, int16_t b, int32_t c, bool d)
{
    return (int64_t)a + (int64_t)b + (int64_t)c + (d ? 1 : 0);
}

/* More than registers hold, of all kinds, in an order that mixes them. */
void mixed(int8_t a, double b, uint16_t c, float d, int32_t e, double f, uint64_t g, float h,
           int64_t i, double j, uint8_t k, float l, int16_t m, double n, uint32_t o, float p,
           int8_t q, double r, bool s, float t, int64_t u, double v, double *out);
void mixed(int8_t a, double b, uint16_t c, float d, int32_t e, double f, uint64_t g, float h,
           int64_t i, double j, uint8_t k, float l, int16_t m, double n, uint32_t o, float p,
           int8_t q, double r, bool s, float t, int64_t u, double v, double *out)
{
    const double all[] = {a, b, c, d, e, f, (double)g, h, (double)i, j,         k,
                          l, m, n, o, p, q, r,         s, t,         (double)u, v};
    memcpy(out, all, sizeof(all));
}

int sum_bytes(const void *data, size_t length);
int sum_bytes(const void *data, size_t length)
{
    unsigned sum = 0;
    for (size_t i = 0; i < length; i++) {
        sum += ((const uint8_t *)data)[i];
    }
    return (int)sum;
}

/* Reverses; leaves the length of what it wrote; refuses what does not fit with -1. */
int reverse(const char *input, size_t input_length, char *output, size_t *output_length);
int reverse(const char *input, size_t input_length, char *output, size_t *output_length)
{
    if (*output_length < input_length) {
        return -1;
    }
    for (size_t i = 0; i < input_length; i++) {
        output[i] = input[input_length - 1 - i];
    }
    *output_length = input_length;
    return 0;
}

/* As read(2): how much it wrote, or -1. */
int take(char *output, int room, int wanted);
int take(char *output, int room, int wanted)
{
    if (wanted < 0) {
        return -1;
    }
    for (int i = 0; i < wanted && i < room; i++) {
        output[i] = (char)('a' + i % 26);
    }
    return wanted;
}

void fill(uint8_t *output, uint32_t length, uint8_t value);
void fill(uint8_t *output, uint32_t length, uint8_t value)
{
    memset(output, value, length);
}

void add(const double *a, const double *b, double *sum, size_t count);
void add(const double *a, const double *b, double *sum, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        sum[i] = a[i] + b[i];
    }
}

void negate(int16_t *values, size_t count);
void negate(int16_t *values, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        values[i] = (int16_t)-values[i];
    }
}

/* Drops the zeroes; *count is how many there are, before and after. */
void drop_zeroes(uint32_t *values, uint8_t *count);
void drop_zeroes(uint32_t *values, uint8_t *count)
{
    uint8_t kept = 0;
    for (uint8_t i = 0; i < *count; i++) {
        if (values[i] != 0) {
            values[kept++] = values[i];
        }
    }
    *count = kept;
}

size_t text_length(const char *text);
size_t text_length(const char *text)
{
    return strlen(text);
}

void greet(const char *name, char *greeting, size_t room);
void greet(const char *name, char *greeting, size_t room)
{
    strncpy(greeting, "hello ", room);
    strncat(greeting, name, room - strlen(greeting) - 1);
}

const char *greeted(char *greeting, size_t room);
const char *greeted(char *greeting, size_t room)
{
    strncpy(greeting, "hello world", room);
    return greeting;
}

void shout(char *text);
void shout(char *text)
{
    for (; *text != '\0'; text++) {
        *text = *text >= 'a' && *text <= 'z' ? (char)(*text - 32) : *text;
    }
}

const char *name_of(int number);
const char *name_of(int number)
{
    return number == 0 ? NULL : number == 1 ? "one" : "";
}

struct point {
    double x, y;
};
struct shape {
    uint8_t kind;
    bool closed;
    char name[12];
    uint8_t colour[4];
    int32_t numbers[3];
    struct point points[2];
};

double area(const struct shape *shape);
double area(const struct shape *shape)
{
    double width = shape->points[1].x - shape->points[0].x;
    return width * (shape->points[1].y - shape->points[0].y);
}

void move(struct shape *shape, const struct point *by);
void move(struct shape *shape, const struct point *by)
{
    for (int i = 0; i < 2; i++) {
        shape->points[i].x += by->x;
        shape->points[i].y += by->y;
    }
}

void unit_square(struct shape *shape);
void unit_square(struct shape *shape)
{
    *shape = (struct shape){.kind = 4,
                            .closed = true,
                            .name = "square",
                            .colour = {1, 0, 2, 255},
                            .numbers = {-1, 0, 1},
                            .points = {{0, 0}, {1, 1}}};
}

void centres(const struct shape *shapes, size_t count, struct point *centres);
void centres(const struct shape *shapes, size_t count, struct point *out)
{
    for (size_t i = 0; i < count; i++) {
        out[i].x = (shapes[i].points[0].x + shapes[i].points[1].x) / 2;
        out[i].y = (shapes[i].points[0].y + shapes[i].points[1].y) / 2;
    }
}

bool is_null(const void *pointer);
bool is_null(const void *pointer)
{
    return pointer == NULL;
}

/* Whether memory is aligned as malloc() would; and zeroed. */
int is_aligned(const void *input, size_t length, char *other, double *output);
int is_aligned(const void *input, size_t length, char *other, double *output)
{
    (void)length;
    (void)other;
    return (uintptr_t)input % 16 == 0 && (uintptr_t)output % 16 == 0 && *output == 0;
}

int status(int code);
int status(int code)
{
    return code;
}

int count_calls(void);
int count_calls(void)
{
    static int calls;
    return ++calls;
}

/* ---- what misbehaves ---- */

int crash(int code);
int crash(int code)
{
    volatile int *volatile nowhere = (volatile int *)64;
    *nowhere = code;
    return code;
}

void spin(void);
void spin(void)
{
    for (volatile unsigned turn = 0;; turn = turn + 1) {
    }
}

void overclaim(char *output, size_t *length, size_t claim);
void overclaim(char *output, size_t *length, size_t claim)
{
    output[0] = 'x';
    *length = claim;
}

void bad_truth(bool *values, size_t count);
void bad_truth(bool *values, size_t count)
{
    memset(values, 7, count);
}

struct truth {
    bool value;
};
void bad_truth_in(struct truth *truth);
void bad_truth_in(struct truth *truth)
{
    memset(truth, 7, sizeof(*truth));
}
