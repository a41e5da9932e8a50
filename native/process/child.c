#include "child.h"

#include "hardening.h"
#include "wire.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <ucontext.h>
#include <unistd.h>

/* Read by signal handlers of the child only; each child has its own copy. */
static pid_t parent_pid;
static pid_t own_pid;
static int note_fd = -1;
static uint32_t note_call;
static uint8_t note_stack[32768] __attribute__((aligned(16)));

enum { BY_SECCOMP = 1 }; /* si_code of SIGSYS: SYS_SECCOMP, which glibc's headers lack */

/* ---- leaving notes and dying ---- */

static enum iso_access faulting_access(const ucontext_t *context)
{
#if defined(__x86_64__)
    enum { PAGE_FAULT = 14 };
    if (context->uc_mcontext.gregs[REG_TRAPNO] != PAGE_FAULT) {
        return ISO_ACCESS_UNKNOWN;
    }
    greg_t error = context->uc_mcontext.gregs[REG_ERR]; /* page-fault error code, SDM vol. 3 4.7 */
    if (error & 0x10) {
        return ISO_ACCESS_EXECUTE;
    }
    return (error & 0x2) ? ISO_ACCESS_WRITE : ISO_ACCESS_READ;
#else
    (void)context;
    return ISO_ACCESS_UNKNOWN;
#endif
}

static uint64_t interrupted_instruction(const ucontext_t *context)
{
#if defined(__x86_64__)
    return (uint64_t)context->uc_mcontext.gregs[REG_RIP];
#elif defined(__aarch64__)
    return context->uc_mcontext.pc;
#else
#error "neither x86-64 nor aarch64"
#endif
}

/* Runs on its own stack, uses no library state, and may itself be interrupted by the same fault:
 * SA_RESETHAND has put the default action back by then. */
static void leave_note(int signal, siginfo_t *info, void *context)
{
    /* Not known for signals that somebody sent (si_code <= 0), nor for an address that is not
     * canonical (SI_KERNEL). Other signals have an address, too: the instruction's. */
    bool known =
        (signal == SIGSEGV || signal == SIGBUS) && info->si_code > 0 && info->si_code != SI_KERNEL;
    struct wire_note note = {
        .signal = signal,
        .access = known ? (uint16_t)faulting_access(context) : ISO_ACCESS_UNKNOWN,
        .address_known = known,
        .address = known ? (uint64_t)(uintptr_t)info->si_addr : 0,
        .instruction = interrupted_instruction(context),
    };
    if (signal == SIGSYS && info->si_code == BY_SECCOMP) {
        note.address_known = 1;
        note.address = (uint32_t)info->si_syscall;
    }
    struct wire_header header = {.call = note_call, .length = WIRE_NOTE | sizeof(note)};
    uint8_t frame[sizeof(header) + sizeof(note)];
    memcpy(frame, &header, sizeof(header));
    memcpy(frame + sizeof(header), &note, sizeof(note));
    /* One write, at most PIPE_BUF bytes, so it is whole or not there. Without it the parent still
     * learns the signal from the exit status. A process that the foreign code forked dies in
     * silence: that is not the end of the call. */
    if (getpid() == own_pid) {
        ssize_t written = write(note_fd, frame, sizeof(frame));
        (void)written;
    }
    raise(signal); /* now with the default action: the exit status tells the truth */
}

/* PR_SET_PDEATHSIG speaks when the *thread* that forked ends. For the main thread that is the end
 * of the process, and nothing that the foreign code blocks or handles keeps SIGKILL away. After
 * another thread the process may live on, and then the parent's id is as before. */
static void check_parent(int signal)
{
    (void)signal;
    if (getppid() != parent_pid) {
        _exit(CHILD_EXIT_DONE);
    }
}

static void require(bool done)
{
    if (!done) {
        _exit(CHILD_EXIT_SETUP);
    }
}

