/* Handlers that the program installs by code which was loaded after the first domain was opened. */
#include "domains.h"

#include <dlfcn.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/time.h>

typedef void handler(int);
typedef int installer(int, handler *);
typedef int change(int, const struct sigaction *, struct sigaction *);

static atomic_int handled;

static void count(int number)
{
    (void)number;
    atomic_fetch_add(&handled, 1);
}

static void open_used(struct box *box)
{
    need_protection_keys();
    *box = (struct box){.mechanism = &iso_domain};
    open_box(box);
    CHECK_WORKS(box);
}

static void *load(void)
{
    void *library = dlopen(LATE_LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        check_failed(__FILE__, __LINE__, "%s", dlerror());
    }
    return library;
}

/* A library that calls us, since a domain was called after it came. */
static void *open_and_load(struct box *box)
{
    open_used(box);
    void *library = load();
    CHECK_WORKS(box);
    return library;
}

static void *symbol(void *library, const char *name)
{
    void *found = dlsym(library, name);
    CHECK(found != NULL);
    return found;
}

static installer *find(void *library, const char *name)
{
    union {
        void *object;
        installer *function;
    } found = {.object = symbol(library, name)};
    return found.function;
}

static void check_comes_while_inside(const struct box *box)
{
    struct itimerval soon = {.it_value = {.tv_usec = 10000}};
    int had = atomic_load(&handled);
    CHECK(setitimer(ITIMER_REAL, &soon, NULL) == 0);
    CHECK_TIMEOUT(call_within(box, 60 * MS, hostile_loop, NULL, 0));
    CHECK_EQUAL(atomic_load(&handled), had + 1);
    CHECK_EQUAL(call_number(box, hostile_write, 0).status, ISO_VIOLATION);
    CHECK_WORKS(box);
}

static void check_adopts(const char *name)
{
    struct box box;
    open_used(&box);
    void *library = load();
    CHECK_EQUAL(find(library, name)(SIGALRM, count), 0);
    check_comes_while_inside(&box);
    /* From now on it calls us. */
    CHECK_EQUAL(find(library, name)(SIGALRM, count), 0);
    check_comes_while_inside(&box);
    CHECK_EQUAL(dlclose(library), 0);
    close_box(&box);
}

TEST(a_handler_that_a_late_library_installs_is_adopted)
{
    check_adopts("install_by_sigaction");
}

TEST(a_handler_in_the_way_of_system_v_is_adopted)
{
    check_adopts("install_by_sysv_signal");
}

TEST(a_handler_set_by_sigset_is_adopted)
{
    check_adopts("install_by_sigset");
}

TEST(a_late_library_is_told_what_it_has_set_itself)
{
    struct box box;
    void *library = open_and_load(&box);
    union {
        void *object;
        handler *(*function)(int);
    } asked = {.object = symbol(library, "asked")};
    CHECK_EQUAL(find(library, "install_by_sysv_signal")(SIGUSR1, count), 0);
    CHECK(asked.function(SIGUSR1) == count);
    CHECK(raise(SIGUSR1) == 0);
    CHECK_EQUAL(atomic_load(&handled), 1);
    CHECK(asked.function(SIGUSR1) == SIG_DFL); /* once */
    CHECK_EQUAL(find(library, "install_by_sigset")(SIGUSR1, count), 0);
    CHECK(asked.function(SIGUSR1) == count);
    CHECK_EQUAL(dlclose(library), 0);
    close_box(&box);
}

static bool is_blocked(int number)
{
    sigset_t mask;
    CHECK(sigprocmask(SIG_BLOCK, NULL, &mask) == 0);
    return sigismember(&mask, number) == 1;
}

static void check_blocks(const char *name)
{
    struct box box;
    void *library = open_and_load(&box);
    union {
        void *object;
        int (*function)(int);
    } block = {.object = symbol(library, name)};
    CHECK(!is_blocked(SIGUSR1));
    CHECK(block.function(SIGUSR1) >= 0);
    CHECK(is_blocked(SIGUSR1));
    CHECK(block.function(SIGSEGV) >= 0);
    CHECK(!is_blocked(SIGSEGV));
    CHECK(is_blocked(SIGUSR1));
    CHECK_EQUAL(call_number(&box, hostile_write, 0).status, ISO_VIOLATION);
    CHECK_EQUAL(dlclose(library), 0);
    close_box(&box);
}

TEST(faults_come_through_what_sighold_blocks)
{
    check_blocks("block_by_sighold");
}

TEST(faults_come_through_what_sigblock_blocks)
{
    check_blocks("block_by_sigblock");
}

TEST(faults_come_through_what_sigsetmask_blocks)
{
    check_blocks("block_by_sigsetmask");
}

TEST(faults_come_through_what_sigset_blocks)
{
    check_blocks("block_by_sigset");
}

TEST(signal_goes_by_what_siginterrupt_has_said)
{
    struct box box;
    void *library = open_and_load(&box);
    union {
        void *object;
        int (*function)(int, int);
    } restarts = {.object = symbol(library, "restarts_after_siginterrupt")};
    CHECK_EQUAL(restarts.function(SIGUSR1, 1), 0);
    CHECK_EQUAL(restarts.function(SIGUSR2, 0), 1);
    CHECK_EQUAL(restarts.function(SIGUSR1, 0), 1);
    CHECK_EQUAL(restarts.function(0, 1), -1);
    CHECK_EQUAL(dlclose(library), 0);
    close_box(&box);
}

static int own_change(int number, const struct sigaction *action, struct sigaction *before)
{
    return sigaction(number, action, before);
}

TEST(a_table_of_functions_that_somebody_has_changed_stays_so)
{
    struct box box;
    open_used(&box);
    void *library = load();
    change *volatile *table = symbol(library, "table_of_functions");
    change *from_the_c_library = table[0];
    table[1] = own_change;
    CHECK_WORKS(&box);
    CHECK(table[0] != from_the_c_library);
    CHECK(table[1] == own_change);
    CHECK_EQUAL(dlclose(library), 0);
    close_box(&box);
}
