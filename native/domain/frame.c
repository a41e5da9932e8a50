#include "frame.h"

#include "keys.h"

#include <cpuid.h>
#include <string.h>

/* Intel SDM volume 1, 13.4 (XSAVE area), and Linux's asm/sigcontext.h (struct _fpx_sw_bytes). */
enum {
    SOFTWARE_RESERVED = 464, /* magic1, extended_size, ... */
    XSTATE_HEADER = 512,     /* XSTATE_BV */
    PKRU_COMPONENT = 9,
};
#define XSTATE_MAGIC 0x46505853U

static unsigned pkru_offset;

bool frame_prepare(void)
{
    unsigned eax, ebx, ecx, edx;
    if (pkru_offset == 0 && __get_cpuid_count(0xd, PKRU_COMPONENT, &eax, &ebx, &ecx, &edx) != 0) {
        pkru_offset = ebx;
    }
    return pkru_offset != 0;
}

size_t frame_area_size(const uint8_t *area)
{
    uint32_t words[2];
    if (area == NULL) {
        return 0;
    }
    memcpy(words, area + SOFTWARE_RESERVED, sizeof(words));
    return words[0] == XSTATE_MAGIC && words[1] >= pkru_offset + sizeof(uint32_t) ? words[1] : 0;
}

uint32_t frame_pkru(const ucontext_t *context)
{
    const uint8_t *area = frame_area(context);
    uint64_t present;
    uint32_t pkru = PKRU_ALL;
    if (frame_area_size(area) == 0) {
        return pkru;
    }
    memcpy(&present, area + XSTATE_HEADER, sizeof(present));
    if ((present & 1U << PKRU_COMPONENT) != 0) { /* else in its initial state, 0 */
        memcpy(&pkru, area + pkru_offset, sizeof(pkru));
    }
    return pkru;
}

void frame_set_pkru(const ucontext_t *context, uint32_t pkru)
{
    uint8_t *area = frame_area(context);
    uint64_t present;
    if (pkru_offset == 0 || frame_area_size(area) == 0) { /* 0: a model, without rights */
        return;
    }
    memcpy(&present, area + XSTATE_HEADER, sizeof(present));
    present |= 1U << PKRU_COMPONENT;
    memcpy(area + XSTATE_HEADER, &present, sizeof(present));
    memcpy(area + pkru_offset, &pkru, sizeof(pkru));
}

enum { HEAD = (sizeof(ucontext_t) + 63) & ~63 };

size_t frame_size(const ucontext_t *context)
{
    return HEAD + frame_area_size(frame_area(context));
}

ucontext_t *frame_copy(const ucontext_t *context, uint8_t *to, size_t room)
{
    size_t kernels = offsetof(ucontext_t, uc_sigmask) + sizeof(uint64_t);
    size_t size = frame_area_size(frame_area(context));
    ucontext_t *copy = (ucontext_t *)to;
    memcpy(copy, context, kernels);
    copy->uc_flags = 1 | 2 | 4; /* UC_FP_XSTATE, UC_SIGCONTEXT_SS, UC_STRICT_RESTORE_SS */
    copy->uc_link = NULL;
    copy->uc_mcontext.fpregs = NULL;
    if (size != 0 && size <= room - HEAD) {
        memcpy(to + HEAD, frame_area(context), size);
        copy->uc_mcontext.fpregs = (fpregset_t)(to + HEAD);
    }
    return copy;
}
