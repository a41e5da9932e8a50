#include "sweep.h"

#include "injection.h"

#include <errno.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LIMIT_MS = 20000, TEXT = 200, STATUS_WRONG = 3, SIGNALS = 65 };

static const char *const step_names[STEP_COUNT] = {
    "open",
    "call",
    "large call",
    "call with a limit",
    "foreign error",
    "violation",
    "call after violation",
    "time-out",
    "call after time-out",
    "signal",
    "fork",
    "thread",
    "data",
    "close",
    "second life",
};

/* What a process holds. */
struct stock {
    long descriptors, children, keys, timers;
    long mapped;    /* bytes, less malloc's heap */
    long allocated; /* bytes, by malloc */
    long handlers;  /* signals that have one */
    long mask;
    long stack; /* size of the alternate signal stack */
};
static const char *const stock_names[] = {"descriptors", "children", "keys", "timers", "mapped",
                                          "allocated",   "handlers", "mask", "stack"};
enum { STOCKS = sizeof(stock_names) / sizeof(stock_names[0]) };
_Static_assert(sizeof(struct stock) == STOCKS * sizeof(long), "a name each");

/* Shared between who sweeps and the processes that try. */
static struct trial {
    struct injection injection;
    bool excused, resumed;
    struct answer answer; /* that was excused */
    char text[TEXT];      /* of it, or of what was not right */
    struct stock stock;
} *trial;

static bool second_life;

/* ---- within a life ---- */

void begin_step(enum step step)
{
    atomic_store(&trial->injection.step, second_life ? SECOND_LIFE : step);
}

static void describe(const struct answer *answer)
{
    const struct iso_fault *fault = &answer->reply.fault;
    switch (answer->status) {
    case ISO_SYSTEM_ERROR:
        snprintf(trial->text, TEXT, "%s: %s", fault->what != NULL ? fault->what : "NULL",
                 fault->system_errno != 0 ? strerrorname_np(fault->system_errno) : "0");
        break;
    case ISO_VIOLATION:
        snprintf(trial->text, TEXT, "violation %d, signal %d, exit status %d%s%s", fault->violation,
                 fault->signal, fault->exit_code, fault->what != NULL ? ", " : "",
                 fault->what != NULL ? fault->what : "");
        break;
    default:
        snprintf(trial->text, TEXT, "status %d", answer->status);
    }
}

_Noreturn void not_right(const struct answer *answer)
{
    describe(answer);
    _exit(STATUS_WRONG);
}

/* Errors have a reason, and one of the parent's calls is told by its errno. */
static bool is_documented(const struct answer *answer)
{
    const struct iso_fault *fault = &answer->reply.fault;
    const struct injection *injection = &trial->injection;
    if (answer->status == ISO_VIOLATION) {
        /* A child that cannot do its part says so by its exit status; one that was collected by
         * somebody else is missed. */
        return injection->side == CHILDS || injection->error == ECHILD;
    }
    return answer->status == ISO_SYSTEM_ERROR && fault->what != NULL && fault->what[0] != '\0' &&
           fault->system_errno != 0 && fault->violation == ISO_VIOLATION_NONE;
}

void excuse(const struct answer *answer)
{
    if (second_life || trial->excused || atomic_load(&trial->injection.fired) == 0 ||
        !is_documented(answer)) {
        not_right(answer);
    }
    trial->excused = true;
    trial->answer = *answer;
    describe(answer);
}

struct answer call_through(const struct box *box, uint64_t timeout_ns, enum foreign function,
                           const void *input, size_t length)
{
    struct answer answer = call_within(box, timeout_ns, function, input, length);
    while (answer.status == ISO_INTERRUPTED) {
        trial->resumed = true;
        answer = resume(box);
    }
    return answer;
}

/* ---- steps ---- */

void open_step(struct box *box)
{
    struct answer answer;
    begin_step(OPENING);
    ATTEMPT(answer, try_open(box), answer.status == ISO_OK && box->sandbox != NULL);
}

static bool is_echo(const struct answer *answer, const void *input, size_t length)
{
    return answer->status == ISO_OK && answer->reply.output.length == length &&
           memcmp(answer->reply.output.data, input, length) == 0;
}

