#include "domain.h"

#include "dispositions.h"
#include "interposition.h"
#include "signal_stack.h"
#include "signals.h"
#include "tls.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/*
 * Guards what is common to all domains: slots, keys, unused libraries. Never held inside one.
 * Recursive: libraries' constructors and signals' handlers run while it is held, and may fork.
 * It is held while libraries are loaded, and so comes before the dynamic loader's own lock: a
 * constructor that opens a domain within the program's dlopen() can wait for ever for a thread that
 * opens one meanwhile.
 */
static pthread_mutex_t lock = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
static unsigned lock_depth;
static struct domain domains[GATE_COUNT];
static bool prepared;
atomic_bool domains_end;

static bool refused(struct iso_fault *fault, const char *what)
{
    *fault = (struct iso_fault){.exit_code = -1, .system_errno = errno, .what = what};
    return false;
}

void domains_acquire(void)
{
    pthread_mutex_lock(&lock);
    lock_depth++;
}

void domains_release(void)
{
    lock_depth--;
    pthread_mutex_unlock(&lock);
}

/* ---- the process ---- */

/* The call that is under way is not to be returned to. */
static void abandon(struct domain *domain)
{
    domain->abandoned = domain->abandoned || domain->gate->caller_rsp != 0;
    domain->gate->caller_rsp = 0;
}

/* Of whichever domain the thread has left a call: another one could leave by that one's gate. */
static void abandon_all(const struct thread *thread)
{
    domains_acquire();
    for (unsigned i = 0; i < GATE_COUNT; i++) {
        if (domains[i].in_use && domains[i].gate != NULL && domains[i].thread == thread) {
            abandon(&domains[i]);
        }
    }
    domains_release();
}

/* Destructors of foreign libraries run at exit, as part of the process: on what was loaded, not on
 * what a domain left behind. */
static void at_exit(void)
{
    write_pkru(PKRU_ALL);
    atomic_store(&domains_end, true); /* another thread may be inside */
    for (unsigned i = 0; i < GATE_COUNT; i++) {
        if (domains[i].in_use && domains[i].libraries != NULL) {
            libraries_undo(domains[i].libraries);
        }
    }
    libraries_undo_unused();
}

/* The child's thread is another one to the lock, which the forking thread may have held before. */
static void inherit_lock(void)
{
    pthread_mutex_t fresh = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
    lock = fresh;
    for (unsigned i = 0; i < lock_depth; i++) {
        pthread_mutex_lock(&lock);
    }
}

/* Only the forking thread is left. A domain that another one was in starts afresh. */
static void in_child(void)
{
    inherit_lock();
    for (unsigned i = 0; i < GATE_COUNT; i++) {
        struct domain *domain = &domains[i];
        if (!domain->in_use || domain->gate == NULL) {
            continue;
        }
        if (domain->thread != thread_self) { /* else: a handler may have interrupted a call of its,
                                              * begun or about to, which goes on in both */
            domain_unbind(domain);
            abandon(domain);
        }
    }
    threads_after_fork();
    dispositions_after_fork();
    domains_release();
}

/* Once, and each part of it once, whatever fails. The lock is held. */
static bool prepare_process(struct iso_fault *fault)
{
    static bool exit_known, fork_known;
    if (!arena_reserve()) {
        return refused(fault, "mmap (reserving 64 GiB of address space)");
    }
    if (!threads_prepare(fault)) {
        return false;
    }
    keys_note(signal_stack_key);
    if (!exit_known && atexit(at_exit) != 0) {
        errno = ENOMEM;
        return refused(fault, "atexit");
    }
    exit_known = true;
    int error = fork_known ? 0 : pthread_atfork(domains_acquire, domains_release, in_child);
    if (error != 0) {
        errno = error;
        return refused(fault, "pthread_atfork");
    }
    fork_known = true;
    return true;
}

bool domains_prepare(bool model, struct iso_fault *fault)
{
    if (prepared && model != keys_modelled) {
        errno = EBUSY;
        return refused(fault, "domains and models of domains in one process");
    }
    if (!prepared) {
        keys_modelled = model;
        prepared = prepare_process(fault);
        keys_modelled = model && (prepared || thread_area != NULL); /* else nothing has begun */
    }
    return prepared && signals_prepare(fault) && thread_attach(fault) != NULL;
}

void domain_unbind(struct domain *domain)
{
    if (domain->thread != NULL && domain->thread->domain == domain) {
        domain->thread->domain = NULL;
    }
    domain->thread = NULL;
}

/* ---- opening and closing ---- */

