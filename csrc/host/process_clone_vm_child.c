/* process.clone_vm_child. Fired in the child of clone(CLONE_VM) without a TLS block of its own: it shares the parent's
 * rseq area while the parent runs on, and the kernel keeps no registration for it. The child moves to another CPU.
 * Async-signal-safe libc may be used. */
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/wait.h>

#include "cpu_pair.h"
#include "probe_libc.h"
#include "steps.h"

static uint8_t stack[256 * 1024] __attribute__((aligned(16)));

static int start(void *argument)
{
    const struct rsm_cpu_pair *pair = argument;
    if (rsm_move_there(pair))
        RSM_PROBE_LIBC(process, clone_vm_child);
    return 0;
}

void rsm_process_clone_vm_child(void)
{
    struct rsm_cpu_pair pair = rsm_cpu_pair_pin();
    pid_t child = clone(start, stack + sizeof(stack), CLONE_VM | SIGCHLD, &pair);
    if (child > 0)
        waitpid(child, NULL, 0);
    rsm_cpu_pair_unpin(&pair);
}
