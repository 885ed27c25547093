/* Runs work that may crash or hang in a child process, and leaves nothing running behind. */
#ifndef RSM_VERIFY_SUPERVISED_H
#define RSM_VERIFY_SUPERVISED_H

struct supervised {
    int hung;   /* the work did not end within its limit, and was killed */
    int signal; /* what killed it, 0 if nothing did */
    int status; /* its exit status */
};

/* How many seconds longer than it was asked to a work may go on where it has not done enough by then: on a machine that
 * others keep busy. */
#define EXTRA_SECONDS 10.0

/* Calls work() in a child process and waits until the child, and every process that it left, is gone. `deadline`
 * (seconds_now()) is when it counts as hung; being in shared memory, it may be put off by the work. */
struct supervised supervise(void (*work)(void), const volatile double *deadline);

/* To be called first in every child of the work's: it dies with the thread that made it. */
void die_with(int parent);

#endif