static struct domain *claim(struct iso_fault *fault)
{
    for (unsigned i = 0; i < GATE_COUNT; i++) {
        if (!domains[i].in_use) {
            unsigned number = keys_modelled ? GATE_COUNT + i : i;
            domains[i] = (struct domain){.in_use = true, .number = number, .region = {.key = -1}};
            return &domains[i];
        }
    }
    errno = EAGAIN;
    refused(fault, "all domains are open: close one first");
    return NULL;
}

static void reset_core(struct domain *domain)
{
    struct core *core = domain->core;
    core->output = (struct iso_bytes){0};
    core->retired = NULL;
    heap_reset(&core->heap, region_heap(&domain->region), HEAP_MAX);
    domain->retired = NULL;
}

static uint32_t initial_rights(int key)
{
    uint32_t pkru = pkru_with(UINT32_MAX, 0, KEY_READ);
    if (signal_stack_key > 0) {
        pkru = pkru_with(pkru, signal_stack_key, KEY_WRITE); /* the kernel writes with these */
    }
    return pkru_with(pkru, key, KEY_WRITE);
}

/* The core: a page for the runtime, then thread-local storage. */
static bool open_core(struct domain *domain, struct iso_fault *fault)
{
    uint8_t *memory = domain->region.base + CORE_OFFSET;
    size_t used = 0;
    int key = domain->region.key;
    if (key_protect(memory, CORE_SIZE, PROT_READ | PROT_WRITE, key) != 0) {
        return refused(fault, "pkey_mprotect");
    }
    domain->core = (struct core *)memory;
    reset_core(domain);
    if (!tls_copy(domain->libraries, memory + PAGE, CORE_SIZE - PAGE, &domain->fs, &used)) {
        return refused(fault, "copying thread-local storage");
    }
    if (used != 0) {
        if (!tracked_open(&domain->tls, memory + PAGE, used)) {
            return refused(fault, "malloc");
        }
        if (!tracked_protect(&domain->tls, key)) {
            return refused(fault, "pkey_mprotect");
        }
    }
    return true;
}

static bool fill(struct domain *domain, const char *const *libraries, size_t count,
                 const struct iso_options *options, struct iso_fault *fault)
{
    int key = keys_take(fault);
    if (key < 0) {
        return false;
    }
    domain->region.key = key;
    if (!region_open(&domain->region, domain->number % GATE_COUNT, key)) {
        return refused(fault, "pkey_mprotect");
    }
    domain->libraries = libraries_load(libraries, count, options->strict, fault);
    if (domain->libraries == NULL || !open_core(domain, fault)) {
        return false;
    }
    if (!libraries_protect(domain->libraries, key)) {
        return refused(fault, "pkey_mprotect");
    }
    domain->gate = &gates[domain->number];
    *domain->gate = (struct gate){.exit = (uintptr_t)gate_code(domain->number, gate_code_exit),
                                  .pkru = keys_modelled ? PKRU_ALL : initial_rights(key),
                                  .stack_top = (uintptr_t)domain->region.base + STACK_TOP_OFFSET};
    domain->code = gate_code(domain->number, gate_code_begin);
    return true;
}

static void empty(struct domain *domain)
{
    domain_unbind(domain);
    if (domain->libraries != NULL && libraries_give_back(domain->libraries)) {
        domain->libraries = NULL;
    }
    tracked_close(&domain->tls);
    bool gone =
        (domain->region.base == NULL || region_close(&domain->region)) && domain->libraries == NULL;
    /* After its last page is gone, so that whoever gets the key next has no memory from us; if one
     * has stayed, nobody gets it, and domain_open() tries again. */
    if (gone) {
        keys_return(domain->region.key);
    }
    domain->in_use = !gone;
    domain->closed = true;
}

/* The lock is held. */
static void empty_closed(void)
{
    for (unsigned i = 0; i < GATE_COUNT; i++) {
        if (domains[i].in_use && domains[i].closed) {
            empty(&domains[i]);
        }
    }
}

struct domain *domain_open(const char *const *libraries, size_t count,
                           const struct iso_options *options, struct iso_fault *fault)
{
    domains_acquire();
    struct domain *domain = NULL;
    if (domains_prepare(options->model_keys, fault)) {
        empty_closed();
        domain = claim(fault);
    }
    if (domain != NULL) {
        domain->allow_syscalls = options->allow_syscalls;
        if (!fill(domain, libraries, count, options, fault)) {
            empty(domain);
            domain = NULL;
        }
    }
    domains_release();
    return domain;
}

void domain_close(struct domain *domain)
{
    struct iso_fault ignored;
    thread_attach(&ignored); /* for the rights to restore what the domain wrote */
    domains_acquire();
    empty(domain);
    domains_release();
}

/* ---- calling ---- */

