#include "trusted.h"

#include "gate.h"

#include "../domain/keys.h"

#include <cpuid.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { PAGE = 4096 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int key = -1;
static unsigned holders;
static uint32_t gates_taken; /* a bit each */
static bool forks_are_known;

_Static_assert(PKRU_SAFE_GATES == 32, "gates_taken has another width");
_Static_assert(sizeof(struct pkru_safe_kept) == PAGE && sizeof(struct pkru_safe_mask) == PAGE,
               "gate.S puts a page each");

static bool refused(struct iso_fault *fault, const char *what)
{
    *fault = (struct iso_fault){.exit_code = -1, .system_errno = errno, .what = what};
    return false;
}

static void acquire(void)
{
    pthread_mutex_lock(&lock);
}

static void release(void)
{
    pthread_mutex_unlock(&lock);
}

/* ---- the key ---- */

static bool set_mask(uint32_t close)
{
    if (mprotect(&pkru_safe_mask, PAGE, PROT_READ | PROT_WRITE) != 0) {
        return false;
    }
    pkru_safe_mask.close = close;
    pkru_safe_mask.keep = ~close;
    return mprotect(&pkru_safe_mask, PAGE, PROT_READ) == 0;
}

static void give_key_back(void)
{
    /* The page goes back to key 0, or the next owner of the key would have it. */
    if (key_protect(&pkru_safe_kept, PAGE, PROT_READ | PROT_WRITE, 0) == 0) {
        key_free(key);
    }
    key = -1;
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
        int error = pthread_atfork(acquire, release, release);
        if (error != 0) {
            errno = error;
            return refused(fault, "pthread_atfork");
        }
        forks_are_known = true;
    }
    key = key_allocate(); /* the kernel opens it for this thread */
    if (key < 0) {
        refused(fault, errno == ENOSPC ? "all protection keys are taken: close a sandbox first"
                                       : "pkey_alloc");
        fault->system_errno = errno == ENOSPC ? EAGAIN : errno;
        return false;
    }
    if (key_protect(&pkru_safe_kept, PAGE, PROT_READ | PROT_WRITE, key) == 0 &&
        set_mask(pkru_with(0, key, KEY_NOTHING))) {
        return true;
    }
    refused(fault, "pkey_mprotect");
    give_key_back();
    return false;
}

bool trusted_hold(struct iso_fault *fault)
{
    acquire();
    bool held = holders != 0 || take_key(fault);
    holders += held;
    release();
    return held;
}

void trusted_release(void)
{
    acquire();
    if (--holders == 0) {
        give_key_back();
    }
    release();
}

int trusted_claim_gate(void)
{
    acquire();
    int number = gates_taken == UINT32_MAX ? -1 : __builtin_ctz(~gates_taken);
    gates_taken |= number < 0 ? 0 : 1U << number;
    release();
    return number;
}

void trusted_return_gate(int number)
{
    acquire();
    gates_taken &= ~(1U << number);
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
        gate_set_rights(before);
    }
}

/* ---- memory ---- */

static bool fill(struct iso_trusted *heap, size_t length, struct iso_fault *fault)
{
    heap->length = (length + PAGE - 1) & ~(size_t)(PAGE - 1);
    if (length == 0 || heap->length < length) {
        errno = EINVAL;
        return refused(fault, "a trusted heap of this length");
    }
    void *memory =
        mmap(NULL, heap->length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        return refused(fault, "mmap");
    }
    if (key_protect(memory, heap->length, PROT_READ | PROT_WRITE, key) != 0) {
        refused(fault, "pkey_mprotect");
        munmap(memory, heap->length);
        return false;
    }
    heap->memory = memory;
    return true;
}

enum iso_status iso_trusted_open(size_t length, struct iso_trusted **heap, struct iso_fault *fault)
{
    *heap = NULL;
    *fault = (struct iso_fault){.exit_code = -1};
    struct iso_trusted *opened = calloc(1, sizeof(*opened));
    if (opened == NULL) {
        refused(fault, "calloc");
        return ISO_SYSTEM_ERROR;
    }
    if (trusted_hold(fault)) {
        if (fill(opened, length, fault)) {
            *heap = opened;
            return ISO_OK;
        }
        trusted_release();
    }
    free(opened);
    return ISO_SYSTEM_ERROR;
}

void iso_trusted_close(struct iso_trusted *heap)
{
    bool gone = munmap(heap->memory, heap->length) == 0;
    free(heap);
    if (gone) { /* else the key stays taken: whoever got it next would have our pages, too */
        trusted_release();
    }
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
