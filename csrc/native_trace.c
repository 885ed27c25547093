/* The driver's own ptrace(2): it looks at the tasks of a process and lets them go. Part of Python's extension module.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "native.h"
#include "arch/x86_64_ptrace.h"

/* Linux 4.4, commit f8e529ed941b; Linux 5.3, commit 201766a20e30; Linux 5.13, commit 90f093fa8ea4; libc headers may be
 * older. */
#define REQUEST_SECCOMP_GET_FILTER 0x420c
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

int rsm_trace_watch(int tid, uint64_t address)
{
    return rsm_task_watch(tid, address);
}

int rsm_trace_watch_hit(int tid, int *hit)
{
    siginfo_t cause = {0};
    int error = error_of(ptrace(PTRACE_GETSIGINFO, tid, 0, &cause));
    *hit = !error && cause.si_signo == SIGTRAP && cause.si_code == TRAP_HWBKPT;
    return error;
}

int rsm_trace_filter(int tid, unsigned int which, struct rsm_filter_instruction *program, unsigned int room,
                     unsigned int *count)
{
    long length = ptrace(REQUEST_SECCOMP_GET_FILTER, tid, (long)which, NULL);
    if (length < 0)
        return errno;
    if (length > (long)room)
        return E2BIG;
    *count = (unsigned int)length;
    return error_of(ptrace(REQUEST_SECCOMP_GET_FILTER, tid, (long)which, program));
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

int rsm_trace_step(int tid)
{
    return error_of(ptrace(PTRACE_SINGLESTEP, tid, 0, 0));
}

int rsm_trace_move(int tid, uint64_t program_counter)
{
    return rsm_task_move(tid, program_counter);
}

int rsm_trace_signal(int pid, int tid, int signal)
{
    return error_of(syscall(SYS_tgkill, pid, tid, signal));
}

int rsm_trace_read(int tid, uint64_t address, void *to, unsigned int size)
{
    struct iovec here = {to, size}, there = {(void *)(uintptr_t)address, size};
    ssize_t got = process_vm_readv(tid, &here, 1, &there, 1, 0);
    return got == (ssize_t)size ? 0 : got < 0 ? errno : EFAULT;
}

/* Not through /proc/TID/mem, which a kernel may keep from writing to code (proc_mem.restrict_foll_force, Linux 6.12).
 */
int rsm_trace_write(int tid, uint64_t address, const void *from, unsigned int size)
{
    const char *source = from;
    int error = 0;
    while (size && !error) {
        unsigned int part = size < sizeof(long) ? size : sizeof(long);
        errno = 0; /* -1 may be what lies there */
        long word = ptrace(PTRACE_PEEKDATA, tid, address, 0);
        if (errno)
            return errno;
        memcpy(&word, source, part);
        error = error_of(ptrace(PTRACE_POKEDATA, tid, address, word));
        source += part;
        address += part;
        size -= part;
    }
    return error;
}

static uint64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

static void describe_stop(const siginfo_t *found, struct rsm_stop *stop)
{
    siginfo_t cause = {0};
    struct rsm_trap trap;
    *stop = (struct rsm_stop){.tid = (uint32_t)found->si_pid, .signal = (uint32_t)found->si_status & 0x7f};
    if (found->si_code == CLD_EXITED || found->si_code == CLD_KILLED || found->si_code == CLD_DUMPED) {
        stop->ended = 1;
        stop->signal = found->si_code == CLD_EXITED ? 0 : stop->signal;
        return;
    }
    stop->event = (uint32_t)found->si_status >> 8;
    rsm_trap_read(found->si_pid, &trap);
    stop->program_counter = trap.program_counter;
    if (stop->event || stop->signal != SIGTRAP || ptrace(PTRACE_GETSIGINFO, found->si_pid, 0, &cause) != 0)
        return;
    stop->stepped = cause.si_code != SI_KERNEL; /* which is a breakpoint's (arch/x86/kernel/traps.c, do_int3_user) */
    stop->at_gate = !stop->stepped && trap.magic == RSM_GATE_MAGIC;
    stop->role = trap.argument[0];
}

/* Gives the processor up for a moment: the task that is waited for may need this very one. Where that cost much, other
 * programs want it, too, and whoever yields to them comes last again and again; one that sleeps does not. */
static void give_way(uint64_t passed)
{
    enum { BRISK = 300000, SLOW = 100000, NAPS = 50 };
    static unsigned int naps; /* that are still to come instead of yielding */
    const struct timespec brief = {0, 1000}, nap = {0, 50000};
    if (passed >= BRISK) {
        nanosleep(&nap, NULL);
    } else if (naps) {
        naps--;
        nanosleep(&brief, NULL);
    } else {
        uint64_t before = now();
        sched_yield();
        naps = now() - before > SLOW ? NAPS : 0;
    }
}

/* Looks again and again: most stops come within microseconds. */
static int await(idtype_t kind, int id, uint64_t nanoseconds, struct rsm_stop *stop)
{
    uint64_t start = now(), passed = 0;
    stop->tid = 0;
    for (;;) { /* the last look is behind the last pause, which may have been long */
        siginfo_t found = {0};
        if (waitid(kind, (id_t)id, &found, WSTOPPED | WEXITED | WNOHANG | __WALL) != 0)
            return errno;
        if (found.si_pid) {
            describe_stop(&found, stop);
            return 0;
        }
        if (passed >= nanoseconds)
            return 0;
        give_way(passed);
        passed = now() - start;
    }
}

int rsm_trace_await(int group, unsigned int microseconds, struct rsm_stop *stop)
{
    return await(P_PGID, group, (uint64_t)microseconds * 1000, stop);
}

static int is_among(uint64_t address, const uint64_t *stops, unsigned int count)
{
    for (unsigned int i = 0; i < count; i++)
        if (stops[i] == address)
            return 1;
    return 0;
}

int rsm_trace_walk(int tid, uint64_t armed, const uint64_t *stops, unsigned int stop_count, uint64_t *addresses,
                   unsigned int limit, unsigned int *count, unsigned int *end, struct rsm_stop *stop)
{
    const uint64_t patience = 1000000000;
    uint64_t before = 0, now_armed = 0;
    if (armed)
        rsm_trace_read(tid, armed, &before, sizeof(before));
    for (*count = 0; *count < limit;) {
        int error = rsm_trace_step(tid);
        if (!error)
            error = await(P_PID, tid, patience, stop);
        if (error)
            return error;
        *end = stop->tid ? RSM_WALK_STOPPED : RSM_WALK_SLEEPS;
        if (!stop->stepped || !stop->tid)
            return 0;
        addresses[(*count)++] = stop->program_counter;
        if (armed && rsm_trace_read(tid, armed, &now_armed, sizeof(now_armed)) == 0 && now_armed != before) {
            before = now_armed;
            *end = RSM_WALK_ARMED;
            if (now_armed)
                return 0;
        }
        *end = RSM_WALK_AT_STOP;
        if (is_among(stop->program_counter, stops, stop_count))
            return 0;
    }
    *end = RSM_WALK_LIMIT;
    return 0;
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
