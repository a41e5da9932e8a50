/*
 * System calls that write no memory, as errno would be, and memory that an attack may write: in a
 * domain that lets system calls through, all that the process maps has key 0, which a domain can
 * only read.
 */
#ifndef ATTACK_KERNEL_H
#define ATTACK_KERNEL_H

#include "keys.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/syscall.h>

enum { PROTECTION_KEYS = 16 };

#if defined(__x86_64__)
static inline long call_kernel(long number, long a, long b, long c, long d, long e, long f)
{
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}
#else
static inline long call_kernel(long number, long a, long b, long c, long d, long e, long f)
{
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;
    __asm__ volatile("svc 0"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                     : "memory");
    return x0;
}
#endif

/* Result: the kernel's, a negative errno if it refuses. Arguments left out are 0. */
#define KERNEL_CALL(number, a, b, c, d, e, f, ...)                                                 \
    call_kernel(number, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))
#define kernel_call(...) KERNEL_CALL(__VA_ARGS__, 0, 0, 0, 0, 0, 0, 0)

/* A protection key whose memory this code may write: its domain's, or 0, which is everybody's. */
static inline int own_key(void)
{
#if defined(__x86_64__)
    if (has_protection_keys()) {
        unsigned rights, edx; /* two bits a key: no access, no writing */
        __asm__ volatile("rdpkru" : "=a"(rights), "=d"(edx) : "c"(0));
        for (int key = 0; key < PROTECTION_KEYS; key++) {
            if ((rights >> (2 * key) & 3) == 0) {
                return key;
            }
        }
    }
#endif
    return 0;
}

/* Makes pages such as this code may write; without keys, as they are. */
static inline bool make_own(void *pages, size_t length)
{
    int key = own_key();
    return key == 0 ||
           kernel_call(SYS_pkey_mprotect, pages, length, PROT_READ | PROT_WRITE, key) == 0;
}

#endif