static void reset_signals(void)
{
    struct sigaction action = {.sa_handler = SIG_DFL};
    for (int signal = 1; signal < NSIG; signal++) {
        if (signal == SIGKILL || signal == SIGSTOP) {
            continue;
        }
        /* glibc keeps two signals for itself and answers EINVAL for them. */
        require(sigaction(signal, &action, NULL) == 0 || errno == EINVAL);
    }

    stack_t stack = {.ss_sp = note_stack, .ss_size = sizeof(note_stack)};
    /* EPERM: the caller is in a handler on an alternate stack of its own, so this child runs on a
     * copy of that, and notes are left from there. */
    require(sigaltstack(&stack, NULL) == 0 || errno == EPERM);
    static const int fatal[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGSYS, SIGABRT};
    action = (struct sigaction){
        .sa_sigaction = leave_note,
        .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER | (int)SA_RESETHAND,
    };
    for (size_t i = 0; i < sizeof(fatal) / sizeof(fatal[0]); i++) {
        require(sigaction(fatal[i], &action, NULL) == 0);
    }

    /* Ctrl-C on the terminal is for the parent to handle. */
    action = (struct sigaction){.sa_handler = SIG_IGN};
    require(sigaction(SIGINT, &action, NULL) == 0);
    action = (struct sigaction){.sa_handler = check_parent, .sa_flags = SA_RESTART | SA_ONSTACK};
    require(sigaction(SIGRTMAX, &action, NULL) == 0);
}

/* ---- exit handlers ---- */

#if defined(__GLIBC__)
enum { REGISTRATION_SECONDS = 2 }; /* it takes microseconds */

static void exit_at_once(int status, void *unused)
{
    (void)unused;
    _exit(status);
}

/* glibc gives the status to these, too, in the second argument (stdlib/exit.c). */
static void quick_exit_at_once(void *unused, int status)
{
    (void)unused;
    _exit(status);
}

static void give_up(int signal)
{
    (void)signal;
    _exit(CHILD_EXIT_SETUP);
}

/*
 * A library that calls exit() or quick_exit() would run the exit handlers of the parent's program,
 * which delete files and write out buffers that are the parent's. The last to register runs first.
 *
 * Another thread may have been registering one at the fork (a library's destructors, in dlopen());
 * then the lock of the list is held for ever in this copy of the process, which glibc does not
 * know, and the child gives up instead of the parent waiting for it.
 */
static void replace_exit_handlers(void)
{
    struct sigaction action = {.sa_handler = give_up};
    require(sigaction(SIGALRM, &action, NULL) == 0);
    alarm(REGISTRATION_SECONDS);
    require(on_exit(exit_at_once, NULL) == 0);
    require(at_quick_exit((void (*)(void))quick_exit_at_once) == 0);
    alarm(0);
    action.sa_handler = SIG_DFL;
    require(sigaction(SIGALRM, &action, NULL) == 0);
}
#else
static void replace_exit_handlers(void)
{
}
#endif

