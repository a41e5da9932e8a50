#include "audit.h"

#include "frame.h"

static void note(struct iso_audit *audit, uint64_t instruction, uint64_t address)
{
    for (size_t i = 0; i < audit->count; i++) {
        struct iso_outside_write *known = &audit->writes[i];
        if (known->instruction == instruction && known->address == address) {
            known->times++;
            return;
        }
    }
    if (audit->count == audit->room) {
        audit->lost++;
        return;
    }
    audit->writes[audit->count++] =
        (struct iso_outside_write){.instruction = instruction, .address = address, .times = 1};
}

bool audit_signal(struct domain *domain, int number, const siginfo_t *info, ucontext_t *context)
{
    enum { TRAP_FLAG = 0x100 };
    greg_t *registers = context->uc_mcontext.gregs;
    if (number == SIGSEGV && info->si_code == SEGV_PKUERR && info->si_pkey == 0) {
        note(domain->audit, (uint64_t)registers[REG_RIP], (uint64_t)info->si_addr);
        frame_set_pkru(context, pkru_with(domain->gate->pkru, 0, KEY_WRITE));
        registers[REG_EFL] |= TRAP_FLAG; /* back after one instruction */
        return true;
    }
    if (number == SIGTRAP && info->si_code == TRAP_TRACE) {
        frame_set_pkru(context, domain->gate->pkru);
        registers[REG_EFL] &= ~(greg_t)TRAP_FLAG;
        return true;
    }
    return false;
}