void call_step(const struct box *box, enum step step, uint64_t timeout_ns, const void *input,
               size_t length)
{
    struct answer answer;
    begin_step(step);
    ATTEMPT(answer, call_through(box, timeout_ns, benign_echo, input, length),
            is_echo(&answer, input, length));
    release(box, &answer);
}

void error_step(const struct box *box)
{
    struct answer answer;
    begin_step(FOREIGN_ERROR);
    ATTEMPT(answer, call_through(box, 0, benign_error, "\x4d", 1),
            answer.status == ISO_FOREIGN_ERROR && answer.reply.foreign_code == 77);
}

void violation_step(const struct box *box)
{
    struct answer answer;
    begin_step(VIOLATION);
    ATTEMPT(answer, call_through(box, 0, hostile_abort, NULL, 0),
            answer.status == ISO_VIOLATION &&
                answer.reply.fault.violation == ISO_VIOLATION_SIGNAL &&
                answer.reply.fault.signal == SIGABRT);
}

void timeout_step(const struct box *box, enum foreign endless)
{
    struct answer answer;
    begin_step(TIMEOUT);
    ATTEMPT(answer, call_through(box, 5 * MS, endless, NULL, 0),
            answer.status == ISO_VIOLATION &&
                answer.reply.fault.violation == ISO_VIOLATION_TIMEOUT);
}

void fork_step(const struct box *box)
{
    begin_step(FORK);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        call_step(box, FORK, 0, "abc", 3);
        box->mechanism->close(box->sandbox);
        _exit(0);
    }
    int status = exit_status_of(child);
    if (status != 0) {
        if (status != STATUS_WRONG) {
            snprintf(trial->text, TEXT, "the forked process ended with status %d", status);
        }
        _exit(STATUS_WRONG);
    }
}

void close_step(struct box *box)
{
    begin_step(CLOSING);
    close_box(box);
}

/* ---- stock ---- */

static long count_keys(void)
{
    long keys[16], count = 0;
    while (count < 16 && (keys[count] = syscall(SYS_pkey_alloc, 0UL, 0UL)) >= 0) {
        count++;
    }
    for (long i = 0; i < count; i++) {
        syscall(SYS_pkey_free, keys[i]);
    }
    return count;
}

static long sum_maps(void)
{
    char line[4352]; /* a path, and what comes before it */
    long sum = 0;
    FILE *maps = fopen("/proc/self/maps", "r");
    CHECK(maps != NULL);
    while (fgets(line, sizeof(line), maps) != NULL) {
        unsigned long begin, end;
        CHECK(sscanf(line, "%lx-%lx", &begin, &end) == 2);
        sum += strstr(line, "[heap]") == NULL ? (long)(end - begin) : 0;
    }
    fclose(maps);
    return sum;
}

static long count_timers(void)
{
    char line[256];
    long count = 0;
    FILE *timers = fopen("/proc/self/timers", "r");
    while (timers != NULL && fgets(line, sizeof(line), timers) != NULL) {
        count += strncmp(line, "ID:", 3) == 0;
    }
    if (timers != NULL) { /* else: a kernel without CONFIG_CHECKPOINT_RESTORE */
        fclose(timers);
    }
    return count;
}

static long count_handlers(void)
{
    long count = 0;
    for (int number = 1; number < SIGNALS; number++) {
        uint64_t action[4]; /* the handler, flags, restorer, mask */
        CHECK(syscall(SYS_rt_sigaction, number, NULL, action, 8) == 0);
        count += action[0] != (uintptr_t)SIG_DFL;
    }
    return count;
}

static void take_stock_now(struct stock *now)
{
    sigset_t mask;
    stack_t stack;
    CHECK(syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &mask, 8) == 0);
    CHECK(syscall(SYS_sigaltstack, NULL, &stack) == 0);
    *now = (struct stock){
        .allocated = (long)(mallinfo2().uordblks + mallinfo2().hblkhd),
        .descriptors = open_descriptors(),
        .children = !has_no_children(),
        .keys = count_keys(),
        .timers = count_timers(),
        .mapped = sum_maps(),
        .handlers = count_handlers(),
        .stack = (stack.ss_flags & SS_DISABLE) != 0 ? 0 : (long)stack.ss_size,
    };
    memcpy(&now->mask, &mask, sizeof(now->mask));
}

