#include "gadgets.h"

#include "loader.h"
#include "region.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool refused(struct iso_fault *fault, int error, const char *what)
{
    *fault = (struct iso_fault){.exit_code = -1, .system_errno = error, .what = what};
    return false;
}

/* ---- the instructions ---- */

/*
 * Intel SDM volume 2: WRPKRU is 0F 01 EF; XRSTOR is 0F AE /5 with an operand in memory. With one in
 * a register (mod 3) it is LFENCE. Prefixes come before these bytes and make no difference, but for
 * APX's REX2: D5, then a byte whose highest bit stands for the 0F. XRSTOR cannot have it.
 */
static const char *instruction_at(const uint8_t *code, size_t length)
{
    if (length >= 3 && code[0] == 0x0f && code[1] == 0x01 && code[2] == 0xef) {
        return "WRPKRU";
    }
    if (length >= 4 && code[0] == 0xd5 && code[1] >= 0x80 && code[2] == 0x01 && code[3] == 0xef) {
        return "WRPKRU";
    }
    if (length >= 3 && code[0] == 0x0f && code[1] == 0xae) {
        uint8_t mod = code[2] >> 6, reg = code[2] >> 3 & 7;
        return reg == 5 && mod != 3 ? "XRSTOR" : NULL;
    }
    return NULL;
}

bool gadget_find(const uint8_t *begin, const uint8_t *end, struct gadget *found)
{
    static const uint8_t first_bytes[] = {0x0f, 0xd5};
    for (size_t i = 0; i < sizeof(first_bytes); i++) {
        const uint8_t *at = begin;
        while ((at = memchr(at, first_bytes[i], (size_t)(end - at))) != NULL) {
            *found = (struct gadget){instruction_at(at, (size_t)(end - at)), at};
            if (found->instruction != NULL) {
                return true;
            }
            at++;
        }
    }
    return false;
}

/* ---- the code ---- */

struct code {
    const uint8_t *begin, *end;
    const struct link_map *object;
};

struct codes {
    struct code *ranges;
    size_t count;
};

static bool refuse(const struct link_map *object, const char *why, struct iso_fault *fault)
{
    snprintf(loader_message, sizeof(loader_message), "%s: %s; strict refuses it", object->l_name,
             why);
    return refused(fault, EPERM, loader_message);
}

/* What is mapped executable of an object, in whole pages. */
static bool add_code(struct codes *codes, struct link_map *object, struct iso_fault *fault)
{
    struct headers headers;
    bool executable_stack = true; /* unless it says no */
    if (!read_headers(object, &headers)) {
        return refused(fault, ENOEXEC, "a library without ELF headers in memory");
    }
    struct code *more =
        realloc(codes->ranges, (codes->count + headers.count) * sizeof(*codes->ranges));
    if (more == NULL) {
        return refused(fault, ENOMEM, "realloc");
    }
    codes->ranges = more;
    for (size_t i = 0; i < headers.count; i++) {
        const ElfW(Phdr) *header = &headers.table[i];
        if (header->p_type == PT_GNU_STACK) {
            executable_stack = (header->p_flags & PF_X) != 0;
        }
        if (header->p_type != PT_LOAD || (header->p_flags & PF_X) == 0 || header->p_memsz == 0) {
            continue;
        }
        if ((header->p_flags & PF_R) == 0) {
            return refuse(object, "code that cannot be read, and so not be searched", fault);
        }
        uintptr_t begin = object->l_addr + header->p_vaddr;
        uintptr_t end = (begin + header->p_memsz + PAGE - 1) & ~(PAGE - 1);
        begin &= ~(PAGE - 1);
        codes->ranges[codes->count++] =
            (struct code){(const uint8_t *)begin, (const uint8_t *)end, object};
    }
    /* The dynamic loader has made the process's stacks executable for it: what the process was sent
     * lies there. */
    return !executable_stack || refuse(object, "it wants an executable stack", fault);
}

static int by_address(const void *one, const void *other)
{
    const struct code *a = one, *b = other;
    return (a->begin > b->begin) - (a->begin < b->begin);
}

