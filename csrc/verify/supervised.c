/* Runs work that may crash or hang in a child process. The supervisor becomes the reaper of all processes that the work
 * leaves (prctl(2), PR_SET_CHILD_SUBREAPER); children of the work die with the thread that made them
 * (PR_SET_PDEATHSIG).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "verify/seconds.h"
#include "verify/supervised.h"

#define SUPERVISOR_MARGIN 20 /* seconds beyond the last deadline; then the supervisor itself is ended by SIGALRM */

void die_with(int parent)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) /* it died before that was asked for */
        _exit(0);
}

static pid_t start(void (*work)(void))
{
    pid_t parent = getpid(), child = fork();
    if (child == 0) {
        die_with(parent);
        work();
        _exit(0);
    }
    return child;
}

/* Returns whether the child ended in time; *status is how. */
static int wait_until(pid_t child, const volatile double *deadline, int *status)
{
    const struct timespec pause = {0, 2000000};
    pid_t gone;
    while ((gone = waitpid(child, status, WNOHANG)) == 0 && seconds_now() < *deadline)
        nanosleep(&pause, NULL);
    return gone == child;
}

struct supervised supervise(void (*work)(void), const volatile double *deadline)
{
    struct supervised outcome = {0, 0, 0};
    int status = 0;
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* all of it dies with the driver */
    alarm((unsigned)(*deadline - seconds_now() + EXTRA_SECONDS) + SUPERVISOR_MARGIN);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    pid_t child = start(work);
    if (child < 0) {
        outcome.status = 127;
        return outcome;
    }
    if (!wait_until(child, deadline, &status)) {
        outcome.hung = 1;
        kill(child, SIGKILL);
        waitpid(child, &status, 0);
    }
    while (waitpid(-1, NULL, 0) > 0 || errno == EINTR)
        ;
    outcome.signal = WIFSIGNALED(status) && !outcome.hung ? WTERMSIG(status) : 0;
    outcome.status = WIFEXITED(status) ? WEXITSTATUS(status) : 0;
    return outcome;
}
