/* The system calls of domains fail, each of them (sweep.h). Without protection keys, faults.c
 * sweeps models of the other mechanisms. */
#include "domain_lives.h"
#include "domains.h"

TEST(whatever_fails_once_in_a_domain_is_an_error_once)
{
    need_protection_keys();
    sweep_domain(&iso_domain, "domain", false, true);
}
