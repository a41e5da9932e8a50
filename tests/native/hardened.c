/*
 * What a hardened child can do no more: each thing is tried in it, and in its unhardened twin,
 * where it must get through to the kernel, or the test would show nothing.
 */
#include "sandbox.h"

#include "../../native/process/hardening.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef SYS_io_uring_setup
#define SYS_io_uring_setup 425
#endif

static void check_refused_call(const struct box *box, enum foreign function, uint64_t number,
                               int system_call)
{
    struct answer answer = call_number(box, function, number);
    CHECK_SIGNAL(answer, SIGSYS);
    CHECK(answer.reply.fault.system_call_known);
    CHECK_EQUAL(answer.reply.fault.system_call, system_call);
    CHECK(answer.reply.fault.instruction != 0);
    CHECK(!answer.reply.fault.address_known);
    CHECK_WORKS(box);
}

/* What the kernel must answer the twin. */
enum control { SUCCEEDS, ANSWERED };

/* The function makes the system call, and returns an error if that fails. */
static void check_refused_to(iso_function *function, int system_call, enum control control)
{
    require_hardening();
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall, .own = function, .hardened = true};
        open_box(&box);
        check_refused_call(&box, own_function, 0, system_call);
        close_box(&box);

        struct box twin = {.mechanism = wall, .own = function};
        open_box(&twin);
        struct answer answer = call_number(&twin, own_function, 0);
        CHECK(answer.status == ISO_OK ||
              (control == ANSWERED && answer.status == ISO_FOREIGN_ERROR));
        close_box(&twin);
    }
}

#define PROBE(name) static int name(const uint8_t *input, size_t length, struct iso_bytes *output)
#define UNUSED ((void)input, (void)length, (void)output)

/* ---- files ---- */

static char scratch[] = "/tmp/isobench-hardened-XXXXXX";
static int scratch_fd = -1;

static void make_scratch(void)
{
    scratch_fd = mkstemp(scratch);
    CHECK(scratch_fd >= 0);
    CHECK_EQUAL(write(scratch_fd, "before", 6), 6);
}

static void drop_scratch(void)
{
    CHECK(unlink(scratch) == 0);
    close(scratch_fd);
}

PROBE(open_for_writing)
{
    UNUSED;
    return open(scratch, O_WRONLY) < 0;
}

TEST(no_file_is_opened_for_writing)
{
    make_scratch();
    check_refused_to(open_for_writing, SYS_openat, SUCCEEDS);
    drop_scratch();
}

PROBE(open_for_reading)
{
    UNUSED;
    return open("/proc/self/maps", O_RDONLY) < 0;
}

TEST(no_file_is_opened_for_reading)
{
    check_refused_to(open_for_reading, SYS_openat, SUCCEEDS);
}

PROBE(remove_file)
{
    UNUSED;
    return unlinkat(AT_FDCWD, scratch, 0) != 0;
}

TEST(no_file_is_removed)
{
    make_scratch();
    check_refused_to(remove_file, SYS_unlinkat, ANSWERED); /* the second twin's is gone */
    close(scratch_fd);
}

/* ---- descriptors ---- */

PROBE(write_to_inherited)
{
    UNUSED;
    return pwrite(scratch_fd, "hostile", 7, 0) != 7;
}

TEST(a_descriptor_of_the_program_is_not_written_by_offset)
{
    make_scratch();
    check_refused_to(write_to_inherited, SYS_pwrite64, SUCCEEDS);
    drop_scratch();
}

static int inherited; /* a descriptor beyond those of the child's pipes */

PROBE(print_to_inherited)
{
    UNUSED;
    return write(inherited, "hostile", 7) != 7;
}

TEST(a_descriptor_of_the_program_is_not_written)
{
    require_hardening();
    make_scratch();
    inherited = fcntl(scratch_fd, F_DUPFD, 100);
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall, .own = print_to_inherited, .hardened = true};
        open_box(&box);
        check_refused_call(&box, own_function, 0, SYS_write);
        close_box(&box);
    }
    char content[8] = "";
    CHECK_EQUAL(pread(scratch_fd, content, sizeof(content), 0), 6);
    CHECK(memcmp(content, "before", 6) == 0);
    FOR_EACH_WALL(wall)
    {
        struct box twin = {.mechanism = wall, .own = print_to_inherited};
        open_box(&twin);
        CHECK_EQUAL(call_number(&twin, own_function, 0).status, ISO_OK);
        close_box(&twin);
    }
    CHECK(pread(scratch_fd, content, sizeof(content), 0) > 6);
    close(inherited);
    drop_scratch();
}

