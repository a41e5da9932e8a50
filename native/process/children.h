/* The list of all children of this process, and those that could not be collected in time. */
#ifndef PROCESS_CHILDREN_H
#define PROCESS_CHILDREN_H

#include "held_signals.h"
#include "spawn.h"

/*
 * All children of this process, from before they are born: the lock is held while a descriptor of
 * theirs is made or closed, and around every fork(), whose new process closes all of them. So no
 * process that fork() makes keeps the end of a pipe whose closing somebody waits for.
 * (posix_spawn() and vfork() know no such handlers; what they start loses the pipes at its
 * execve().)
 *
 * Who holds the lock takes no other and calls no fork(). But who holds another lock may take this
 * one, in any call; and if a fork handler takes that lock, it must do so before ours takes this.
 * Handlers of before fork() run in the reverse of the order in which they were registered, so ours
 * are registered when this library is loaded. That is too late where it is loaded late, by dlopen()
 * or as part of a Python extension: a lock that an earlier handler takes must not be held in a call
 * there while another thread forks, or the two may wait for each other without end. (glibc before
 * 2.36 has a lock of its own, which it holds meanwhile.)
 *
 * Signals are blocked while this lock is held: a handler may fork, too.
 */
void lock_children(void);
void unlock_children(void);

/* Registers what runs at every fork(), once in a process; it is done already, unless there was no
 * memory when the library was loaded. Returns an errno. */
int register_fork_handlers(void);

/* fork(), with signals held and *child in the list: the one that the new process is. */
pid_t fork_newborn(struct child *child);

void close_descriptor(int *fd);

/* With the lock held: into the list, and out of it with all descriptors closed. */
void remember_child(struct child *child);
void forget_child(struct child *child);

/* ---- ending.c's, with the lock held ---- */

/* Collects those children that could not be collected when they were killed, if they can be now.
 * Waits for nothing. */
void collect_late_children(void);

/* In a new process, whose children they are not. */
void forget_late_children(void);

#endif
