/* Whether there are protection keys: elsewhere RDPKRU and WRPKRU are illegal instructions. */
#ifndef ATTACK_KEYS_H
#define ATTACK_KEYS_H

#include <stdbool.h>

#if defined(__x86_64__)
#include <cpuid.h>

/* The system uses them: OSPKE, Intel SDM volume 2, CPUID leaf 7. */
static inline bool has_protection_keys(void)
{
    unsigned eax, ebx, ecx, edx;
    return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0 && (ecx & (1U << 4)) != 0;
}
#endif

#endif
