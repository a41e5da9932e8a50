/*
 * Foreign functions that break every rule, for the tests. Under no wall most of them end the
 * process or worse: call them only where something is meant to hold.
 */
#include "isolation.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HOSTILE(name)                                                                              \
    int hostile_##name(const uint8_t *input, size_t input_length, struct iso_bytes *output);       \
    int hostile_##name(const uint8_t *input, size_t input_length, struct iso_bytes *output)

#define UNUSED ((void)input, (void)input_length, (void)output)

/* An integer from the input's first 8 bytes, as much as is there. */
static uint64_t argument(const uint8_t *input, size_t input_length)
{
    uint64_t value = 0;
    memcpy(&value, input, input_length < sizeof(value) ? input_length : sizeof(value));
    return value;
}

HOSTILE(write) /* to the address in the input */
{
    (void)output;
    *(volatile uint8_t *)(uintptr_t)argument(input, input_length) = 0x66;
    return 0;
}

HOSTILE(read) /* the address in the input; 1 byte of output */
{
    uint8_t *byte = malloc(1);
    if (byte == NULL) {
        return 1;
    }
    *byte = *(volatile uint8_t *)(uintptr_t)argument(input, input_length);
    *output = (struct iso_bytes){byte, 1};
    return 0;
}

HOSTILE(jump) /* to the address in the input */
{
    (void)output;
    union {
        uintptr_t address;
        void (*code)(void);
    } target = {.address = (uintptr_t)argument(input, input_length)};
    target.code();
    return 0;
}

HOSTILE(abort)
{
    UNUSED;
    abort();
}

HOSTILE(exit) /* with the status in the input's first byte */
{
    (void)output;
    _exit((int)argument(input, input_length));
}

HOSTILE(raise) /* the signal whose number is the input */
{
    (void)output;
    raise((int)argument(input, input_length));
    return 0;
}

HOSTILE(illegal_instruction)
{
    UNUSED;
    __builtin_trap();
}

/* GCC would turn the recursion into a loop if the frame were not used after it. */
static __attribute__((noinline)) int deeper(volatile uint8_t *above)
{
    volatile uint8_t frame[4096];
    frame[0] = above[0];
    return deeper(frame) + frame[0];
}

HOSTILE(stack_overflow)
{
    volatile uint8_t frame[1] = {1};
    UNUSED;
    return deeper(frame);
}

HOSTILE(loop)
{
    UNUSED;
    for (volatile unsigned turn = 0;; turn = turn + 1) {
    }
}

HOSTILE(sleep)
{
    UNUSED;
    for (;;) {
        pause();
    }
}

HOSTILE(block_signals_and_loop)
{
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    return hostile_loop(input, input_length, output);
}

HOSTILE(clear) /* memory: its address and its length, 8 bytes each */
{
    uint64_t words[2] = {0};
    (void)output;
    memcpy(words, input, input_length < sizeof(words) ? input_length : sizeof(words));
    volatile uint8_t *memory = (uint8_t *)(uintptr_t)words[0];
    for (uint64_t i = 0; i < words[1]; i++) {
        memory[i] = 0;
    }
    return 0;
}

HOSTILE(null_output) /* claims bytes and has none */
{
    (void)input;
    (void)input_length;
    *output = (struct iso_bytes){NULL, 4096};
    return 0;
}

HOSTILE(long_output) /* as many zero bytes as the input says */
{
    size_t length = (size_t)argument(input, input_length);
    uint8_t *zeroes = calloc(length, 1);
    if (zeroes == NULL) {
        return 1;
    }
    *output = (struct iso_bytes){zeroes, length};
    return 0;
}

HOSTILE(close_descriptors)
{
    UNUSED;
    for (int fd = 3; fd < 1024; fd++) {
        close(fd);
    }
    for (;;) {
        pause();
    }
}

HOSTILE(leave_a_child) /* that holds all descriptors open, and die */
{
    UNUSED;
    if (fork() == 0) {
        for (;;) {
            pause();
        }
    }
    raise(SIGKILL);
    return 0;
}

/* A pipe to write to that this process was not started with: its sandbox's, as far as a foreign
 * function can tell. */
