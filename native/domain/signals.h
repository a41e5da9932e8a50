/*
 * Signals. The runtime's handler is the kernel's for the signals of faults, for the one of time
 * limits, and for all others that have a handler: handlers would otherwise start on a stack that
 * they have no right to, or return into a domain by a system call that is refused. What the program
 * installed is called from it, and what the program installs later is kept from the kernel by
 * writing our sigaction() into the global offset tables of what is loaded.
 */
#ifndef DOMAIN_SIGNALS_H
#define DOMAIN_SIGNALS_H

#include "isolation.h"

#include <stdbool.h>
#include <stdint.h>

/* Installs the handler, also for what came since the last time; the program's go on being called.
 * False: *fault. Each time that a domain is opened. */
bool signals_prepare(struct iso_fault *fault);

/* The real-time signal that ends a call at its time limit. */
int deadline_signal(void);

#endif
