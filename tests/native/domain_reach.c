/* How far foreign code reaches that does its worst on purpose: at the caller's memory by way of the
 * kernel, at other domains', at secrets. */
#include "domains.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>

static uint8_t precious[8192] __attribute__((aligned(4096)));

static void check_precious(void)
{
    for (size_t i = 0; i < sizeof(precious); i++) {
        CHECK(precious[i] == 0x77);
    }
}

/* A domain that this thread has used, and memory that it is not to write. */
static void open_used(struct box *box)
{
    need_protection_keys();
    *box = (struct box){.mechanism = &iso_domain};
    open_box(box);
    CHECK_WORKS(box);
    memset(precious, 0x77, sizeof(precious));
    draw_pattern();
}

/* ---- by way of the kernel ---- */

TEST(system_calls_that_would_lift_the_wall_are_refused)
{
    struct box box;
    open_used(&box);
    int memory = open("/proc/self/mem", O_RDWR);
    CHECK(memory >= 0);
    uint8_t zeroes[64] = {0};
    struct iovec local = {zeroes, sizeof(zeroes)}, remote = {precious, sizeof(zeroes)};
    struct itimerval never = {0};
    stack_t stack = {.ss_flags = SS_DISABLE};
    struct sigaction action = {.sa_handler = SIG_IGN};
    uint64_t here = (uintptr_t)precious, pid = (uint64_t)getpid();
    enum { READ_WRITE = PROT_READ | PROT_WRITE };
    const uint64_t calls[][7] = {
        {SYS_mprotect, here, 4096, READ_WRITE | PROT_EXEC},
        {SYS_pkey_mprotect, here, 4096, READ_WRITE, 1},
        {SYS_pkey_mprotect, here, 4096, READ_WRITE, 2},
        {SYS_pkey_alloc, 0, 0},
        {SYS_pkey_free, 1},
        {SYS_munmap, here, 4096},
        {SYS_mmap, here, 4096, READ_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, UINT64_MAX, 0},
        {SYS_mremap, here, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, here + 4096},
        {SYS_madvise, here, 4096, MADV_DONTNEED},
        {SYS_read, 0, here, 64},
        {SYS_pwrite64, (uint64_t)memory, (uintptr_t)zeroes, 64, here},
        {SYS_pread64, (uint64_t)memory, here, 64, (uintptr_t)zeroes},
        {SYS_process_vm_writev, pid, (uintptr_t)&local, 1, (uintptr_t)&remote, 1, 0},
        {SYS_clone, CLONE_VM | CLONE_THREAD | CLONE_SIGHAND, 0},
        {SYS_clone, SIGCHLD, 0},
        {SYS_vfork},
        {SYS_rt_sigreturn},
        {SYS_sigaltstack, (uintptr_t)&stack, 0},
        {SYS_rt_sigaction, SIGSEGV, (uintptr_t)&action, 0, 8},
        {SYS_rt_sigprocmask, SIG_BLOCK, (uintptr_t)zeroes, 0, 8},
        {SYS_setitimer, ITIMER_REAL, (uintptr_t)&never, 0},
        {SYS_prctl, 59 /* PR_SET_SYSCALL_USER_DISPATCH */, 0, 0, 0, 0},
        {SYS_prctl, PR_SET_NAME, (uintptr_t)"evil"},
        {SYS_arch_prctl, 0x1002 /* ARCH_SET_FS */, here},
        {SYS_arch_prctl, 0x5001 /* ARCH_SHSTK_ENABLE */, 1},
        {SYS_ptrace, 0},
        {SYS_userfaultfd, 0},
        {SYS_kill, pid, SIGKILL},
        {SYS_tgkill, pid, pid, SIGTERM},
        {SYS_exit_group, 0},
        {SYS_exit, 0},
        {SYS_execve, (uintptr_t)"/bin/true", 0, 0},
        {SYS_set_robust_list, here, 24},
        {SYS_set_tid_address, here},
        {SYS_rseq, here, 32, 0, 0x53053053},
        {UINT64_MAX},
        {1 << 30 | SYS_getpid}, /* an x32 call */
    };
    for (size_t i = 0; i < 3 * sizeof(calls) / sizeof(calls[0]); i++) {
        const uint64_t *words = calls[i / 3];
        struct answer answer = call(&box, hostile_system_call_with, words, sizeof(calls[0]));
        check_violation(__FILE__, __LINE__, answer, ISO_VIOLATION_SIGNAL, SIGSYS,
                        "system call refused");
        CHECK(answer.reply.fault.system_call_known);
        CHECK_EQUAL(answer.reply.fault.system_call, (int)words[0]);
    }
    check_precious();
    check_pattern();
    CHECK_WORKS(&box);
    CHECK(close(memory) == 0);
    close_box(&box);
}

