/* A host's canaries; harness/attacks/canaries.py calls it by ctypes. */
#ifndef ATTACK_VICTIM_H
#define ATTACK_VICTIM_H

#include <stdbool.h>
#include <stdint.h>

enum { VICTIM_CANARY = 64 }; /* bytes */

/* Of the thread, but for what the ABI lets a function change. Zero where there is no such. */
struct victim_state {
    uint64_t flags;
    uint64_t mxcsr;
    uint64_t x87_control;
    uint64_t x87_tags;
    uint64_t fs_base;
    uint64_t gs_base;
    uint64_t pkru;
};

struct victim_report {
    struct victim_state before;
    struct victim_state after;
    uint8_t stack[VICTIM_CANARY]; /* what was left of the canary in the parent's frame */
    uint64_t jumped;              /* control came back another way than from `body` */
};

/* Canaries; NULL: no memory. */
uint8_t *victim_global(void);
uint8_t *victim_thread_local(void);
uint8_t *victim_heap(void);
uint8_t *victim_heap_page(void); /* of the heap, too, with nothing else in its page */
uint8_t *victim_page(void);      /* at its begin */
uint8_t *victim_shared_page(void);
uint8_t *victim_stack(void); /* while victim_run() runs */

void *victim_jump_buffer(void); /* a jmp_buf; while victim_run() or victim_wait() runs */
void victim_code(void);         /* a page of code that nobody calls; VICTIM_CANARY bytes of it */
void victim_taken(void);        /* where attacks jump to: changes the global canary */

/* Counts a signal from now on, instead of what it does. */
bool victim_count_signal(int number);
int victim_signals(int number);

/* What a signal does, as rt_sigaction() says it. */
struct victim_handler {
    uint64_t handler;
    uint64_t flags;
    uint64_t restorer;
    uint64_t mask;
};
enum { VICTIM_SIGNALS = 64 };
/* Of all signals, from 1 on. False: the system refuses. */
bool victim_handlers(struct victim_handler handlers[static VICTIM_SIGNALS]);

/* How long the block is that FS base leads to: in the upper half how many bytes lie below FS base,
 * in the lower half how many from there on. 0: glibc does not tell. */
uint64_t victim_thread_block(void);

/* Whether this system has those of 32-bit programs, int $0x80; elsewhere it is a fault. */
bool victim_has_old_system_calls(void);

/* Runs `body` while the jmp_buf leads here: what is forked meanwhile has a valid one for as long as
 * it lives. False: somebody jumped. */
bool victim_wait(void (*body)(void));

/* Runs `body` likewise, below a frame that holds a canary. False: it did not return by itself. The
 * bases of FS and GS are afterwards as they were. */
bool victim_run(void (*body)(void), const uint8_t *canary, struct victim_report *report);

#endif
