/* A library that installs handlers of signals by each function that there is for it. */
#include <signal.h>

/* Deprecated functions are what this is about. */
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

typedef void handler(int);

int install_by_sigaction(int number, handler *function);
int install_by_sysv_signal(int number, handler *function);
int install_by_sigset(int number, handler *function);
int block_by_sighold(int number);
int block_by_sigblock(int number);
int block_by_sigsetmask(int number);
int block_by_sigset(int number);
int restarts_after_siginterrupt(int number, int interrupts);
handler *asked(int number);

int install_by_sigaction(int number, handler *function)
{
    struct sigaction action = {.sa_handler = function};
    return sigaction(number, &action, 0);
}

int install_by_sysv_signal(int number, handler *function)
{
    return sysv_signal(number, function) == SIG_ERR ? -1 : 0;
}

int install_by_sigset(int number, handler *function)
{
    return sigset(number, function) == SIG_ERR ? -1 : 0;
}

int block_by_sighold(int number)
{
    return sighold(number);
}

int block_by_sigblock(int number)
{
    return sigblock(1 << (number - 1)); /* as sigmask() */
}

int block_by_sigsetmask(int number)
{
    return sigsetmask(sigblock(0) | 1 << (number - 1));
}

int block_by_sigset(int number)
{
    return sigset(number, SIG_HOLD) == SIG_ERR ? -1 : 0;
}

int restarts_after_siginterrupt(int number, int interrupts)
{
    struct sigaction action;
    if (siginterrupt(number, interrupts) != 0 || signal(number, SIG_IGN) == SIG_ERR ||
        sigaction(number, 0, &action) != 0) {
        return -1;
    }
    return (action.sa_flags & SA_RESTART) != 0;
}

handler *asked(int number)
{
    struct sigaction action;
    return sigaction(number, 0, &action) == 0 ? action.sa_handler : SIG_ERR;
}

/* Tables of functions: one is left as it is loaded, the other is what somebody has set. */
typedef int change(int, const struct sigaction *, struct sigaction *);
change *volatile table_of_functions[2] = {sigaction, sigaction};
