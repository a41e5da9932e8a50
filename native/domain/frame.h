/* A signal's frame, and the XSAVE area in it, where the interrupted PKRU lies. */
#ifndef DOMAIN_FRAME_H
#define DOMAIN_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <ucontext.h>

/* Asks the CPU where PKRU lies. False: it does not say. Once. */
bool frame_prepare(void);

static inline uint8_t *frame_area(const ucontext_t *context)
{
    return (uint8_t *)context->uc_mcontext.fpregs;
}

/* Bytes of the area, its trailing magic included; 0: there is none, or not one that has PKRU. */
size_t frame_area_size(const uint8_t *area);

/* The rights that were in force; all where there is no area. */
uint32_t frame_pkru(const ucontext_t *context);

/* The bytes that frame_copy() needs. */
size_t frame_size(const ucontext_t *context);

/* Copies what sigreturn reads to `room` bytes, aligned to 64 as XRSTOR wants it. An area without
 * PKRU, or too long, stays behind: sigreturn then resets the floating-point state. */
ucontext_t *frame_copy(const ucontext_t *context, uint8_t *to, size_t room);

/* The rights that sigreturn puts in force. */
void frame_set_pkru(const ucontext_t *context, uint32_t pkru);

#endif
