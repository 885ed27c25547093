/* A library that registers an rseq area of its own in an IFUNC resolver of a static program, before libc does. Prints
 * what rseq(2) answered, __rseq_size, and cpu_id in the area that libc would have registered. */
#include <stdint.h>
#include <stdio.h>
#include <sys/rseq.h>
#include <sys/syscall.h>

#include "arch.h"

static struct rseq area __attribute__((aligned(64)));
static long answer = 1;

static void target(void)
{
}

static void (*resolve(void))(void)
{
    answer = rsm_syscall(SYS_rseq, (long)&area, 32, 0, RSEQ_SIG, 0, 0);
    return target;
}

void indirect(void) __attribute__((ifunc("resolve")));

int main(void)
{
    indirect();
    const struct rseq *libcs = (const struct rseq *)((const char *)__builtin_thread_pointer() + __rseq_offset);
    printf("%ld %u %d\n", answer, __rseq_size, (int)libcs->cpu_id);
    return 0;
}