void child_prepare(const struct child_context *context)
{
    parent_pid = context->parent;
    own_pid = getpid();
    note_fd = context->reply_write;
    reset_signals();
    sigset_t none;
    require(sigemptyset(&none) == 0 && sigprocmask(SIG_SETMASK, &none, NULL) == 0);

    require(prctl(PR_SET_PDEATHSIG, context->main_thread ? SIGKILL : SIGRTMAX) == 0);
    if (getppid() != parent_pid) {
        _exit(CHILD_EXIT_DONE); /* it died before the line above */
    }
    /* A group of its own, so that what the foreign code forks can be ended with it. */
    require(setpgid(0, 0) == 0);
    /* A crash here is an answer, not an incident. (RLIMIT_CORE does not keep the kernel from piping
     * a core to a program, as most distributions have it: core(5).) */
    require(prctl(PR_SET_DUMPABLE, 0) == 0);
    /* A set-user-ID program that the foreign code turns into could not be killed any more. */
    require(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    replace_exit_handlers();
}

/* ---- talking ---- */

/* Failing to talk to the parent means that it has gone or given up, or that the output is a lie. */
static void send_all(int fd, struct iovec *part, int parts)
{
    while (parts > 0) {
        ssize_t sent = writev(fd, part, parts);
        if (sent < 0) {
            if (errno == EINTR) {
                continue;
            }
            bool lie = errno == EFAULT || errno == EINVAL; /* EINVAL: longer than SSIZE_MAX */
            _exit(lie ? CHILD_EXIT_ANSWER : CHILD_EXIT_DONE);
        }
        size_t rest = (size_t)sent;
        while (parts > 0 && rest >= part->iov_len) {
            rest -= part->iov_len;
            part++;
            parts--;
        }
        if (parts > 0) {
            part->iov_base = (uint8_t *)part->iov_base + rest;
            part->iov_len -= rest;
        }
    }
}

/* Reads until at least `need` of at most `room` bytes are there. */
static size_t receive(int fd, uint8_t *buffer, size_t have, size_t need, size_t room)
{
    while (have < need) {
        ssize_t got = read(fd, buffer + have, room - have);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            _exit(CHILD_EXIT_DONE);
        }
        have += (size_t)got;
    }
    return have;
}

void child_harden(struct child_context *context, struct hardening *hardening, bool report)
{
    enum harden_step refused = harden(hardening, &context->request_read, &context->reply_write);
    struct wire_setup setup = {.step = refused, .error = refused != HARDEN_DONE ? errno : 0};
    note_fd = context->reply_write;
    if (report) {
        send_all(context->reply_write, &(struct iovec){&setup, sizeof(setup)}, 1);
    }
    require(refused == HARDEN_DONE);
}

static void run_and_answer(const struct child_context *context, size_t function, uint32_t call,
                           const uint8_t *input, size_t input_length)
{
    struct iso_bytes output = {0};
    int code = context->functions[function](input, input_length, &output);
    struct wire_header header = {
        .word = (uint32_t)code,
        .call = call,
        .length = code == 0 ? output.length : 0,
    };
    struct iovec parts[2] = {{&header, sizeof(header)}, {output.data, header.length}};
    send_all(context->reply_write, parts, header.length != 0 ? 2 : 1);
    free(output.data);
}

_Noreturn void child_serve(const struct child_context *context)
{
    /* Header and input lie in one buffer, which grows to the largest input and stays. The input
     * begins WIRE_HEADER bytes in and so is as aligned as malloc made the buffer. */
    size_t room = WIRE_HEADER + 65536;
    uint8_t *buffer = malloc(room);
    require(buffer != NULL);
    for (;;) {
        size_t have = receive(context->request_read, buffer, 0, WIRE_HEADER, room);
        struct wire_header header;
        memcpy(&header, buffer, sizeof(header));
        require(header.word < context->function_count && header.length < SIZE_MAX - WIRE_HEADER);
        size_t need = WIRE_HEADER + (size_t)header.length;
        if (need > room) {
            uint8_t *larger = realloc(buffer, need);
            require(larger != NULL);
            buffer = larger;
            room = need;
        }
        receive(context->request_read, buffer, have, need, need);
        note_call = header.call;
        run_and_answer(context, header.word, header.call, buffer + WIRE_HEADER,
                       (size_t)header.length);
    }
}

_Noreturn void child_run_once(const struct child_context *context,
                              const struct iso_request *request, uint32_t call)
{
    note_call = call;
    run_and_answer(context, request->function, call, request->input, request->input_length);
    _exit(CHILD_EXIT_DONE);
}

_Noreturn void child_echo(const struct child_context *context)
{
    uint8_t buffer[WIRE_CHUNK];
    for (;;) {
        size_t have = receive(context->request_read, buffer, 0, 1, sizeof(buffer));
        struct iovec part = {buffer, have};
        send_all(context->reply_write, &part, 1);
    }
}