/* Whether two are the same; if not, in trial->text how they differ. */
static bool compare_stocks(const struct stock *now, struct stock wanted, long slack)
{
    if (labs(now->allocated - wanted.allocated) <= slack) {
        wanted.allocated = now->allocated;
    }
    long these[STOCKS], those[STOCKS];
    bool same = true;
    memcpy(these, now, sizeof(these));
    memcpy(those, &wanted, sizeof(those));
    for (size_t i = 0; i < STOCKS; i++) {
        if (these[i] != those[i]) {
            size_t used = same ? 0 : strlen(trial->text);
            snprintf(trial->text + used, TEXT - used, "%s %ld, not %ld; ", stock_names[i], these[i],
                     those[i]);
            same = false;
        }
    }
    return same;
}

/* ---- trials ---- */

/* In a process of its own: exit status, or 128 and its signal; -1: it hangs. */
static int try_once(void (*life)(void))
{
    trial->excused = trial->resumed = false;
    trial->text[0] = '\0';
    struct injection *injection = &trial->injection;
    memset((void *)injection->calls, 0, sizeof(injection->calls));
    atomic_store(&injection->fired, 0);
    fflush(NULL);
    pid_t process = fork();
    CHECK(process >= 0);
    if (process == 0) {
        injection_begin();
        life();
        second_life = true;
        injection->callee = NO_CALLEE; /* where it depends on time how often something is called */
        life();
        take_stock_now(&trial->stock);
        _exit(0);
    }
    struct pollfd end = {.fd = (int)syscall(SYS_pidfd_open, process, 0), .events = POLLIN};
    CHECK(end.fd >= 0);
    bool hangs = poll(&end, 1, LIMIT_MS) == 0;
    close(end.fd);
    if (hangs) {
        kill(process, SIGKILL);
    }
    int status = exit_status_of(process);
    return hangs ? -1 : status;
}

static bool may_keep(const struct sweep *sweep, int callee)
{
    const char *const *name = sweep->keeps;
    while (name != NULL && *name != NULL) {
        if (strcmp(*name, callee_name(callee)) == 0) {
            return true;
        }
        name++;
    }
    return false;
}

/* What came of it. *good: as it must be. */
static const char *judge(const struct sweep *sweep, int callee, int status,
                         const struct stock *wanted, bool *good)
{
    *good = false;
    if (status == -1) {
        return "HANGS";
    }
    if (status == STATUS_WRONG) {
        return "WRONG";
    }
    if (status != 0) {
        snprintf(trial->text, TEXT, "status %d", status);
        return "CRASHES";
    }
    char told[TEXT];
    memcpy(told, trial->text, TEXT);
    if (!compare_stocks(&trial->stock, *wanted, sweep->slack)) {
        *good = may_keep(sweep, callee);
        return *good ? "kept" : "LEAKS";
    }
    memcpy(trial->text, told, TEXT);
    *good = true;
    if (atomic_load(&trial->injection.fired) == 0) {
        return "not reached";
    }
    if (trial->excused) {
        return trial->answer.status == ISO_VIOLATION ? "violation" : "error";
    }
    return trial->resumed ? "recovered" : "harmless";
}

static const char *error_name(int error)
{
    return error == SHORT ? "SHORT" : strerrorname_np(error);
}

/* Whether an earlier call stands for this one. */
static bool is_repeated(const struct sweep *sweep, const struct logged *log, size_t at)
{
    for (size_t i = 0; i < at; i++) {
        if (log[i].side == log[at].side && log[i].callee == log[at].callee &&
            log[i].site == log[at].site && (log[i].step == log[at].step || sweep->brief)) {
            return true;
        }
    }
    return false;
}