/* The kernel answers calls to this page itself, without a system call that dispatch would see. */
TEST(the_kernels_own_page_writes_nothing_for_a_domain)
{
    struct box box;
    open_used(&box);
    for (uint64_t entry = 0; entry < 3; entry++) { /* gettimeofday, time, getcpu */
        const uint64_t words[3] = {0xffffffffff600000 + entry * 1024, (uintptr_t)precious,
                                   (uintptr_t)precious + 64};
        struct answer answer = call(&box, hostile_call_with, words, sizeof(words));
        CHECK(answer.status == ISO_OK || answer.status == ISO_VIOLATION);
        CHECK_WORKS(&box);
        check_precious();
    }
    close_box(&box);
}

/* ---- wild jumps and stacks ---- */

TEST(a_jump_to_nowhere_is_told_as_one)
{
    struct box box;
    open_used(&box);
    struct answer answer = call_number(&box, hostile_jump, 0);
    CHECK_SIGNAL(answer, SIGSEGV);
    CHECK(answer.reply.fault.address_known);
    CHECK_EQUAL(answer.reply.fault.address, 0);
    CHECK_EQUAL(answer.reply.fault.instruction, 0);
    CHECK_EQUAL(answer.reply.fault.access, ISO_ACCESS_EXECUTE);
    CHECK_SIGNAL(call_number(&box, hostile_jump, UINT64_C(1) << 63), SIGSEGV);
    CHECK_SIGNAL(call_number(&box, hostile_jump, (uintptr_t)precious), SIGSEGV);
    CHECK_WORKS(&box);
    close_box(&box);
}

TEST(a_stack_pointer_into_the_signal_stack_ends_in_a_violation)
{
    struct box box;
    open_used(&box);
    stack_t stack; /* the kernel's, not what the program has set */
    CHECK(syscall(SYS_sigaltstack, NULL, &stack) == 0);
    CHECK(stack.ss_sp != NULL && stack.ss_size != 0);
    for (uint64_t offset = 0; offset <= stack.ss_size; offset += 4096) {
        uint64_t at = (uintptr_t)stack.ss_sp + offset;
        CHECK_EQUAL(call_number(&box, hostile_wild_stack, at).status, ISO_VIOLATION);
        CHECK_EQUAL(call_number(&box, hostile_write, at).status == ISO_FOREIGN_ERROR, false);
        CHECK_WORKS(&box);
    }
    check_pattern();
    close_box(&box);
}

TEST(freed_memory_that_is_used_on_harms_its_own_domain_only)
{
    struct box box;
    open_used(&box);
    for (int i = 0; i < 5; i++) {
        CHECK_EQUAL(call(&box, hostile_use_after_free, NULL, 0).status, ISO_VIOLATION);
        CHECK_WORKS(&box);
    }
    /* The state of its allocator lies in the domain: all of it is fair game, and nothing else. */
    struct answer answer = call(&box, benign_reverse, "abc", 3);
    CHECK_OUTPUT(&box, answer, "cba", 3);
    check_pattern();
    close_box(&box);
}

/* ---- other domains ---- */

TEST(domains_neither_read_nor_write_each_other)
{
    struct box box, other = {.mechanism = &iso_domain_view};
    open_used(&box);
    open_box(&other);
    struct answer view = call(&other, benign_reverse, "abc", 3);
    CHECK_EQUAL(view.status, ISO_OK);
    uint64_t there = (uintptr_t)view.reply.output.data;
    static const enum foreign ways[] = {hostile_read, hostile_write};
    static const enum iso_access accesses[] = {ISO_ACCESS_READ, ISO_ACCESS_WRITE};
    int key = 0;
    for (int i = 0; i < 6; i++) {
        struct answer answer = call_number(&box, ways[i % 2], there);
        CHECK_SIGNAL(answer, SIGSEGV);
        CHECK_EQUAL(answer.reply.fault.address, there);
        CHECK_EQUAL(answer.reply.fault.access, accesses[i % 2]);
        CHECK(answer.reply.fault.protection_key_known);
        CHECK(answer.reply.fault.protection_key > 0);
        CHECK(key == 0 || key == answer.reply.fault.protection_key);
        key = answer.reply.fault.protection_key;
    }
    CHECK(memcmp(view.reply.output.data, "cba", 3) == 0);
    release(&other, &view);
    CHECK_WORKS(&other);
    close_box(&other);
    close_box(&box);
}

/* ---- secrets ---- */

