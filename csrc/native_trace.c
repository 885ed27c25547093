/* The driver's own ptrace(2): it looks at the tasks of a process and lets them go. Part of Python's extension module.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "native.h"
#include "arch/x86_64_task.h"

/* Linux 5.3, commit 201766a20e30, and Linux 5.13, commit 90f093fa8ea4; libc headers may be older. */
#define REQUEST_GET_SYSCALL_INFO 0x420e
#define REQUEST_GET_RSEQ_CONFIGURATION 0x420f

#define FOLLOW_EVERYTHING                                                                                              \
    (PTRACE_O_EXITKILL | PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE |      \
     PTRACE_O_TRACEEXEC | PTRACE_O_TRACEEXIT)

/* struct ptrace_syscall_info, as far as it is read here. */
struct call_information {
    uint8_t side;
    uint8_t padding[3];
    uint32_t architecture;
    uint64_t instruction_pointer;
    uint64_t stack_pointer;
    union {
        uint64_t number;
        int64_t result;
    };
    uint64_t more[7];
};

static int error_of(long result)
{
    return result < 0 ? errno : 0;
}

int rsm_trace_hold(int tid)
{
    return error_of(ptrace(PTRACE_SEIZE, tid, 0, 0));
}

int rsm_trace_interrupt(int tid)
{
    return error_of(ptrace(PTRACE_INTERRUPT, tid, 0, 0));
}

int rsm_trace_go_on(int tid, int signal, int to_system_call)
{
    return error_of(ptrace(to_system_call ? PTRACE_SYSCALL : PTRACE_CONT, tid, 0, (long)signal));
}

int rsm_trace_release(int tid, int signal)
{
    return error_of(ptrace(PTRACE_DETACH, tid, 0, (long)signal));
}

int rsm_trace_registers(int tid, struct rsm_task *task)
{
    return rsm_task_registers(tid, &task->thread_pointer, &task->program_counter);
}

int rsm_trace_registration(int tid, struct rsm_kernel_area *registration)
{
    return error_of(ptrace(REQUEST_GET_RSEQ_CONFIGURATION, tid, sizeof(*registration), registration));
}

int rsm_trace_call(int tid, struct rsm_call *call)
{
    struct call_information information = {0};
    int error = error_of(ptrace(REQUEST_GET_SYSCALL_INFO, tid, sizeof(information), &information));
    call->side = information.side <= RSM_CALL_EXIT ? information.side : RSM_CALL_NONE;
    call->number = call->side == RSM_CALL_ENTRY ? information.number : 0;
    call->result = call->side == RSM_CALL_EXIT ? information.result : 0;
    return error;
}

int rsm_trace_message(int tid, uint64_t *message)
{
    unsigned long value = 0;
    int error = error_of(ptrace(PTRACE_GETEVENTMSG, tid, 0, &value));
    *message = value;
    return error;
}

int rsm_trace_break_at(int tid, uint64_t address)
{
    errno = 0; /* -1 may be what lies there */
    long word = ptrace(PTRACE_PEEKTEXT, tid, address, 0);
    if (errno)
        return errno;
    word = (long)(((unsigned long)word & ~(unsigned long)RSM_BREAKPOINT_MASK) | RSM_BREAKPOINT);
    return error_of(ptrace(PTRACE_POKETEXT, tid, address, word));
}

/* In the child: as a shell would start the program, with nothing that the driver ignores or blocks. Returns errno. */
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

/* The stop at its exec is left for the driver to see. */
static void hand_on_signal(int child)
{
    siginfo_t stop = {0};
    int how = WSTOPPED | WNOHANG | __WALL;
    if (waitid(P_PID, (id_t)child, &stop, how | WNOWAIT) != 0 || !stop.si_pid ||
        stop.si_status >> 8 == PTRACE_EVENT_EXEC)
        return;
    if (waitid(P_PID, (id_t)child, &stop, how) == 0 && stop.si_pid)
        ptrace(PTRACE_CONT, child, 0, stop.si_status >> 8 ? 0L : (long)stop.si_status);
}

/* Hears whether the exec failed: the pipe is closed by an exec, after which the task stops for the tracer. A signal
 * that stops the task before is handed on. */
static int hear(int child, int problem)
{
    struct pollfd wait = {.fd = problem, .events = POLLIN};
    int error = 0;
    while (poll(&wait, 1, 10) <= 0)
        hand_on_signal(child);
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

/* Kills and waits for a child that did not become the program. Its exit stop comes first. */
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
    *error = child < 0 ? errno : error_of(ptrace(PTRACE_SEIZE, child, 0, FOLLOW_EVERYTHING));
    close(problem[1]);
    if (*error == 0 && write(gate[1], "", 1) == 1) {
        *stage = 1;
        *error = hear(child, problem[0]);
    }
    close(gate[0]);
    close(gate[1]);
    close(problem[0]);
    if (*error != 0 && child > 0)
        end(child);
    return *error == 0 ? child : -1;
}