static int is_answer_pipe(int fd)
{
    struct stat status;
    int flags = fcntl(fd, F_GETFL);
    return flags >= 0 && (flags & O_ACCMODE) == O_WRONLY && fstat(fd, &status) == 0 &&
           S_ISFIFO(status.st_mode) && (fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0;
}

/* Writes the input, less its first byte, as its own answer. Then: 'r' returns, 'x' exits, 'h'
 * hangs. */
HOSTILE(forge)
{
    (void)output;
    for (int fd = 3; fd < 256; fd++) {
        if (!is_answer_pipe(fd)) {
            continue;
        }
        for (size_t done = 1; done < input_length;) {
            ssize_t written = write(fd, input + done, input_length - done);
            if (written < 0 && errno != EINTR) {
                break;
            }
            done += written > 0 ? (size_t)written : 0;
        }
    }
    switch (input_length > 0 ? input[0] : 'r') {
    case 'x':
        _exit(0);
    case 'h':
        return hostile_sleep(input, input_length, output);
    default:
        return 0;
    }
}

/* ---- heap and stack ---- */

HOSTILE(use_heap) /* as many bytes as the input says, and give them back */
{
    size_t length = (size_t)argument(input, input_length);
    uint8_t *memory = malloc(length);
    if (memory == NULL) {
        return 1;
    }
    for (size_t i = 0; i < length; i += 4096) {
        ((volatile uint8_t *)memory)[i] = 0x55;
    }
    (void)output;
    free(memory);
    return 0;
}

HOSTILE(use_heap_and_fault)
{
    hostile_use_heap(input, input_length, output);
    return hostile_write(NULL, 0, output);
}

/* As deep as the input says, in frames of 4 KiB. */
static __attribute__((noinline)) int descend(volatile uint8_t *above, uint64_t left)
{
    volatile uint8_t frame[4096];
    frame[0] = above[0];
    return left == 0 ? frame[0] : descend(frame, left - 1) + frame[0];
}

HOSTILE(use_stack)
{
    volatile uint8_t frame[1] = {0};
    (void)output;
    return descend(frame, argument(input, input_length));
}

static __attribute__((noinline)) int smash(size_t length)
{
    volatile uint8_t frame[16];
    volatile uint8_t *at = frame;
    for (size_t i = 0; i < length; i++) {
        at[i] = 0x41;
    }
    return frame[0];
}

HOSTILE(smash_stack)
{
    UNUSED;
    return smash(256);
}

HOSTILE(corrupt_heap) /* all around a block, and use the allocator then */
{
    UNUSED;
    volatile uint8_t *block = malloc(64);
    for (long i = -2048; i < 65536; i++) {
        block[i] = 0xff;
    }
    for (int i = 0; i < 100; i++) {
        void *more = malloc((size_t)i * 40);
        memset(more, 0, (size_t)i * 40);
        free(more);
    }
    free((void *)(uintptr_t)block);
    abort(); /* if it came so far */
}

HOSTILE(free_twice)
{
    UNUSED;
    for (int i = 0; i < 10; i++) {
        void *volatile block = malloc(100);
        free(block);
        free(block);
        void *one = malloc(100);
        void *other = malloc(100);
        memset(one, 0xff, 100);
        memset(other, 0xff, 100);
    }
    void *wild = malloc(100);
    memset(wild, 0xff, 100);
    abort();
}

HOSTILE(free_wild) /* the address in the input */
{
    (void)output;
    free((void *)(uintptr_t)argument(input, input_length));
    return 0;
}

HOSTILE(wild_output) /* a result at the address in the input */
{
    *output = (struct iso_bytes){(uint8_t *)(uintptr_t)argument(input, input_length), 4096};
    return 0;
}

HOSTILE(endless_output) /* a good pointer and no good length */
{
    UNUSED;
    *output = (struct iso_bytes){malloc(16), SIZE_MAX - 4096};
    return 0;
}

HOSTILE(use_after_free) /* of blocks that others have by then, and use the allocator on */
{
    UNUSED;
    for (int i = 0; i < 100; i++) {
        uint8_t *volatile block = malloc(200);
        free(block);
        memset(block, 0xee, 200); /* the free list's next is in there */
        memset(malloc(200), 0, 200);
        memset(malloc(200), 0, 200);
    }
    abort();
}

HOSTILE(inner_output) /* within a block, where none begins; as many bytes as the input says */
{
    uint8_t *block = malloc(64);
    if (block == NULL) {
        return 1;
    }
    memset(block, 0xff, 64);
    *output = (struct iso_bytes){block + 24, (size_t)argument(input, input_length)};
    return 0;
}

HOSTILE(set_errno) /* and return it */
{
    errno = (int)argument(input, input_length);
    uint8_t *byte = malloc(1);
    if (byte == NULL) {
        return 1;
    }
    *byte = (uint8_t)errno;
    *output = (struct iso_bytes){byte, 1};
    return 0;
}

#if defined(__x86_64__)
/* ---- the machine ---- */

HOSTILE(divide) /* by zero */
{
    UNUSED;
    __asm__ volatile("xor %%edx, %%edx\n xor %%ecx, %%ecx\n div %%ecx"
                     :
                     :
                     : "rax", "rcx", "rdx", "cc");
    return 0;
}

HOSTILE(bus_error) /* by a stack access at an address that is not canonical */
{
    UNUSED;
    __asm__ volatile("movabs $0x8000000000000000, %%rax\n"
                     "push %%rbp\n"
                     "mov %%rax, %%rbp\n"
                     "mov 0(%%rbp), %%rax\n"
                     "pop %%rbp\n"
                     :
                     :
                     : "rax", "memory");
    return 0;
}

HOSTILE(breakpoint)
{
    UNUSED;
    __asm__ volatile("int3");
    return 0;
}

HOSTILE(single_step)
{
    UNUSED;
    __asm__ volatile("pushfq\n orq $0x100, (%%rsp)\n popfq\n nop\n nop\n" : : : "memory", "cc");
    return 0;
}

HOSTILE(jump_cleared) /* to the address in the input, with registers as WRPKRU wants them */
{
    (void)output;
    uint64_t target = argument(input, input_length);
    __asm__ volatile("mov %0, %%r11\n"
                     "xor %%eax, %%eax\n xor %%ecx, %%ecx\n xor %%edx, %%edx\n"
                     "mov %%r11, %%r8\n mov %%rsp, %%r9\n mov %%rsp, %%r10\n"
                     "jmp *%%r11"
                     :
                     : "r"(target)
                     : "memory", "rax", "rcx", "rdx", "r8", "r9", "r10", "r11");
    return 0;
}

HOSTILE(wild_stack) /* at the address in the input */
{
    (void)output;
    __asm__ volatile("mov %0, %%rsp\n push %%rax\n call 1f\n 1: ud2"
                     :
                     : "r"(argument(input, input_length))
                     : "memory");
    return 0;
}

HOSTILE(dirty_state) /* everything that a function must leave as it was, and return */
{
    UNUSED;
    unsigned mxcsr = 0x7f80;
    unsigned short control = 0;
    __asm__ volatile("ldmxcsr %0\n"
                     "fninit\n"
                     "fldcw %1\n"
                     "fld1\n fld1\n fld1\n fld1\n fld1\n fld1\n fld1\n fld1\n"
                     "mov 8(%%rbp), %%rcx\n"
                     "mov %%rbp, %%rsp\n"
                     "pop %%rbp\n"
                     "mov $-1, %%rbx\n mov $-1, %%rbp\n mov $-1, %%r12\n"
                     "mov $-1, %%r13\n mov $-1, %%r14\n mov $-1, %%r15\n"
                     "wrfsbase %2\n wrgsbase %2\n"
                     "pushq $0x40602\n popfq\n" /* AC, DF */
                     "xor %%eax, %%eax\n"
                     "cld\n std\n"
                     "ret\n"
                     :
                     : "m"(mxcsr), "m"(control), "d"(0x1234)
                     : "memory");
    __builtin_unreachable();
}

HOSTILE(lose_fs_and_fault)
{
    UNUSED;
    __asm__ volatile("wrfsbase %0\n wrgsbase %0\n ud2" : : "r"(0x1234UL));
    return 0;
}

HOSTILE(system_call) /* whose number is the input, with arguments that do no harm */
{
    (void)output;
    long result = (long)argument(input, input_length);
    __asm__ volatile("xor %%edi, %%edi\n xor %%esi, %%esi\n xor %%edx, %%edx\n syscall"
                     : "+a"(result)
                     :
                     : "rdi", "rsi", "rdx", "rcx", "r11", "memory");
    return 0;
}

HOSTILE(use_heap_and_call) /* the system, getpid */
{
    uint64_t number = 39;
    int code = hostile_use_heap(input, input_length, output);
    return code != 0 ? code : hostile_system_call((const uint8_t *)&number, 8, output);
}

HOSTILE(system_call_with) /* number and six arguments, 8 bytes each */
{
    uint64_t words[7] = {0};
    memcpy(words, input, input_length < sizeof(words) ? input_length : sizeof(words));
    register uint64_t r10 __asm__("r10") = words[4];
    register uint64_t r8 __asm__("r8") = words[5];
    register uint64_t r9 __asm__("r9") = words[6];
    (void)output;
    __asm__ volatile("syscall"
                     : "+a"(words[0])
                     : "D"(words[1]), "S"(words[2]), "d"(words[3]), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return 0;
}

HOSTILE(call_with) /* the address and two arguments, 8 bytes each */
{
    uint64_t words[3] = {0};
    memcpy(words, input, input_length < sizeof(words) ? input_length : sizeof(words));
    union {
        uintptr_t address;
        int (*code)(uint64_t, uint64_t);
    } target = {.address = (uintptr_t)words[0]};
    (void)output;
    target.code(words[1], words[2]);
    return 0;
}

HOSTILE(pending_fpu_exception) /* which the next x87 instruction that waits would raise */
{
    unsigned short control = 0; /* all of them */
    UNUSED;
    __asm__ volatile("fninit\n fldcw %0\n fld1\n fldz\n fdivrp %%st, %%st(1)" : : "m"(control));
    return 0;
}

HOSTILE(fpu_exception_flags) /* of all exceptions, none of which is raised */
{
    struct {
        uint32_t control, status, tags, others[4];
    } environment;
    UNUSED;
    __asm__ volatile("fninit\n fnstenv %0" : "=m"(environment));
    environment.status |= 0x3f;
    __asm__ volatile("fldenv %0" : : "m"(environment));
    return 0;
}

HOSTILE(old_system_call) /* by the 32-bit way in */
{
    (void)output;
    long result = (long)argument(input, input_length);
    __asm__ volatile("int $0x80" : "+a"(result) : : "memory", "r8", "r9", "r10", "r11");
    return 0;
}
#endif
