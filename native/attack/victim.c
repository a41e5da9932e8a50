/*
 * What is in a host to be harmed: canaries that only C can make, and the state of the machine
 * before and after a call. Of no wall: a library of the host's own.
 */
#include "victim.h"

#include <dlfcn.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE = 4096 };

static uint8_t global[VICTIM_CANARY] __attribute__((aligned(VICTIM_CANARY)));
static _Thread_local uint8_t local[VICTIM_CANARY] __attribute__((aligned(VICTIM_CANARY)));
static uint8_t *on_stack;
static jmp_buf jump_buffer;
static volatile int signals[65];

uint8_t *victim_global(void)
{
    return global;
}

uint8_t *victim_thread_local(void)
{
    return local;
}

uint8_t *victim_heap(void)
{
    void *block = NULL;
    return posix_memalign(&block, VICTIM_CANARY, VICTIM_CANARY) == 0 ? block : NULL;
}

uint8_t *victim_heap_page(void)
{
    void *block = NULL;
    return posix_memalign(&block, PAGE, PAGE) == 0 ? block : NULL;
}

static uint8_t *page(int flags)
{
    void *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);
    return page == MAP_FAILED ? NULL : page;
}

uint8_t *victim_page(void)
{
    return page(MAP_PRIVATE);
}

uint8_t *victim_shared_page(void)
{
    return page(MAP_SHARED);
}

uint8_t *victim_stack(void)
{
    return on_stack;
}

/* A page of code and nothing else. Without the byte that attacks write. */
__asm__(".pushsection .text\n"
        ".balign 4096\n"
        ".globl victim_code\n"
        "victim_code: ret\n"
        ".ascii \"a page in which there is code: nobody calls it, attacks write it\"\n"
        ".balign 4096\n"
        ".popsection");

void *victim_jump_buffer(void)
{
    return &jump_buffer;
}

void victim_taken(void)
{
    memset(global, 0x66, sizeof(global));
}

static void count(int number)
{
    signals[number]++;
}

bool victim_count_signal(int number)
{
    struct sigaction action = {.sa_handler = count, .sa_flags = SA_RESTART | SA_ONSTACK};
    return sigaction(number, &action, NULL) == 0;
}

int victim_signals(int number)
{
    return signals[number];
}

bool victim_handlers(struct victim_handler handlers[static VICTIM_SIGNALS])
{
    for (long i = 0; i < VICTIM_SIGNALS; i++) {
        if (syscall(SYS_rt_sigaction, i + 1, NULL, &handlers[i], sizeof(handlers[i].mask)) != 0) {
            return false;
        }
    }
    return true;
}

uint64_t victim_thread_block(void)
{
#if defined(__x86_64__)
    union {
        void *object;
        void (*function)(size_t *, size_t *);
    } info = {.object = dlsym(RTLD_DEFAULT, "_dl_get_tls_static_info")};
    const uint32_t *above = dlsym(RTLD_DEFAULT, "_thread_db_sizeof_pthread");
    size_t size = 0, alignment = 0;
    if (info.object == NULL || above == NULL) {
        return 0;
    }
    info.function(&size, &alignment); /* both parts */
    return size <= *above ? 0 : (uint64_t)(size - *above) << 32 | *above;
#else
    return 0;
#endif
}

#if defined(__x86_64__)
enum { SET_GS = 0x1001, SET_FS, GET_FS, GET_GS }; /* asm/prctl.h of Linux */

static void observe(struct victim_state *state)
{
    struct {
        uint32_t control, status, tags, others[4];
    } x87;
    unsigned mxcsr;
    __asm__ volatile("pushfq\n pop %0" : "=r"(state->flags));
    __asm__ volatile("cld");
    __asm__ volatile("stmxcsr %0" : "=m"(mxcsr));
    __asm__ volatile("fnstenv %0\n fldenv %0" : "+m"(x87));
    syscall(SYS_arch_prctl, GET_FS, &state->fs_base);
    syscall(SYS_arch_prctl, GET_GS, &state->gs_base);
    state->flags &= 0x44500;       /* alignment check, nested task, direction, trap */
    state->mxcsr = mxcsr & 0xffc0; /* the rest are notes of exceptions that have been */
    state->x87_control = x87.control & 0xffff;
    state->x87_tags = x87.tags & 0xffff;
    state->pkru = 0;
    unsigned eax, ebx, ecx = 0, edx;
    __asm__("cpuid" : "=a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx) : "0"(7));
    if ((ecx & (1U << 4)) != 0) { /* the system uses protection keys */
        __asm__ volatile("rdpkru" : "=a"(eax), "=d"(edx) : "c"(0));
        state->pkru = eax;
    }
}

/* What an attack has left there is its own memory, or none. False: the system refuses. */
static bool restore_bases(const struct victim_state *state)
{
    return syscall(SYS_arch_prctl, SET_FS, state->fs_base) == 0 &&
           syscall(SYS_arch_prctl, SET_GS, state->gs_base) == 0;
}
#else
static void observe(struct victim_state *state)
{
    memset(state, 0, sizeof(*state));
}

static bool restore_bases(const struct victim_state *state)
{
    (void)state;
    return true;
}
#endif

bool victim_has_old_system_calls(void)
{
#if defined(__x86_64__)
    enum { GETPID = 20 };
    pid_t trial = fork();
    if (trial == 0) {
        long result = GETPID;
        signal(SIGSEGV, SIG_DFL);
        __asm__ volatile("int $0x80" : "+a"(result) : : "memory", "r8", "r9", "r10", "r11");
        _exit(result > 0 ? 0 : 1);
    }
    int status = 1;
    while (trial > 0 && waitpid(trial, &status, 0) < 0 && errno == EINTR) {
    }
    return trial > 0 && status == 0;
#else
    return false;
#endif
}

bool victim_wait(void (*body)(void))
{
    pid_t process = getpid();
    if (setjmp(jump_buffer) != 0) {
        if (getpid() != process) {
            _exit(1); /* a copy of this process, that goes on as if it were this one */
        }
        return false;
    }
    body();
    return true;
}

/* Its frame is the parent's stack: it holds a canary for as long as `body` runs. */
bool victim_run(void (*body)(void), const uint8_t *canary, struct victim_report *report)
{
    uint8_t frame[VICTIM_CANARY];
    memcpy(frame, canary, sizeof(frame));
    on_stack = frame;
    observe(&report->before);
    if (!victim_wait(body)) {
        report->jumped = 1;
        return false;
    }
    observe(&report->after);
    if (!restore_bases(&report->before)) {
        abort(); /* nothing of the host's would work */
    }
    __asm__ volatile("" : : "r"(frame) : "memory");
    memcpy(report->stack, frame, sizeof(report->stack));
    return true;
}