/* The address is the library's own, as in its file. */
static bool refuse_gadget(const struct codes *codes, const struct gadget *gadget,
                          struct iso_fault *fault)
{
    const struct code *code = codes->ranges;
    while (gadget->place < code->begin || gadget->place >= code->end) {
        code++;
    }
    char symbol[128] = "";
    Dl_info info;
    if (dladdr(gadget->place, &info) != 0 && info.dli_sname != NULL) {
        snprintf(symbol, sizeof(symbol), " (%.90s+%#tx)", info.dli_sname,
                 gadget->place - (const uint8_t *)info.dli_saddr);
    }
    snprintf(loader_message, sizeof(loader_message),
             "%.250s: %s at %#tx%s: code that can open its own wall; strict refuses it",
             code->object->l_name, gadget->instruction,
             gadget->place - (const uint8_t *)code->object->l_addr, symbol);
    return refused(fault, EPERM, loader_message);
}

/* Ranges that adjoin are searched as one: an instruction can go over their border. */
static bool search(struct codes *codes, struct iso_fault *fault)
{
    qsort(codes->ranges, codes->count, sizeof(*codes->ranges), by_address);
    for (size_t i = 0, next; i < codes->count; i = next) {
        const uint8_t *end = codes->ranges[i].end;
        for (next = i + 1; next < codes->count && codes->ranges[next].begin <= end; next++) {
            end = codes->ranges[next].end > end ? codes->ranges[next].end : end;
        }
        struct gadget gadget;
        if (gadget_find(codes->ranges[i].begin, end, &gadget)) {
            return refuse_gadget(codes, &gadget, fault);
        }
    }
    return true;
}

bool gadgets_are_absent(struct link_map *const *objects, size_t count, struct iso_fault *fault)
{
    struct codes codes = {0};
    bool absent = true;
    for (size_t i = 0; i < count && absent; i++) {
        absent = add_code(&codes, objects[i], fault);
    }
    absent = absent && search(&codes, fault);
    free(codes.ranges);
    return absent;
}

/* ---- the C library's own ---- */

/* Through this file the kernel writes to a private copy of a page without making it writable, as
 * for a debugger's breakpoints: there is no moment at which the page cannot be executed. */
static bool overwrite(const uint8_t *place, const uint8_t *code, size_t length,
                      struct iso_fault *fault)
{
    int memory = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
    if (memory < 0) {
        return refused(fault, errno, "open(/proc/self/mem), to overwrite pkey_set's WRPKRU");
    }
    bool done = pwrite(memory, code, length, (off_t)(uintptr_t)place) == (ssize_t)length ||
                refused(fault, errno, "write(/proc/self/mem), to overwrite pkey_set's WRPKRU");
    close(memory);
    return done;
}

static const uint8_t wrpkru[3] = {0x0f, 0x01, 0xef};
static const uint8_t ud2[3] = {0x0f, 0x0b, 0x90}; /* and NOP, to be as long */

/* NULL: there is none. */
static const uint8_t *find_in_pkey_set(void *c_library)
{
    const uint8_t *function = dlsym(c_library, "pkey_set"); /* glibc 2.27 */
    const ElfW(Sym) *symbol = NULL;
    Dl_info info;
    if (function == NULL || dladdr1(function, &info, (void **)&symbol, RTLD_DL_SYMENT) == 0 ||
        symbol == NULL) {
        return NULL;
    }
    return memmem(function, symbol->st_size, wrpkru, sizeof(wrpkru));
}

bool pkey_set_trap(void *c_library, bool trap, const uint8_t **trapped, struct iso_fault *fault)
{
    if (trap == (*trapped != NULL)) {
        return true;
    }
    const uint8_t *place = trap ? find_in_pkey_set(c_library) : *trapped;
    if (place != NULL && !overwrite(place, trap ? ud2 : wrpkru, sizeof(ud2), fault)) {
        return false;
    }
    *trapped = trap ? place : NULL;
    return true;
}