PROBE(duplicate_inherited)
{
    UNUSED;
    return fcntl(scratch_fd, F_DUPFD, 0) < 0;
}

TEST(no_descriptor_is_duplicated)
{
    make_scratch();
    check_refused_to(duplicate_inherited, SYS_fcntl, SUCCEEDS);
    drop_scratch();
}

PROBE(map_inherited)
{
    UNUSED;
    return mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, scratch_fd, 0) == MAP_FAILED;
}

TEST(no_descriptor_is_mapped)
{
    make_scratch();
    check_refused_to(map_inherited, SYS_mmap, SUCCEEDS);
    drop_scratch();
}

enum { PAGE_SIZE = 65536 }; /* or a multiple of one */

static uint8_t *first_page; /* of scratch's two, mapped shared by the program */

PROBE(write_behind_the_mapping)
{
    UNUSED;
    uint8_t *both = mremap(first_page, PAGE_SIZE, (size_t)2 * PAGE_SIZE, MREMAP_MAYMOVE);
    if (both == MAP_FAILED) {
        return errno;
    }
    both[PAGE_SIZE] = 1;
    return 0;
}

/* With nothing as its old size, a shared mapping gets a second place and stays where it is. */
PROBE(write_behind_a_second_mapping)
{
    UNUSED;
    uint8_t *both = mremap(first_page, 0, (size_t)2 * PAGE_SIZE, MREMAP_MAYMOVE);
    if (both == MAP_FAILED) {
        return errno;
    }
    both[PAGE_SIZE] = 1;
    return 0;
}

static uint8_t second_page_after(iso_function *function, const struct iso_mechanism *wall,
                                 bool hardened)
{
    uint8_t byte = 0;
    CHECK_EQUAL(pwrite(scratch_fd, &byte, 1, PAGE_SIZE), 1);
    struct box box = {.mechanism = wall, .own = function, .hardened = hardened};
    open_box(&box);
    struct answer answer = call_number(&box, own_function, 0);
    CHECK_EQUAL(answer.status, hardened ? ISO_FOREIGN_ERROR : ISO_OK);
    CHECK_EQUAL(answer.reply.foreign_code, hardened ? ENOMEM : 0);
    CHECK_WORKS(&box);
    close_box(&box);
    CHECK_EQUAL(pread(scratch_fd, &byte, 1, PAGE_SIZE), 1);
    return byte;
}

TEST(what_the_program_has_not_mapped_of_a_file_is_not_written)
{
    require_hardening();
    make_scratch();
    CHECK(ftruncate(scratch_fd, 2 * PAGE_SIZE) == 0);
    first_page = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, scratch_fd, 0);
    CHECK(first_page != MAP_FAILED);
    static iso_function *const functions[] = {write_behind_the_mapping,
                                              write_behind_a_second_mapping};
    for (size_t i = 0; i < sizeof(functions) / sizeof(functions[0]); i++) {
        FOR_EACH_WALL(wall)
        {
            CHECK_EQUAL(second_page_after(functions[i], wall, true), 0);
            CHECK_EQUAL(second_page_after(functions[i], wall, false), 1);
        }
    }
    CHECK(munmap(first_page, PAGE_SIZE) == 0);
    drop_scratch();
}

PROBE(open_socket)
{
    UNUSED;
    return socket(AF_UNIX, SOCK_STREAM, 0) < 0;
}

TEST(no_socket_is_opened)
{
    check_refused_to(open_socket, SYS_socket, SUCCEEDS);
}

PROBE(open_ring)
{
    UNUSED;
    uint8_t parameters[120] = {0}; /* struct io_uring_params */
    return syscall(SYS_io_uring_setup, 4, parameters) < 0;
}

TEST(no_io_uring_is_opened)
{
    check_refused_to(open_ring, SYS_io_uring_setup, ANSWERED); /* a sysctl may forbid it */
}

PROBE(make_userfaultfd)
{
    UNUSED;
    return syscall(SYS_userfaultfd, O_CLOEXEC) < 0;
}

TEST(no_userfaultfd_is_opened)
{
    check_refused_to(make_userfaultfd, SYS_userfaultfd, ANSWERED);
}

/* ---- processes ---- */

PROBE(signal_parent)
{
    UNUSED;
    return kill(getppid(), SIGURG) != 0; /* which does nothing by default */
}

