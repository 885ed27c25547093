/* process.vfork_child. Fired in the child of vfork(), which borrows the parent's memory, stack and thread pointer, and
 * so its rseq area, while the kernel keeps no registration for it. The child moves to another CPU: the area still tells
 * the parent's. Async-signal-safe libc may be used. */
#define _GNU_SOURCE
#include <sys/wait.h>
#include <unistd.h>

#include "cpu_pair.h"
#include "probe_libc.h"
#include "steps.h"

/* Not inlined: the child may change no variable of the function that called vfork(). */
static __attribute__((noinline)) void in_child(const struct rsm_cpu_pair *pair)
{
    if (rsm_move_there(pair))
        RSM_PROBE_LIBC(process, vfork_child);
}

void rsm_process_vfork_child(void)
{
    struct rsm_cpu_pair pair = rsm_cpu_pair_pin();
    pid_t child = vfork();
    if (child == 0) {
        in_child(&pair);
        _exit(0);
    }
    waitpid(child, NULL, 0);
    rsm_cpu_pair_unpin(&pair);
}
