#include "violation.h"

#include "substitutes.h"

#ifndef SYS_USER_DISPATCH
#define SYS_USER_DISPATCH 2
#endif

static enum iso_access access_of(const ucontext_t *context)
{
    enum { WRITE = 2, FETCH = 16 }; /* page fault error code: Intel SDM volume 3, 4.7 */
    greg_t error = context->uc_mcontext.gregs[REG_ERR];
    if ((error & FETCH) != 0) {
        return ISO_ACCESS_EXECUTE;
    }
    return (error & WRITE) != 0 ? ISO_ACCESS_WRITE : ISO_ACCESS_READ;
}

void violation_describe(struct iso_fault *fault, const struct domain *domain, int number,
                        const siginfo_t *info, const ucontext_t *context)
{
    uint64_t instruction = (uint64_t)context->uc_mcontext.gregs[REG_RIP];
    *fault = (struct iso_fault){
        .violation = ISO_VIOLATION_SIGNAL,
        .signal = number,
        .exit_code = -1,
        .instruction = instruction,
    };
    bool exits = false;
    const char *trap = NULL;
    switch (number) {
    case SIGSEGV:
    case SIGBUS: {
        /* An address that is not canonical is not told: the CPU raises another exception. */
        uint64_t address = (uint64_t)info->si_addr;
        fault->address_known = info->si_code != SI_KERNEL;
        if (!fault->address_known) {
            break;
        }
        fault->address = address;
        fault->access = access_of(context);
        if (number == SIGSEGV && info->si_code == SEGV_PKUERR) {
            fault->protection_key_known = true;
            fault->protection_key = (int)info->si_pkey;
        }
        if (region_has(&domain->region, address) &&
            address < (uintptr_t)domain->region.base + STACK_LOW_OFFSET) {
            fault->what = "stack overflow";
        }
        break;
    }
    case SIGILL:
        trap = substitute_trap(instruction, &exits);
        fault->what = trap;
        if (exits) {
            fault->violation = ISO_VIOLATION_EXIT;
            fault->exit_code = (int)(context->uc_mcontext.gregs[REG_RDI] & 0xff);
            fault->signal = 0;
        } else if (trap != NULL) {
            fault->signal = SIGABRT;
        }
        break;
    case SIGSYS:
        if (info->si_code == SYS_USER_DISPATCH) {
            fault->what = "system call refused";
            fault->system_call_known = true;
            fault->system_call = info->si_syscall;
        }
        break;
    default:
        break;
    }
}
