#include "trusted.h"

#include "gate.h"
#include "held_signals.h"

#include "../domain/keys.h"

#include <cpuid.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>

enum { PAGE = 4096 };

/* Signals are blocked while it is held: a handler may fork, or open a heap. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static sigset_t mask_before; /* of the thread that holds the lock */
static bool forks_are_known;

_Static_assert(PKRU_SAFE_GATES == 32, "gates_taken has another width");
_Static_assert(sizeof(struct pkru_safe_kept) == PAGE && sizeof(struct pkru_safe_mask) == PAGE,
               "gate.S puts a page each");

static bool refused(struct iso_fault *fault, const char *what)
{
    *fault = (struct iso_fault){.exit_code = -1, .system_errno = errno, .what = what};
    return false;
}

/* The lock is held while the fork handlers of others run. */
static void acquire(void)
{
    sigset_t before = hold_signals_of_others();
    pthread_mutex_lock(&lock);
    mask_before = before;
}

static void release(void)
{
    sigset_t before = mask_before;
    pthread_mutex_unlock(&lock);
    release_signals(&before);
}

/* ---- the key ---- */

/* The system calls as they are: what key_protect() and its like decide by lies where a called
 * function can write. */
static int protect(void *address, size_t length, int protection, int key)
{
    return (int)syscall(SYS_pkey_mprotect, address, length, protection, key);
}

/* -1: there is none. */
static int trusted_key(void)
{
    return pkru_safe_mask.close == 0 ? -1 : __builtin_ctz(pkru_safe_mask.close) / 2;
}

/* False with errno: the mask says what it said, or that there is no key. */
static bool set_mask(uint32_t close)
{
    if (mprotect(&pkru_safe_mask, PAGE, PROT_READ | PROT_WRITE) != 0) {
        return false;
    }
    pkru_safe_mask.close = close;
    pkru_safe_mask.keep = ~close;
    if (mprotect(&pkru_safe_mask, PAGE, PROT_READ) == 0) {
        return true;
    }
    pkru_safe_mask.close = 0;
    pkru_safe_mask.keep = UINT32_MAX;
    return false;
}

/* Whoever gets the key next must not have our page with it: if that cannot be, nobody gets it. The
 * lock is held. */
static void give_key_back(void)
{
    int key = trusted_key();
    /* A mask that says so and cannot be sealed does no harm: without a key there is nothing to
     * protect, and whoever takes the next one has to seal it. */
    if ((set_mask(0) || trusted_key() < 0) &&
        protect(&pkru_safe_kept, PAGE, PROT_READ | PROT_WRITE, 0) == 0) {
        syscall(SYS_pkey_free, key);
    }
}

/* The lock is held, and the heap open to this thread. */
static void forget_call(int number)
{
    pkru_safe_inside[number] = UINT32_MAX;
    pkru_safe_kept.outside[number] = UINT32_MAX;
}

/*
 * Of the threads that were inside of a gate only the forking one is left, if it was. A thread notes
 * itself before it notes its rights, in the same page: whatever of it a fork in another thread
 * copies, there are no rights of the one thread's under the name of the other.
 */
static void in_child(void)
{
    if (trusted_key() >= 0) {
        uint64_t self = (uintptr_t)__builtin_thread_pointer();
        uint32_t before = trusted_borrow();
        for (int i = 0; i < PKRU_SAFE_GATES; i++) {
            bool is_used = pkru_safe_kept.outside[i] != UINT32_MAX;
            bool goes_on = is_used && pkru_safe_kept.owners[i] == self;
            if (!goes_on && (is_used || pkru_safe_inside[i] != UINT32_MAX)) {
                forget_call(i); /* else the page stays shared with the parent */
            }
        }
        trusted_return(before);
    }
    release();
}

/* The lock is held. */
static bool take_key(struct iso_fault *fault)
{
    unsigned eax, ebx, ecx = 0, edx;
    __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx);
    if ((ecx & bit_OSPKE) == 0) {
        errno = ENOSYS;
        return refused(fault, "protection keys (CPU flag ospke)");
    }
    if (!forks_are_known) {
        int error = pthread_atfork(acquire, release, in_child);
        if (error != 0) {
            errno = error;
            return refused(fault, "pthread_atfork");
        }
        forks_are_known = true;
    }
    int key = (int)syscall(SYS_pkey_alloc, 0UL, 0UL); /* the kernel opens it for this thread */
    if (key < 0) {
        refused(fault, errno == ENOSPC ? "all protection keys are taken: close a sandbox first"
                                       : "pkey_alloc");
        fault->system_errno = errno == ENOSPC ? EAGAIN : errno;
        return false;
    }
    if (protect(&pkru_safe_kept, PAGE, PROT_READ | PROT_WRITE, key) != 0) {
        refused(fault, "pkey_mprotect");
        syscall(SYS_pkey_free, key);
        return false;
    }
    /* Anybody could write there until now. */
    memset(&pkru_safe_kept, 0xff, PAGE);
    pkru_safe_kept.holders = 0;
    pkru_safe_kept.gates_taken = 0;
    if (!set_mask(pkru_with(0, key, KEY_NOTHING))) {
        refused(fault, "mprotect");
        if (protect(&pkru_safe_kept, PAGE, PROT_READ | PROT_WRITE, 0) == 0) {
            syscall(SYS_pkey_free, key);
        }
        return false;
    }
    return true;
}