static bool try_fault(const struct sweep *sweep, const struct logged *point, int error,
                      const struct stock *wanted, FILE *report)
{
    struct injection *injection = &trial->injection;
    injection->callee = point->callee;
    injection->side = point->side;
    injection->number = point->number;
    injection->error = error;
    bool good;
    int status = try_once(sweep->life);
    const char *outcome = judge(sweep, point->callee, status, wanted, &good);
    int step = atomic_load(&injection->step);
    char line[2 * TEXT];
    snprintf(line, sizeof(line), "%s\t%s\t%s\t%s\t%u\t%s\t%#lx\t%s\t%s", sweep->wall,
             point->side == USERS ? "user" : "child", step_names[point->step],
             callee_name(point->callee), point->number, error_name(error), (long)point->site,
             outcome, trial->text);
    if (report != NULL) {
        fprintf(report, "%s\n", line);
    }
    if (!good) {
        fprintf(stderr, "%s (at: %s)\n", line, step_names[step]);
    }
    return good;
}

/* Starts the program anew without malloc's caches, whose blocks count as allocated. */
static void forgo_caches(void)
{
    static const char name[] = "GLIBC_TUNABLES", value[] = "glibc.malloc.tcache_count=0";
    char arguments[4096] = {0}, *argv[8];
    const char *now = getenv(name);
    if (now != NULL && strcmp(now, value) == 0) {
        mallopt(M_MXFAST, 0); /* which is not this malloc's under the sanitizers */
        return;
    }
    FILE *file = fopen("/proc/self/cmdline", "r");
    CHECK(file != NULL);
    size_t length = fread(arguments, 1, sizeof(arguments) - 1, file), count = 0;
    fclose(file);
    for (char *at = arguments; at < arguments + length && count < 7; at += strlen(at) + 1) {
        argv[count++] = at;
    }
    argv[count] = NULL;
    CHECK(setenv(name, value, 1) == 0);
    execv("/proc/self/exe", argv);
    CHECK(false);
}

void sweep(const struct sweep *sweep)
{
    forgo_caches();
    const char *path = getenv("FAULTS_REPORT");
    FILE *report = path != NULL ? fopen(path, "a") : NULL;
    CHECK(path == NULL || report != NULL);
    if (report != NULL) {
        setvbuf(report, NULL, _IONBF, 0); /* a buffer would count */
    }
    bool all = getenv("FAULTS_ALL") != NULL;
    trial = shared_memory(sizeof(*trial));
    injection_install(&trial->injection);

    trial->injection.callee = NO_CALLEE;
    for (int i = 0; i < 2; i++) { /* the first process settles what only the first finds open */
        atomic_store(&trial->injection.logs, i == 1);
        int status = try_once(sweep->life);
        if (status != 0) {
            check_failed(__FILE__, __LINE__, "%s without a fault: status %d: %s", sweep->wall,
                         status, trial->text);
        }
    }
    atomic_store(&trial->injection.logs, false);
    const struct stock wanted = trial->stock;
    const struct logged *log = trial->injection.log;
    size_t count = atomic_load(&trial->injection.logged);
    CHECK(count <= LOG_MAX);

    size_t faults = 0, bad = 0;
    for (size_t i = 0; i < count; i++) {
        if (log[i].step == SECOND_LIFE || (!all && is_repeated(sweep, log, i))) {
            continue;
        }
        const int *errors = callee_errors(log[i].callee);
        for (size_t e = 0; errors[e] != 0 && (all || e == 0); e++) {
            if (errors[e] != SHORT || !sweep->whole) {
                bad += !try_fault(sweep, &log[i], errors[e], &wanted, report);
                faults++;
            }
        }
    }
    if (report != NULL) {
        fclose(report);
    }
    printf("%s: %zu faults\n", sweep->wall, faults);
    fflush(stdout);
    if (atomic_load(&trial->injection.unknown) != 0) {
        check_failed(__FILE__, __LINE__,
                     "native/ makes system call %ld: say in SYSTEM_CALLS how it fails",
                     atomic_load(&trial->injection.unknown));
    }
    CHECK(faults > 0);
    CHECK_EQUAL(bad, 0);
}
