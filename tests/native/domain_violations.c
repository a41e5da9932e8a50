/* Every kind of violation rewinds: the caller gets an error that says what it was, its memory is
 * untouched, and the next call is right. */
#include "domains.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

struct kind {
    enum foreign function;
    uint64_t argument;
    enum iso_violation violation;
    int signal; /* or exit status */
    const char *what;
};

static uint8_t target[64]; /* what wild writes are aimed at */

/* Beyond the end of a file: a mapped page that is not there. */
static uint64_t page_without_a_file(void)
{
    int fd = memfd_create("short", 0);
    CHECK(fd >= 0);
    void *page = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
    CHECK(page != MAP_FAILED);
    close(fd);
    return (uintptr_t)page;
}

static void check_kind(const struct box *box, const struct kind *kind)
{
    struct answer answer = call_number(box, kind->function, kind->argument);
    const struct iso_fault *fault = &answer.reply.fault;
    int number = kind->violation == ISO_VIOLATION_EXIT ? fault->exit_code : fault->signal;
    bool right =
        answer.status == ISO_VIOLATION && fault->violation == kind->violation &&
        number == kind->signal &&
        (kind->what == NULL || (fault->what != NULL && strstr(fault->what, kind->what) != NULL));
    if (!right && answer.status != ISO_VIOLATION) {
        check_failed(__FILE__, __LINE__, "function %d, %llx: status %d", kind->function,
                     (unsigned long long)kind->argument, answer.status);
    }
    if (!right) {
        check_failed(__FILE__, __LINE__, "function %d, %llx: violation %d, signal %d, exit %d, %s",
                     kind->function, (unsigned long long)kind->argument, fault->violation,
                     fault->signal, fault->exit_code, fault->what != NULL ? fault->what : "");
    }
    CHECK_WORKS(box);
}

TEST(every_kind_rewinds_and_is_told_apart)
{
    need_protection_keys();
    uint64_t outside = (uintptr_t)target;
    uint64_t no_page = page_without_a_file();
    const struct kind kinds[] = {
        {hostile_write, 0, ISO_VIOLATION_SIGNAL, SIGSEGV, NULL},
        {hostile_write, outside, ISO_VIOLATION_SIGNAL, SIGSEGV, NULL},
        {hostile_write, UINT64_C(1) << 63, ISO_VIOLATION_SIGNAL, SIGSEGV, NULL},
        {hostile_write, (uintptr_t)&environ, ISO_VIOLATION_SIGNAL, SIGSEGV, NULL},
        {hostile_write, (uintptr_t)&check_kind, ISO_VIOLATION_SIGNAL, SIGSEGV, NULL},
        {hostile_read, 8, ISO_VIOLATION_SIGNAL, SIGSEGV, NULL},
        {hostile_read, no_page, ISO_VIOLATION_SIGNAL, SIGBUS, NULL},
        {hostile_jump, 4096, ISO_VIOLATION_SIGNAL, SIGSEGV, NULL},
        {hostile_jump, outside, ISO_VIOLATION_SIGNAL, SIGSEGV, NULL},
        {hostile_abort, 0, ISO_VIOLATION_SIGNAL, SIGABRT, "abort"},
        {hostile_exit, 7, ISO_VIOLATION_EXIT, 7, "exit"},
        {hostile_raise, SIGKILL, ISO_VIOLATION_SIGNAL, SIGSYS, "system call"},
        {hostile_illegal_instruction, 0, ISO_VIOLATION_SIGNAL, SIGILL, NULL},
        {hostile_stack_overflow, 0, ISO_VIOLATION_SIGNAL, SIGSEGV, "stack overflow"},
        {hostile_smash_stack, 0, ISO_VIOLATION_SIGNAL, SIGABRT, "stack smashed"},
        {hostile_divide, 0, ISO_VIOLATION_SIGNAL, SIGFPE, NULL},
        {hostile_bus_error, 0, ISO_VIOLATION_SIGNAL, 0, NULL},
        {hostile_breakpoint, 0, ISO_VIOLATION_SIGNAL, SIGTRAP, NULL},
        {hostile_single_step, 0, ISO_VIOLATION_SIGNAL, SIGTRAP, NULL},
        {hostile_wild_stack, outside + 32, ISO_VIOLATION_SIGNAL, SIGSEGV, NULL},
        {hostile_wild_stack, 0, ISO_VIOLATION_SIGNAL, SIGSEGV, NULL},
        {hostile_lose_fs_and_fault, 0, ISO_VIOLATION_SIGNAL, SIGILL, NULL},
        {hostile_corrupt_heap, 0, ISO_VIOLATION_SIGNAL, 0, NULL},
        {hostile_free_twice, 0, ISO_VIOLATION_SIGNAL, 0, NULL},
        {hostile_null_output, 0, ISO_VIOLATION_PROTOCOL, 0, "result"},
        {hostile_wild_output, outside, ISO_VIOLATION_PROTOCOL, 0, "result"},
        {hostile_wild_output, UINT64_MAX - 100, ISO_VIOLATION_PROTOCOL, 0, "result"},
        {hostile_endless_output, 0, ISO_VIOLATION_PROTOCOL, 0, "result"},
        {hostile_close_descriptors, 0, ISO_VIOLATION_SIGNAL, SIGSYS, "system call"},
        {hostile_leave_a_child, 0, ISO_VIOLATION_SIGNAL, SIGSYS, "system call"},
        {hostile_sleep, 0, ISO_VIOLATION_SIGNAL, SIGSYS, "system call"},
        {hostile_use_heap_and_fault, 1 << 20, ISO_VIOLATION_SIGNAL, SIGSEGV, NULL},
    };
    for (size_t m = 0; m < 2; m++) {
        struct box box = {.mechanism = domains[m]};
        uint8_t frame[4096];
        open_box(&box);
        draw_pattern();
        memset(frame, 0x5a, sizeof(frame));
        for (size_t i = 0; i < 2 * sizeof(kinds) / sizeof(kinds[0]); i++) {
            struct kind kind = kinds[i / 2]; /* each twice */
            if (kind.signal == 0 && kind.violation == ISO_VIOLATION_SIGNAL) {
                /* What comes of a corrupted heap depends on what was corrupted; and emulators do
                 * not tell a stack fault from a general protection fault. */
                CHECK(call_number(&box, kind.function, kind.argument).status == ISO_VIOLATION);
                CHECK_WORKS(&box);
            } else {
                check_kind(&box, &kind);
            }
        }
        check_pattern();
        for (size_t i = 0; i < sizeof(frame); i++) {
            CHECK(frame[i] == 0x5a);
        }
        for (size_t i = 0; i < sizeof(target); i++) {
            CHECK(target[i] == 0);
        }
        close_box(&box);
    }
    munmap((void *)(uintptr_t)no_page, 4096);
}

