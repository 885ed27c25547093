/* Runs work that may crash or hang in a child process, and leaves nothing running behind. */
#ifndef RSM_VERIFY_SUPERVISED_H
#define RSM_VERIFY_SUPERVISED_H

struct supervised {
    int hung;   /* the work did not end within its limit, and was killed */
    int signal; /* what killed it, 0 if nothing did */
    int status; /* its exit status */
};

/* Calls work() in a child process and waits until the child, and every process that it left, is gone. */
struct supervised supervise(void (*work)(void), double limit_seconds);

/* To be called first in every child of the work's: it dies with the thread that made it. */
void die_with(int parent);

#endif