static bool hold_key(struct iso_fault *fault)
{
    acquire();
    bool held = trusted_key() >= 0 || take_key(fault);
    if (held) {
        uint32_t before = trusted_borrow();
        pkru_safe_kept.holders++;
        trusted_return(before);
    }
    release();
    return held;
}

static void release_key(void)
{
    acquire();
    uint32_t before = trusted_borrow();
    bool is_last = --pkru_safe_kept.holders == 0;
    trusted_return(before);
    if (is_last) {
        give_key_back();
    }
    release();
}

int trusted_claim_gate(void)
{
    acquire();
    uint32_t before = trusted_borrow();
    uint32_t taken = pkru_safe_kept.gates_taken;
    int number = taken == UINT32_MAX ? -1 : __builtin_ctz(~taken);
    pkru_safe_kept.gates_taken |= number < 0 ? 0 : 1U << number;
    trusted_return(before);
    release();
    return number;
}

void trusted_return_gate(int number)
{
    acquire();
    uint32_t before = trusted_borrow();
    forget_call(number);
    pkru_safe_kept.gates_taken &= ~(1U << number);
    trusted_return(before);
    release();
}

uint32_t trusted_borrow(void)
{
    uint32_t before = read_pkru();
    if ((before & pkru_safe_mask.close) != 0) {
        gate_set_rights(before & pkru_safe_mask.keep);
    }
    return before;
}

void trusted_return(uint32_t before)
{
    if ((before & pkru_safe_mask.close) != 0) {
        gate_set_rights(read_pkru() | (before & pkru_safe_mask.close));
    }
}

/* ---- memory ---- */

void *trusted_map(size_t length, struct iso_fault *fault)
{
    if (!hold_key(fault)) {
        return NULL;
    }
    void *memory = mmap(NULL, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        refused(fault, "mmap");
        release_key();
        return NULL;
    }
    if (protect(memory, length, PROT_READ | PROT_WRITE, trusted_key()) != 0) {
        refused(fault, "pkey_mprotect");
        trusted_unmap(memory, length);
        return NULL;
    }
    return memory;
}

void trusted_unmap(void *memory, size_t length)
{
    if (munmap(memory, length) == 0) { /* else whoever got the key next would have it, too */
        release_key();
    }
}

bool trusted_seal(void *memory, size_t length, struct iso_fault *fault)
{
    return protect(memory, length, PROT_READ, 0) == 0 || refused(fault, "pkey_mprotect");
}

enum iso_status iso_trusted_open(size_t length, struct iso_trusted **heap, struct iso_fault *fault)
{
    *heap = NULL;
    *fault = (struct iso_fault){.exit_code = -1};
    size_t whole = (length + PAGE - 1) & ~(size_t)(PAGE - 1);
    if (length == 0 || whole < length || whole > SIZE_MAX - PAGE) {
        errno = EINVAL;
        refused(fault, "a trusted heap of this length");
        return ISO_SYSTEM_ERROR;
    }
    uint8_t *memory =
        trusted_map(PAGE + whole, fault); /* a page that describes it, then the heap */
    if (memory == NULL) {
        return ISO_SYSTEM_ERROR;
    }
    struct iso_trusted *description = (struct iso_trusted *)memory;
    uint32_t before = trusted_borrow();
    *description = (struct iso_trusted){.memory = memory + PAGE, .length = whole};
    trusted_return(before);
    if (!trusted_seal(description, PAGE, fault)) {
        trusted_unmap(memory, PAGE + whole);
        return ISO_SYSTEM_ERROR;
    }
    *heap = description;
    return ISO_OK;
}

void iso_trusted_close(struct iso_trusted *heap)
{
    trusted_unmap(heap, PAGE + heap->length);
}

static bool is_within(const struct iso_trusted *heap, size_t offset, size_t length)
{
    return offset <= heap->length && length <= heap->length - offset;
}

bool iso_trusted_write(struct iso_trusted *heap, size_t offset, const void *data, size_t length)
{
    if (!is_within(heap, offset, length)) {
        return false;
    }
    uint32_t before = trusted_borrow();
    memcpy(heap->memory + offset, data, length);
    trusted_return(before);
    return true;
}

bool iso_trusted_read(const struct iso_trusted *heap, size_t offset, void *data, size_t length)
{
    if (!is_within(heap, offset, length)) {
        return false;
    }
    uint32_t before = trusted_borrow();
    memcpy(data, heap->memory + offset, length);
    trusted_return(before);
    return true;
}
