#include "substitutes.h"

#include "heap.h"
#include "region.h"

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

/* The heap of the domain that runs on this stack; NULL outside, where a library's destructors may
 * call. Needs no thread-local storage, which inside is the domain's to forge. */
static inline struct heap *heap_here(void)
{
    uintptr_t stack = (uintptr_t)__builtin_frame_address(0);
    uintptr_t offset = stack - (uintptr_t)arena_base;
    if (__builtin_expect(offset >= arena_size, 0)) {
        return NULL;
    }
    return &((struct core *)((stack & ~(SLOT_SIZE - 1)) + CORE_OFFSET))->heap;
}

/* What a library's constructors allocated, before it came to its domain, is not. */
static inline bool is_domains(const void *block)
{
    return (uintptr_t)block - (uintptr_t)arena_base < arena_size;
}

static void *domain_malloc(size_t size)
{
    struct heap *heap = heap_here();
    return __builtin_expect(heap != NULL, 1) ? heap_allocate(heap, size) : malloc(size);
}

static void domain_free(void *block)
{
    struct heap *heap = heap_here();
    if (__builtin_expect(heap != NULL && is_domains(block), 1)) {
        heap_free(heap, block);
    } else if (heap == NULL && !is_domains(block)) {
        free(block);
    } /* else: a block of the other side, or NULL; the domain's are gone with it */
}

static void domain_delete_sized(void *block, size_t size)
{
    (void)size;
    domain_free(block);
}

static void domain_delete_aligned(void *block, size_t size, size_t alignment)
{
    (void)size;
    (void)alignment;
    domain_free(block);
}

static void *domain_calloc(size_t count, size_t size)
{
    struct heap *heap = heap_here();
    return heap != NULL ? heap_allocate_zeroed(heap, count, size) : calloc(count, size);
}

static void *domain_realloc(void *block, size_t size)
{
    struct heap *heap = heap_here();
    if (heap == NULL) {
        return is_domains(block) ? NULL : realloc(block, size);
    }
    return block == NULL || is_domains(block) ? heap_reallocate(heap, block, size) : NULL;
}

static void *domain_reallocarray(void *block, size_t count, size_t size)
{
    size_t total;
    return __builtin_mul_overflow(count, size, &total) ? NULL : domain_realloc(block, total);
}

static void *domain_memalign(size_t alignment, size_t size)
{
    struct heap *heap = heap_here();
    if (alignment == 0 || (alignment & (alignment - 1)) != 0) {
        return NULL;
    }
    return heap != NULL ? heap_allocate_aligned(heap, alignment, size) : memalign(alignment, size);
}

static void *domain_new_aligned(size_t size, size_t alignment)
{
    return domain_memalign(alignment, size);
}

static int domain_posix_memalign(void **block, size_t alignment, size_t size)
{
    if (alignment % sizeof(void *) != 0 || alignment == 0) {
        return EINVAL;
    }
    void *memory = domain_memalign(alignment, size);
    if (memory == NULL) {
        return ENOMEM;
    }
    *block = memory;
    return 0;
}

static size_t domain_malloc_usable_size(void *block)
{
    return is_domains(block) ? heap_usable_size(block) : malloc_usable_size(block);
}

/* C++ would throw; exceptions do not cross the runtime, so that this ends the call. */
static void *domain_new(size_t size)
{
    void *block = domain_malloc(size == 0 ? 1 : size);
    if (block == NULL) {
        __builtin_trap();
    }
    return block;
}

/* ---- what ends the call ---- */

/* Each is one trap, so that its address tells which it was. */
__asm__(".text\n"
        ".globl domain_abort, domain_exit, domain_stack_smashed\n"
        ".hidden domain_abort, domain_exit, domain_stack_smashed\n"
        ".type domain_abort, @function\n"
        ".type domain_exit, @function\n"
        ".type domain_stack_smashed, @function\n"
        "domain_abort: ud2\n"
        "domain_exit: ud2\n"
        "domain_stack_smashed: ud2\n");
void domain_abort(void);
void domain_exit(int status);
void domain_stack_smashed(void);

const char *substitute_trap(uint64_t instruction, bool *exits)
{
    *exits = instruction == (uintptr_t)domain_exit;
    if (*exits) {
        return "exit";
    }
    if (instruction == (uintptr_t)domain_abort) {
        return "abort";
    }
    return instruction == (uintptr_t)domain_stack_smashed ? "stack smashed" : NULL;
}

/*
 * glibc's own longjmp, less its clean-up handlers, which write to thread-local storage. jmp_buf
 * holds rbx, rbp, r12-r15, rsp, pc; rbp, rsp and pc are mangled with the guard at fs:0x30
 * (sysdeps/x86_64/__longjmp.S). A signal mask is not restored: there is none inside.
 */
