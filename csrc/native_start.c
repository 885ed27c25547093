/* Starts a program that is traced from its execve(2) on, for Python. Part of the extension module.
 *
 *     driver                                 child
 *     fork()                                 waits at the gate, a pipe
 *     PTRACE_SEIZE                           ...
 *     writes to the gate                     is on its way: resets signals and descriptors
 *     waits for the other pipe to close      execve() closes the pipe, then stops: PTRACE_EVENT_EXEC
 *     returns; the stop is not waited for    or it failed: writes errno into the pipe
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "native.h"
#include "tracer/stop.h"

/* In the child: executes the program as a shell would, with nothing that the driver ignores or blocks. Returns errno.
 */
static int become(const char *path, char **arguments, char **environment, int output)
{
    const struct rlimit no_core = {0, 0};
    sigset_t none;
    sigemptyset(&none);
    for (int number = 1; number < NSIG; number++)
        signal(number, SIG_DFL);
    setrlimit(RLIMIT_CORE, &no_core);
    int nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (nothing < 0 || dup2(nothing, 0) < 0 || dup2(output, 1) < 0 || dup2(output, 2) < 0)
        return errno;
    sigprocmask(SIG_SETMASK, &none, NULL);
    execve(path, arguments, environment);
    return errno;
}

/* Delivers the signal that the child has stopped for. Its stop at the exec is left for the driver to wait for. */
static void deliver_signal(int child)
{
    siginfo_t stop = {0};
    int how = WSTOPPED | WNOHANG | __WALL;
    if (waitid(P_PID, (id_t)child, &stop, how | WNOWAIT) != 0 || !stop.si_pid ||
        stop.si_status >> 8 == PTRACE_EVENT_EXEC)
        return;
    if (waitid(P_PID, (id_t)child, &stop, how) == 0 && stop.si_pid)
        ptrace(PTRACE_CONT, child, 0, stop.si_status >> 8 ? 0L : (long)stop.si_status);
}

/* Waits until the exec succeeded, which closes the pipe, or failed. A signal that stops the task before is delivered.
 * Returns 0 or errno. */
static int wait_for_exec(int child, int problem)
{
    struct pollfd wait = {.fd = problem, .events = POLLIN};
    int error = 0;
    while (poll(&wait, 1, 10) <= 0)
        deliver_signal(child);
    return read(problem, &error, sizeof(error)) == sizeof(error) ? error : 0;
}

static void wait_at_gate(int gate, int parent)
{
    char go;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setpgid(0, 0);
    if (getppid() != parent || read(gate, &go, 1) != 1)
        _exit(126);
}

/* Kills and waits for a child that did not become the program. It stops at its exit first, PTRACE_EVENT_EXIT. */
static void end(int child)
{
    kill(child, SIGKILL);
    while (waitpid(child, NULL, __WALL) == child)
        ptrace(PTRACE_CONT, child, 0, 0);
}

int rsm_trace_start(const char *path, char **arguments, char **environment, int output, int *error, int *stage)
{
    int gate[2] = {-1, -1}, problem[2] = {-1, -1}, parent = getpid(), child = -1;
    *stage = 0;
    if (pipe2(gate, O_CLOEXEC) == 0 && pipe2(problem, O_CLOEXEC) == 0)
        child = fork();
    if (child == 0) {
        close(gate[1]); /* so that the driver's death opens the gate, with nothing to read */
        wait_at_gate(gate[0], parent);
        int wrong = become(path, arguments, environment, output);
        _exit(write(problem[1], &wrong, sizeof(wrong)) == sizeof(wrong) ? 127 : 126);
    }
    *error = child < 0 ? errno
                       : rsm_error_of(ptrace(PTRACE_SEIZE, child, 0,
                                             RSM_PTRACE_FOLLOW | PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEEXIT));
    close(problem[1]);
    if (*error == 0 && write(gate[1], "", 1) == 1) {
        *stage = 1;
        *error = wait_for_exec(child, problem[0]);
    }
    close(gate[0]);
    close(gate[1]);
    close(problem[0]);
    if (*error != 0 && child > 0)
        end(child);
    return *error == 0 ? child : -1;
}