/* The kernel kills whoever blocks the signal of a fault and faults. */
static bool faults_can_come(struct iso_fault *fault)
{
    static const int needed[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGSYS, SIGTRAP};
    sigset_t blocked;
    if (sigprocmask(SIG_BLOCK, NULL, &blocked) != 0) {
        return refused(fault, "sigprocmask");
    }
    for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++) {
        if (sigismember(&blocked, needed[i])) {
            errno = EPERM;
            return refused(fault,
                           "a call while this thread blocks SIGSEGV or another fault's signal");
        }
    }
    return true;
}

/* Not from a signal's handler. If one was running, or a call, it left by siglongjmp(). */
static void forget_what_was_left(struct thread *thread)
{
    struct iso_fault ignored; /* the timer is off while a handler of the program's runs */
    thread->in_handler = false;
    if (thread->deadline_ns != 0) {
        thread_set_deadline(thread, 0, &ignored);
    }
    if (thread->has_no_stack) {
        thread->has_no_stack = !signal_stack_arm(thread, 0);
    }
    abandon_all(thread);
}

/* What this thread has loaded has called the C library until now. */
static bool adopt_what_was_loaded(struct thread *thread, struct iso_fault *fault)
{
    if (!interposition_is_current()) {
        domains_acquire();
        bool done = signals_prepare(fault);
        domains_release();
        if (!done) {
            return false;
        }
    }
    thread->may_have_loaded = false;
    return true;
}

enum iso_status domain_bind(struct domain *domain, struct iso_fault *fault)
{
    struct thread *thread = thread_attach(fault);
    if (thread == NULL) {
        return ISO_SYSTEM_ERROR;
    }
    if (thread_of_stack((uintptr_t)__builtin_frame_address(0)) == NULL) {
        forget_what_was_left(thread);
    } else if (signal_stack_key > 0 || thread->has_no_stack) {
        return ISO_BUSY; /* a violation would have nowhere to arrive */
    }
    if (thread->in_handler || domain->gate->caller_rsp != 0) {
        return ISO_BUSY;
    }
    if (domain->abandoned) {
        if (!domain_discard(domain, true)) {
            refused(fault, "discarding a domain's memory");
            return ISO_SYSTEM_ERROR;
        }
        domain->abandoned = false;
    }
    if (thread->may_have_loaded && !adopt_what_was_loaded(thread, fault)) {
        return ISO_SYSTEM_ERROR;
    }
    if (!faults_can_come(fault)) {
        return ISO_SYSTEM_ERROR;
    }
    if (!domain->allow_syscalls && !thread_arm_dispatch(thread, fault)) {
        return ISO_SYSTEM_ERROR;
    }
    struct gate *gate = domain->gate;
    gate->flag = domain->allow_syscalls ? &thread->plain_flag : &thread->refuse_flag;
    gate->caller_fs = thread->fs;
    gate->caller_gs = thread->gs;
    gate->domain_fs = domain->fs != 0 ? domain->fs : thread->fs;
    domains_acquire(); /* the thread that it was bound to may be ending */
    domain_unbind(domain);
    domain->thread = thread;
    domains_release();
    thread->domain = domain;
    return ISO_OK;
}

bool domain_discard(struct domain *domain, bool readable)
{
    if (!region_discard(&domain->region, readable)) {
        return false;
    }
    tracked_restore(&domain->tls);
    for (size_t i = 0; i < domain->libraries->data_count; i++) {
        tracked_restore(&domain->libraries->data[i]);
    }
    reset_core(domain);
    domain->discards++;
    return true;
}

void domains_forget_thread(const struct thread *thread)
{
    domains_acquire();
    abandon_all(thread);
    for (unsigned i = 0; i < GATE_COUNT; i++) {
        if (domains[i].thread == thread) {
            domains[i].thread = NULL;
        }
    }
    domains_release();
}

/* ---- what others protect by keys of their own ---- */

void domain_grant(struct domain *domain, int key, enum key_rights rights)
{
    domain->gate->pkru = pkru_with(domain->gate->pkru, key, rights);
}

bool domains_revoke(int key)
{
    bool is_in_use = false;
    for (unsigned i = 0; i < GATE_COUNT; i++) {
        if (domains[i].in_use && domains[i].gate != NULL) {
            const struct gate *gate = domains[i].gate;
            bool granted = (gate->pkru >> 2 * key & 3) != KEY_NOTHING;
            domain_grant(&domains[i], key, KEY_NOTHING);
            __atomic_thread_fence(__ATOMIC_SEQ_CST); /* who enters later sees it */
            is_in_use = is_in_use || (granted && gate->caller_rsp != 0);
        }
    }
    return !is_in_use;
}