TEST(what_is_known_of_an_access_is_told)
{
    need_protection_keys();
    struct box box = {.mechanism = &iso_domain};
    open_box(&box);
    struct answer answer = call_number(&box, hostile_write, (uintptr_t)target);
    CHECK(answer.status == ISO_VIOLATION);
    CHECK(answer.reply.fault.address_known);
    CHECK_EQUAL(answer.reply.fault.address, (uintptr_t)target);
    CHECK_EQUAL(answer.reply.fault.access, ISO_ACCESS_WRITE);
    CHECK(answer.reply.fault.protection_key_known);
    CHECK_EQUAL(answer.reply.fault.protection_key, 0);
    answer = call_number(&box, hostile_read, 16);
    CHECK_EQUAL(answer.reply.fault.access, ISO_ACCESS_READ);
    answer = call_number(&box, hostile_jump, 4096);
    CHECK_EQUAL(answer.reply.fault.access, ISO_ACCESS_EXECUTE);
    answer = call_number(&box, hostile_system_call, SYS_getpid);
    CHECK(answer.reply.fault.system_call_known);
    CHECK_EQUAL(answer.reply.fault.system_call, SYS_getpid);
    close_box(&box);
}

TEST(system_calls_are_refused)
{
    need_protection_keys();
    struct box box = {.mechanism = &iso_domain};
    open_box(&box);
    /* All that there are, and some that there are not. */
    for (uint64_t number = 0; number < 500; number++) {
        struct answer answer = call_number(&box, hostile_system_call, number);
        CHECK(answer.status == ISO_VIOLATION);
        CHECK_EQUAL(answer.reply.fault.signal, SIGSYS);
    }
    for (uint64_t number = 0; number < 400; number++) { /* 20 is its getpid */
        CHECK(call_number(&box, hostile_old_system_call, number).status == ISO_VIOLATION);
    }
    CHECK_WORKS(&box);
    close_box(&box);
}

TEST(errno_is_the_domains_own)
{
    need_protection_keys();
    struct box box = {.mechanism = &iso_domain};
    open_box(&box);
    errno = 11;
    uint8_t wanted = 34;
    CHECK_OUTPUT(&box, call_number(&box, hostile_set_errno, 34), &wanted, 1);
    CHECK_EQUAL(errno, 11);
    close_box(&box);
}

TEST(freeing_what_is_not_the_domains_is_ignored_or_rewinds)
{
    need_protection_keys();
    struct box box = {.mechanism = &iso_domain};
    open_box(&box);
    void *block = malloc(100);
    memset(block, 7, 100);
    struct answer answer = call_number(&box, hostile_free_wild, (uintptr_t)block);
    CHECK(answer.status == ISO_OK || answer.status == ISO_VIOLATION);
    CHECK(((uint8_t *)block)[99] == 7);
    free(block);
    CHECK_WORKS(&box);
    close_box(&box);
}

TEST(a_domain_that_must_not_respawn_stays_dead)
{
    need_protection_keys();
    struct box box = {.mechanism = &iso_domain, .stays_dead = true};
    open_box(&box);
    CHECK_WORKS(&box);
    CHECK(call(&box, hostile_abort, NULL, 0).status == ISO_VIOLATION);
    CHECK_EQUAL(call(&box, benign_reverse, "abc", 3).status, ISO_DEAD);
    CHECK_EQUAL(call(&box, benign_reverse, "abc", 3).status, ISO_DEAD);
    close_box(&box);
    open_box(&box);
    CHECK_EQUAL(call_within(&box, 1000 * MS, hostile_abort, NULL, 0).status, ISO_VIOLATION);
    CHECK_EQUAL(call(&box, benign_reverse, "abc", 3).status, ISO_DEAD);
    close_box(&box);
}

TEST(big_heaps_and_deep_stacks_are_served_and_given_back)
{
    need_protection_keys();
    struct box box = {.mechanism = &iso_domain};
    open_box(&box);
    struct holdings before = take_stock();
    CHECK_EQUAL(call_number(&box, hostile_use_heap, 500 << 20).status, ISO_OK);
    CHECK(take_stock().resident - before.resident > 400 << 20);
    CHECK_EQUAL(call_number(&box, hostile_use_stack, 1000).status, ISO_OK); /* 4 MiB */
    CHECK_EQUAL(call_number(&box, hostile_use_heap, UINT64_C(1) << 40).status, ISO_FOREIGN_ERROR);
    CHECK_EQUAL(call(&box, hostile_abort, NULL, 0).status, ISO_VIOLATION);
    CHECK(take_stock().resident - before.resident < 4 << 20);
    CHECK_WORKS(&box);
    close_box(&box);
}
