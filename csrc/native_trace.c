/* Requests of ptrace(2) to one task, for Python: seizing, restarting and detaching it, reading and writing its
 * registers, its memory and what the kernel keeps for it. Part of the extension module; waiting for stops is
 * native_wait.c, starting a program native_start.c, and why this is not csrc/tracer is said in tracer/stop.h. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "native.h"
#include "arch/x86_64_ptrace.h"
#include "tracer/stop.h"

/* Linux 4.4, commit f8e529ed941b; Linux 5.3, commit 201766a20e30; libc headers may be older. */
#define REQUEST_SECCOMP_GET_FILTER 0x420c
#define REQUEST_GET_SYSCALL_INFO 0x420e

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

int rsm_trace_hold(int tid)
{
    return rsm_error_of(ptrace(PTRACE_SEIZE, tid, 0, 0));
}

int rsm_trace_interrupt(int tid)
{
    return rsm_error_of(ptrace(PTRACE_INTERRUPT, tid, 0, 0));
}

int rsm_trace_go_on(int tid, int signal, int to_system_call)
{
    return rsm_error_of(ptrace(to_system_call ? PTRACE_SYSCALL : PTRACE_CONT, tid, 0, (long)signal));
}

int rsm_trace_listen(int tid)
{
    return rsm_error_of(ptrace(PTRACE_LISTEN, tid, 0, 0));
}

int rsm_trace_release(int tid, int signal)
{
    return rsm_error_of(ptrace(PTRACE_DETACH, tid, 0, (long)signal));
}

int rsm_trace_registers(int tid, struct rsm_task *task)
{
    return rsm_task_registers(tid, &task->thread_pointer, &task->program_counter);
}

int rsm_trace_registration(int tid, struct rsm_kernel_area *registration)
{
    return rsm_error_of(ptrace(RSM_PTRACE_GET_RSEQ_CONFIGURATION, tid, sizeof(*registration), registration));
}

int rsm_trace_call(int tid, struct rsm_call *call)
{
    struct call_information information = {0};
    int error = rsm_error_of(ptrace(REQUEST_GET_SYSCALL_INFO, tid, sizeof(information), &information));
    call->side = information.side <= RSM_CALL_EXIT ? information.side : RSM_CALL_NONE;
    call->number = call->side == RSM_CALL_ENTRY ? information.number : 0;
    call->result = call->side == RSM_CALL_EXIT ? information.result : 0;
    return error;
}

int rsm_trace_message(int tid, uint64_t *message)
{
    unsigned long value = 0;
    int error = rsm_error_of(ptrace(PTRACE_GETEVENTMSG, tid, 0, &value));
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
    int error = rsm_error_of(ptrace(PTRACE_GETSIGINFO, tid, 0, &cause));
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
    return rsm_error_of(ptrace(REQUEST_SECCOMP_GET_FILTER, tid, (long)which, program));
}

int rsm_trace_break_at(int tid, uint64_t address)
{
    errno = 0; /* -1 may be what lies there */
    long word = ptrace(PTRACE_PEEKTEXT, tid, address, 0);
    if (errno)
        return errno;
    word = (long)(((unsigned long)word & ~(unsigned long)RSM_BREAKPOINT_MASK) | RSM_BREAKPOINT);
    return rsm_error_of(ptrace(PTRACE_POKETEXT, tid, address, word));
}

int rsm_trace_step(int tid)
{
    return rsm_error_of(ptrace(PTRACE_SINGLESTEP, tid, 0, 0));
}

int rsm_trace_move(int tid, uint64_t program_counter)
{
    return rsm_task_move(tid, program_counter);
}

int rsm_trace_signal(int pid, int tid, int signal)
{
    return rsm_error_of(syscall(SYS_tgkill, pid, tid, signal));
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
        error = rsm_error_of(ptrace(PTRACE_POKEDATA, tid, address, word));
        source += part;
        address += part;
        size -= part;
    }
    return error;
}
