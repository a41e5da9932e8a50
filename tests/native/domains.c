#include "domains.h"

#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

const struct iso_mechanism *const domains[2] = {&iso_domain, &iso_domain_view};

bool has_protection_keys(void)
{
    char line[8192];
    bool found = false;
    FILE *file = fopen("/proc/cpuinfo", "r");
    CHECK(file != NULL);
    while (!found && fgets(line, sizeof(line), file) != NULL) {
        found = strstr(line, " ospke") != NULL;
    }
    fclose(file);
    return found;
}

void need_protection_keys(void)
{
    if (!has_protection_keys()) {
        skip("this CPU has no protection keys; tests/test_protection_keys.py emulates one");
    }
}

bool handlers_may_call(void)
{
    struct utsname kernel;
    int major = 0, minor = 0;
    CHECK(uname(&kernel) == 0);
    CHECK(sscanf(kernel.release, "%d.%d", &major, &minor) == 2);
    return major > 6 || (major == 6 && minor >= 12);
}

uint64_t signal_entry(void)
{
    uint64_t action[4]; /* the handler, flags, restorer, mask */
    CHECK(syscall(SYS_rt_sigaction, SIGSEGV, NULL, action, 8) == 0);
    return action[0];
}

stack_t signal_stack(void)
{
    stack_t stack;
    CHECK(syscall(SYS_sigaltstack, NULL, &stack) == 0);
    return stack;
}

enum { PATTERN = 1 << 20 };
static uint32_t pattern[PATTERN / sizeof(uint32_t)];

void draw_pattern(void)
{
    for (uint32_t i = 0; i < PATTERN / sizeof(uint32_t); i++) {
        pattern[i] = i * 2654435761U;
    }
}

void check_pattern(void)
{
    for (uint32_t i = 0; i < PATTERN / sizeof(uint32_t); i++) {
        CHECK(pattern[i] == i * 2654435761U);
    }
}

static int free_keys(void)
{
    int keys[16];
    int count = 0;
    while (count < 16 && (keys[count] = (int)syscall(SYS_pkey_alloc, 0UL, 0UL)) >= 0) {
        count++;
    }
    for (int i = 0; i < count; i++) {
        CHECK(syscall(SYS_pkey_free, keys[i]) == 0);
    }
    return count;
}

struct holdings take_stock(void)
{
    struct holdings now = {.keys = free_keys(), .descriptors = open_descriptors()};
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    CHECK(file != NULL && fscanf(file, "%*s %ld", &pages) == 1);
    fclose(file);
    now.resident = pages * sysconf(_SC_PAGESIZE);
    file = fopen("/proc/self/maps", "r");
    CHECK(file != NULL);
    for (int c; (c = getc(file)) != EOF;) {
        now.mappings += c == '\n';
    }
    fclose(file);
    return now;
}

void check_stock(const struct holdings *before, long may_grow)
{
    struct holdings now = take_stock();
    CHECK_EQUAL(now.keys, before->keys);
    CHECK_EQUAL(now.descriptors, before->descriptors);
    CHECK_EQUAL(now.mappings, before->mappings);
    if (now.resident - before->resident > may_grow) {
        check_failed(__FILE__, __LINE__, "grown by %ld bytes", now.resident - before->resident);
    }
}
