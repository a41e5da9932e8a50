/* What an empty call costs the two processes in system calls, counted by ptrace(2). */
#include "sandbox.h"

#include <errno.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CALLS = 100, MARK = 1000000 }; /* no system call has such a number: it answers ENOSYS */

/* A process that makes CALLS empty calls between two marks. */
_Noreturn static void trace_me(uint64_t timeout_ns)
{
    CHECK(ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0);
    raise(SIGSTOP);
    struct box box = {.mechanism = &iso_pipe};
    open_box(&box); /* and the first call settles how answers are read */
    CHECK_OUTPUT(&box, call_within(&box, timeout_ns, benign_echo, NULL, 0), NULL, 0);
    syscall(MARK);
    for (int i = 0; i < CALLS; i++) {
        CHECK_OUTPUT(&box, call_within(&box, timeout_ns, benign_echo, NULL, 0), NULL, 0);
    }
    syscall(MARK);
    close_box(&box);
    _exit(0);
}

/* System calls entered by anybody between the marks. */
static int count_system_calls(pid_t tracee)
{
    int count = 0;
    int marks = 0;
    for (int status;;) {
        pid_t stopped = waitpid(-1, &status, __WALL);
        CHECK(stopped > 0);
        if (!WIFSTOPPED(status)) {
            if (stopped == tracee) {
                CHECK_EQUAL(status, 0);
                return marks == 2 ? count : -1;
            }
            continue;
        }
        int signal = WSTOPSIG(status);
        if (signal == (SIGTRAP | 0x80)) {
            struct {
                uint8_t
                    operation; /* struct ptrace_syscall_info, whose header clashes with glibc's */
                uint8_t rest[7];
                uint64_t pointers[2];
                uint64_t number;
                uint64_t arguments[7];
            } info;
            CHECK(ptrace((enum __ptrace_request)PTRACE_GET_SYSCALL_INFO, stopped,
                         (void *)sizeof(info), &info) > 0);
            if (info.operation == 1) { /* entry */
                marks += info.number == MARK;
                count += info.number != MARK && marks == 1;
            }
        }
        bool ours = signal == SIGTRAP || signal == (SIGTRAP | 0x80) || signal == SIGSTOP;
        if (ptrace(PTRACE_SYSCALL, stopped, NULL, (void *)(intptr_t)(ours ? 0 : signal)) != 0) {
            CHECK_EQUAL(errno, ESRCH); /* killed meanwhile */
        }
    }
}

static int system_calls_of(uint64_t timeout_ns)
{
    pid_t tracee = fork();
    CHECK(tracee >= 0);
    if (tracee == 0) {
        trace_me(timeout_ns);
    }
    int status;
    CHECK(waitpid(tracee, &status, 0) == tracee);
    if (!WIFSTOPPED(status)) {
        skip("this machine does not let a process trace its child");
    }
    CHECK(ptrace(PTRACE_SETOPTIONS, tracee, NULL,
                 (void *)(PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_EXITKILL)) == 0);
    CHECK(ptrace(PTRACE_SYSCALL, tracee, NULL, NULL) == 0);
    return count_system_calls(tracee);
}

/* A call's share. The child may wait for the next request before the second mark or after it. */
static int system_calls_of_a_call(uint64_t timeout_ns)
{
    int all = system_calls_of(timeout_ns);
    CHECK(all % CALLS <= 1 || all % CALLS == CALLS - 1);
    return (all + 1) / CALLS;
}

TEST(an_empty_call_is_four_system_calls_of_both_processes_together)
{
    CHECK_EQUAL(system_calls_of_a_call(0), 4);
}

TEST(a_time_limit_is_one_more)
{
    CHECK_EQUAL(system_calls_of_a_call(60000 * MS), 5);
}