TEST(the_parent_gets_no_signal)
{
    check_refused_to(signal_parent, SYS_kill, SUCCEEDS);
}

PROBE(signal_parents_thread)
{
    UNUSED;
    return syscall(SYS_tgkill, getppid(), getppid(), SIGURG) != 0;
}

TEST(the_parents_threads_get_no_signal)
{
    check_refused_to(signal_parents_thread, SYS_tgkill, SUCCEEDS);
}

PROBE(signal_group)
{
    UNUSED;
    return kill(0, 0) != 0;
}

TEST(no_group_gets_a_signal)
{
    check_refused_to(signal_group, SYS_kill, SUCCEEDS);
}

PROBE(be_traced)
{
    UNUSED;
    return ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0;
}

TEST(ptrace_is_refused)
{
    check_refused_to(be_traced, SYS_ptrace, SUCCEEDS);
}

static volatile uint64_t target;

PROBE(write_parents_memory)
{
    UNUSED;
    uint64_t value = 1;
    struct iovec from = {&value, sizeof(value)};
    struct iovec to = {(void *)(uintptr_t)&target, sizeof(target)};
    return process_vm_writev(getppid(), &from, 1, &to, 1, 0) != sizeof(value);
}

TEST(the_parents_memory_is_not_written_by_the_kernel)
{
    require_hardening();
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall, .own = write_parents_memory, .hardened = true};
        open_box(&box);
        check_refused_call(&box, own_function, 0, SYS_process_vm_writev);
        CHECK_EQUAL(target, 0);
        close_box(&box);
    }
    /* Yama may forbid it to the twin. */
    check_refused_to(write_parents_memory, SYS_process_vm_writev, ANSWERED);
}

PROBE(fork_by_clone)
{
    UNUSED;
    long pid = syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
    if (pid == 0) {
        _exit(0);
    }
    return pid < 0;
}

PROBE(fork_by_libc)
{
    UNUSED;
    pid_t pid = fork();
    if (pid == 0) {
        _exit(0);
    }
    return pid < 0;
}

TEST(no_process_is_forked)
{
    check_refused_to(fork_by_libc, SYS_clone, SUCCEEDS);
    check_refused_to(fork_by_clone, SYS_clone, SUCCEEDS);
}

PROBE(leave_session)
{
    UNUSED;
    return setsid() < 0;
}

TEST(no_session_is_left)
{
    check_refused_to(leave_session, SYS_setsid, ANSWERED); /* the child leads a group */
}

PROBE(become_another_program)
{
    UNUSED;
    char *const arguments[] = {(char *)(uintptr_t)"true", NULL};
    return execve("/bin/true", arguments, arguments + 1);
}

TEST(no_program_is_executed)
{
    require_hardening();
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall, .own = become_another_program, .hardened = true};
        open_box(&box);
        check_refused_call(&box, own_function, 0, SYS_execve);
        close_box(&box);
        struct box twin = {.mechanism = wall, .own = become_another_program};
        open_box(&twin);
        CHECK_EXIT(call_number(&twin, own_function, 0), 0);
        close_box(&twin);
    }
}

/* ---- its own attributes ---- */

PROBE(allow_dumps)
{
    UNUSED;
    return prctl(PR_SET_DUMPABLE, 1) != 0;
}

TEST(prctl_is_refused)
{
    check_refused_to(allow_dumps, SYS_prctl, SUCCEEDS);
}

PROBE(set_limit)
{
    UNUSED;
    struct rlimit limit = {0, 0};
    return syscall(SYS_prlimit64, 0, RLIMIT_CORE, &limit, NULL) != 0;
}

TEST(limits_are_not_changed)
{
    check_refused_to(set_limit, SYS_prlimit64, SUCCEEDS);
}

PROBE(map_code)
{
    UNUSED;
    return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
           MAP_FAILED;
}

PROBE(make_code)
{
    UNUSED;
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return page == MAP_FAILED || mprotect(page, 4096, PROT_READ | PROT_EXEC) != 0;
}

PROBE(share_memory)
{
    UNUSED;
    return mmap(NULL, 4096, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1, 0) == MAP_FAILED;
}

TEST(what_is_written_does_not_become_code)
{
    check_refused_to(map_code, SYS_mmap, SUCCEEDS);
    check_refused_to(make_code, SYS_mprotect, SUCCEEDS);
    check_refused_to(share_memory, SYS_mmap, SUCCEEDS);
}

