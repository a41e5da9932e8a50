/*
 * Foreign functions that write PKRU themselves, and then what the domain they are in may not write.
 * A wall of protection keys does not hold against them; what does is not to load them.
 *
 * Input: an address, 8 bytes. 64 bytes from there on become 0x66. Where there are no protection
 * keys, WRPKRU is an illegal instruction, and there is no wall of theirs to open.
 */
#include "isolation.h"
#include "keys.h"

#include <string.h>

enum { NO_MEMORY = 76, NO_SUCH_FEATURE = 77 };

#define ATTACK(name)                                                                               \
    int attack_##name(const uint8_t *input, size_t input_length, struct iso_bytes *output);        \
    int attack_##name(const uint8_t *input, size_t input_length, struct iso_bytes *output)

#if defined(__x86_64__)

#include <cpuid.h>
#include <stdbool.h>
#include <stdlib.h>

static int overwrite(const uint8_t *input, size_t input_length)
{
    uint64_t address = 0;
    memcpy(&address, input, input_length < sizeof(address) ? input_length : sizeof(address));
    memset((uint8_t *)(uintptr_t)address, 0x66, 64);
    return 0;
}

ATTACK(wrpkru)
{
    (void)output;
    if (!has_protection_keys()) {
        return NO_SUCH_FEATURE;
    }
    __asm__ volatile("wrpkru" : : "a"(0), "c"(0), "d"(0) : "memory");
    return overwrite(input, input_length);
}

/* Intel SDM volume 1, chapter 13: the XSAVE area is a legacy region of 512 bytes, a header that
 * begins with a bit for each component that is there, and the components. */
enum { PKRU = 9, HEADER = 512 };

struct layout {
    uint32_t size;
    uint32_t pkru; /* its offset */
};

static bool find_layout(struct layout *layout)
{
    uint32_t eax, ebx, ecx, edx, enabled;
    if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) == 0 || (ecx & bit_OSXSAVE) == 0) {
        return false;
    }
    __asm__ volatile("xgetbv" : "=a"(enabled), "=d"(edx) : "c"(0));
    if ((enabled >> PKRU & 1) == 0 ||
        __get_cpuid_count(13, 0, &eax, &layout->size, &ecx, &edx) == 0) {
        return false;
    }
    return __get_cpuid_count(13, PKRU, &eax, &layout->pkru, &ecx, &edx) != 0;
}

ATTACK(xrstor)
{
    (void)output;
    struct layout layout;
    if (!find_layout(&layout)) {
        return NO_SUCH_FEATURE;
    }
    uint8_t *area = aligned_alloc(64, ((size_t)layout.size + 63) / 64 * 64);
    if (area == NULL) {
        return NO_MEMORY;
    }
    static const uint64_t present = 1 << PKRU;
    static const uint32_t all_rights = 0;
    memset(area, 0, layout.size);
    __asm__ volatile("xsave (%0)" : : "r"(area), "a"(1 << PKRU), "d"(0) : "memory");
    memcpy(area + HEADER, &present, sizeof(present));
    memcpy(area + layout.pkru, &all_rights, sizeof(all_rights));
    __asm__ volatile("xrstor (%0)" : : "r"(area), "a"(1 << PKRU), "d"(0) : "memory");
    free(area);
    return overwrite(input, input_length);
}

#else

ATTACK(wrpkru)
{
    (void)input, (void)input_length, (void)output;
    return NO_SUCH_FEATURE;
}

ATTACK(xrstor)
{
    (void)input, (void)input_length, (void)output;
    return NO_SUCH_FEATURE;
}

#endif