__asm__(".text\n"
        ".globl domain_longjmp\n"
        ".hidden domain_longjmp\n"
        ".type domain_longjmp, @function\n"
        "domain_longjmp:\n"
        "    mov 48(%rdi), %r8\n"
        "    mov 8(%rdi), %r9\n"
        "    mov 56(%rdi), %rdx\n"
        "    ror $17, %r8\n"
        "    xor %fs:0x30, %r8\n"
        "    ror $17, %r9\n"
        "    xor %fs:0x30, %r9\n"
        "    ror $17, %rdx\n"
        "    xor %fs:0x30, %rdx\n"
        "    mov (%rdi), %rbx\n"
        "    mov 16(%rdi), %r12\n"
        "    mov 24(%rdi), %r13\n"
        "    mov 32(%rdi), %r14\n"
        "    mov 40(%rdi), %r15\n"
        "    mov %esi, %eax\n"
        "    test %eax, %eax\n"
        "    jnz 1f\n"
        "    inc %eax\n"
        "1:  mov %r8, %rsp\n"
        "    mov %r9, %rbp\n"
        "    jmp *%rdx\n");
void domain_longjmp(void *environment, int value);

/* ---- the table ---- */

#define FUNCTION(pointer) ((void (*)(void))(pointer))

static const struct {
    const char *name;
    void (*function)(void);
} SUBSTITUTES[] = {
    {"malloc", FUNCTION(domain_malloc)},
    {"free", FUNCTION(domain_free)},
    {"cfree", FUNCTION(domain_free)},
    {"calloc", FUNCTION(domain_calloc)},
    {"realloc", FUNCTION(domain_realloc)},
    {"reallocarray", FUNCTION(domain_reallocarray)},
    {"posix_memalign", FUNCTION(domain_posix_memalign)},
    {"aligned_alloc", FUNCTION(domain_memalign)},
    {"memalign", FUNCTION(domain_memalign)},
    {"malloc_usable_size", FUNCTION(domain_malloc_usable_size)},
    /* operator new and delete: plain, array, nothrow, sized, aligned */
    {"_Znwm", FUNCTION(domain_new)},
    {"_Znam", FUNCTION(domain_new)},
    {"_ZnwmRKSt9nothrow_t", FUNCTION(domain_malloc)},
    {"_ZnamRKSt9nothrow_t", FUNCTION(domain_malloc)},
    {"_ZnwmSt11align_val_t", FUNCTION(domain_new_aligned)},
    {"_ZnamSt11align_val_t", FUNCTION(domain_new_aligned)},
    {"_ZdlPv", FUNCTION(domain_free)},
    {"_ZdaPv", FUNCTION(domain_free)},
    {"_ZdlPvm", FUNCTION(domain_delete_sized)},
    {"_ZdaPvm", FUNCTION(domain_delete_sized)},
    {"_ZdlPvSt11align_val_t", FUNCTION(domain_delete_sized)},
    {"_ZdaPvSt11align_val_t", FUNCTION(domain_delete_sized)},
    {"_ZdlPvmSt11align_val_t", FUNCTION(domain_delete_aligned)},
    {"_ZdaPvmSt11align_val_t", FUNCTION(domain_delete_aligned)},
    {"longjmp", FUNCTION(domain_longjmp)},
    {"_longjmp", FUNCTION(domain_longjmp)},
    {"siglongjmp", FUNCTION(domain_longjmp)},
    {"__longjmp_chk", FUNCTION(domain_longjmp)},
    {"abort", FUNCTION(domain_abort)},
    {"exit", FUNCTION(domain_exit)},
    {"_exit", FUNCTION(domain_exit)},
    {"_Exit", FUNCTION(domain_exit)},
    {"quick_exit", FUNCTION(domain_exit)},
    {"__stack_chk_fail", FUNCTION(domain_stack_smashed)},
};

void *substitute_for(const char *name)
{
    for (size_t i = 0; i < sizeof(SUBSTITUTES) / sizeof(SUBSTITUTES[0]); i++) {
        if (strcmp(SUBSTITUTES[i].name, name) == 0) {
            union { /* POSIX's way between the two kinds of pointers */
                void (*function)(void);
                void *object;
            } substitute = {.function = SUBSTITUTES[i].function};
            return substitute.object;
        }
    }
    return NULL;
}

int domain_invoke(const uint8_t *input, size_t length, struct iso_bytes *output,
                  iso_function *function)
{
    struct core *core = (struct core *)output; /* its first field */
    void *retired = core->retired;
    core->retired = NULL;
    if (retired != NULL) {
        heap_free(&core->heap, retired);
    }
    return function == NULL ? 0 : function(input, length, output);
}