static void check_closed(const struct box *box, const struct iso_data *secret, bool to_readers)
{
    struct answer answer = call_number(box, hostile_write, (uintptr_t)secret->memory);
    CHECK_SIGNAL(answer, SIGSEGV);
    CHECK(answer.reply.fault.protection_key_known);
    CHECK_EQUAL(answer.reply.fault.protection_key, secret->key);
    answer = call_number(box, hostile_read, (uintptr_t)secret->memory);
    if (!to_readers) {
        CHECK_OUTPUT(box, answer, "s", 1);
        return;
    }
    CHECK_SIGNAL(answer, SIGSEGV);
    CHECK_EQUAL(answer.reply.fault.protection_key, secret->key);
}

TEST(a_secret_is_open_to_whom_it_is_granted)
{
    struct box box, other = {.mechanism = &iso_domain_view};
    struct iso_fault fault;
    struct iso_data *secret;
    open_used(&box);
    open_box(&other);
    struct holdings before = {0};
    for (int round = 0; round < 5; round++) {
        if (round == 2) {
            before = take_stock();
        }
        CHECK_EQUAL(iso_data_open(5000, &secret, &fault), ISO_OK);
        CHECK_EQUAL(secret->length, 8192);
        CHECK(secret->memory[0] == 0 && secret->memory[8191] == 0);
        memcpy(secret->memory, "secret", 6);
        check_closed(&box, secret, true);
        iso_data_grant(box.sandbox, secret, ISO_RIGHTS_READ);
        check_closed(&box, secret, false);
        check_closed(&other, secret, true);
        iso_data_grant(box.sandbox, secret, ISO_RIGHTS_WRITE);
        CHECK_EQUAL(call_number(&box, hostile_write, (uintptr_t)secret->memory).status, ISO_OK);
        CHECK(secret->memory[0] == 0x66 && secret->memory[1] == 'e');
        secret->memory[0] = 's';
        check_closed(&other, secret, true);
        pid_t child = fork();
        if (child == 0) {
            CHECK(secret->memory[0] == 's');
            check_closed(&other, secret, true);
            CHECK_EQUAL(call_number(&box, hostile_write, (uintptr_t)secret->memory).status, ISO_OK);
            _exit(0);
        }
        CHECK_EQUAL(exit_status_of(child), 0);
        iso_data_grant(box.sandbox, secret, ISO_RIGHTS_NONE);
        check_closed(&box, secret, true);
        iso_data_grant(box.sandbox, secret, ISO_RIGHTS_WRITE);
        iso_data_close(secret); /* and the next one, with the same key, is closed again */
    }
    CHECK_EQUAL(iso_data_open(0, &secret, &fault), ISO_SYSTEM_ERROR);
    CHECK(secret == NULL && fault.what != NULL);
    CHECK_EQUAL(iso_data_open(SIZE_MAX, &secret, &fault), ISO_SYSTEM_ERROR);
    CHECK(secret == NULL && fault.what != NULL);
    check_stock(&before, 256 << 10);
    close_box(&other);
    close_box(&box);
}

static atomic_int is_calling;

static void *call_for_a_while(void *box)
{
    struct answer answer = call(box, benign_echo, "", 0);
    release(box, &answer);
    atomic_store(&is_calling, 1);
    CHECK_TIMEOUT(call_within(box, 1000 * MS, hostile_loop, NULL, 0));
    return NULL;
}

/* The rights that a call began with are the thread's until it ends. */
TEST(the_key_of_a_secret_that_a_running_domain_was_granted_is_given_to_nobody)
{
    struct box box, other;
    struct iso_fault fault;
    struct iso_data *granted, *not_granted;
    pthread_t thread;
    open_used(&box);
    open_used(&other);
    CHECK_EQUAL(iso_data_open(1, &granted, &fault), ISO_OK);
    CHECK_EQUAL(iso_data_open(1, &not_granted, &fault), ISO_OK);
    int key = granted->key, free_keys = take_stock().keys;
    iso_data_grant(box.sandbox, granted, ISO_RIGHTS_READ);
    iso_data_grant(other.sandbox, not_granted, ISO_RIGHTS_READ); /* which is not running */
    CHECK(pthread_create(&thread, NULL, call_for_a_while, &box) == 0);
    while (!atomic_load(&is_calling)) {
        sleep_ms(1);
    }
    sleep_ms(100);
    iso_data_close(granted);
    CHECK_EQUAL(take_stock().keys, free_keys);
    iso_data_close(not_granted);
    CHECK_EQUAL(take_stock().keys, free_keys + 1);
    CHECK_EQUAL(iso_data_open(1, &granted, &fault), ISO_OK);
    CHECK(granted->key != key);
    CHECK(pthread_join(thread, NULL) == 0);
    check_closed(&box, granted, true);
    iso_data_close(granted);
    CHECK_EQUAL(take_stock().keys, free_keys + 1);
    close_box(&other);
    close_box(&box);
}