PROBE(wake_others)
{
    UNUSED;
    static uint32_t word;
    return syscall(SYS_futex, &word, FUTEX_WAKE, 1, NULL, NULL, 0) < 0;
}

TEST(nobody_is_woken_in_shared_memory)
{
    check_refused_to(wake_others, SYS_futex, SUCCEEDS);
}

/* ---- the way that refusals are told ---- */

PROBE(handle_refusals)
{
    UNUSED;
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    return sigaction(SIGSYS, &ignore, NULL) != 0;
}

/* The kernel takes 32 bits of what a filter sees 64 of. */
PROBE(handle_refusals_by_a_large_number)
{
    UNUSED;
    return syscall(SYS_rt_sigaction, (UINT64_C(1) << 32) | SIGSYS, NULL, NULL, 8) != 0;
}

TEST(refusals_are_not_handled_by_those_who_are_refused)
{
    check_refused_to(handle_refusals, SYS_rt_sigaction, SUCCEEDS);
    check_refused_to(handle_refusals_by_a_large_number, SYS_rt_sigaction, SUCCEEDS);
}

PROBE(block_and_open_socket)
{
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    return open_socket(input, length, output);
}

TEST(a_refusal_that_is_blocked_is_a_violation_without_a_number)
{
    require_hardening();
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall, .own = block_and_open_socket, .hardened = true};
        open_box(&box);
        struct answer answer = call_number(&box, own_function, 0);
        CHECK_SIGNAL(answer, SIGSYS);
        CHECK(!answer.reply.fault.system_call_known);
        CHECK_WORKS(&box);
        close_box(&box);
    }
}

/* ---- every system call there is, and some that will be ---- */

PROBE(call_system) /* whose number is the input, with all bits set in its arguments */
{
    long number = 0;
    (void)output;
    memcpy(&number, input, length < sizeof(number) ? length : sizeof(number));
    syscall(number, -1L, -1L, -1L, -1L, -1L, -1L);
    return 0;
}

static bool concerns_the_process_alone(long number)
{
    static const long numbers[] = {
        SYS_exit,
        SYS_exit_group,
        SYS_restart_syscall,
        SYS_sched_yield,
        SYS_rt_sigreturn,
        SYS_rt_sigprocmask,
        SYS_sigaltstack,
        SYS_brk,
        SYS_munmap,
        SYS_mremap, /* fails */
        SYS_getpid,
        SYS_gettid,
        SYS_getppid,
        SYS_getrandom,
        SYS_sysinfo,
        SYS_clock_gettime,
        SYS_clock_getres,
        SYS_gettimeofday,
#if defined(__x86_64__)
        SYS_time,
        /* uretprobe and uprobe, which Linux lets past all filters: they answer to code that the
         * kernel itself has put into a traced process, and to no other. */
        335,
        336,
#endif
    };
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        if (numbers[i] == number) {
            return true;
        }
    }
    return false;
}

TEST(every_other_system_call_is_refused_and_told_by_its_number)
{
    require_hardening();
    struct box box = {.mechanism = &iso_fork, .own = call_system, .hardened = true};
    open_box(&box);
    for (uint64_t number = 0; number < 600; number++) {
        if (concerns_the_process_alone((long)number)) {
            continue;
        }
        struct answer answer = call_number(&box, own_function, number);
        if (answer.status != ISO_VIOLATION || !answer.reply.fault.system_call_known ||
            answer.reply.fault.system_call != (int)number) {
            check_failed(__FILE__, __LINE__, "system call %d: status %d", (int)number,
                         answer.status);
        }
    }
    close_box(&box);
}

#if defined(__x86_64__)
TEST(the_ways_into_the_kernel_of_other_architectures_end_the_child)
{
    require_hardening();
    const uint64_t getpid_of_i386 = 20, getpid_of_x32 = 0x40000000 | 39;
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall, .hardened = true};
        open_box(&box);
        struct box twin = {.mechanism = wall};
        open_box(&twin);
        /* A kernel may be without that way. */
        if (call_number(&twin, hostile_old_system_call, getpid_of_i386).status == ISO_OK) {
            CHECK_SIGNAL(call_number(&box, hostile_old_system_call, getpid_of_i386), SIGSYS);
        }
        CHECK_EQUAL(call_number(&twin, hostile_system_call, getpid_of_x32).status, ISO_OK);
        CHECK_SIGNAL(call_number(&box, hostile_system_call, getpid_of_x32), SIGSYS);
        CHECK_WORKS(&box);
        close_box(&box);
        close_box(&twin);
    }
}
#endif
