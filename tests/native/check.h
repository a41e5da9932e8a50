/*
 * Tests as functions: each program has some, `program NAME` runs one in a process of its own. CMake
 * finds them by their TEST lines.
 *
 * Whatever a test opens it closes: afterwards there must be no descriptor and no child more than
 * before.
 */
#ifndef CHECK_H
#define CHECK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct test {
    const char *name;
    void (*run)(void);
    struct test *next;
};

void add_test(struct test *test);

#define TEST(name)                                                                                 \
    static void name(void);                                                                        \
    __attribute__((constructor)) static void add_##name(void)                                      \
    {                                                                                              \
        static struct test test = {#name, name, 0};                                                \
        add_test(&test);                                                                           \
    }                                                                                              \
    static void name(void)

/* A check that fails ends the process with status 1 at once, whatever it was doing. */
#define CHECK(condition)                                                                           \
    ((condition) ? (void)0 : check_failed(__FILE__, __LINE__, "%s", #condition))
#define CHECK_EQUAL(value, wanted)                                                                 \
    check_equal(__FILE__, __LINE__, #value, (long long)(value), (long long)(wanted))

_Noreturn void check_failed(const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void check_equal(const char *file, int line, const char *expression, long long value,
                 long long wanted);

/* Said with each failure: what the test was at. A static string. */
extern __thread const char *check_context;

/* Ends the test as skipped, for something that this machine has not. */
_Noreturn void skip(const char *reason);

/* ---- what tests look at ---- */

int open_descriptors(void);
bool has_no_children(void);
uint64_t now_ms(void);
void sleep_ms(unsigned milliseconds);

/* Collects a child of the test's own; its exit status, or 128 and its signal. */
int exit_status_of(pid_t pid);

/* Memory that stays shared across fork(), zero at first. It is there until the test ends. */
void *shared_memory(size_t length);

/* Whether the process, which need not be ours, ends within 5 s. */
bool ends_soon(pid_t pid);

#endif
