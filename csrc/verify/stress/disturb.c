/* Disturbs the writers: sends signals to them, and moves them to other CPUs. Both make the kernel abort critical
 * sections, and interrupt threads in the middle of the fallback. */
#define _GNU_SOURCE
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "arch.h"
#include "verify/random.h"
#include "verify/stress/stress.h"

#define SIGNALS_IN_A_ROW 4
#define PAUSE_NANOSECONDS 20000 /* so that the workers run in between */

#define SEED 0x9e3779b97f4a7c15u

/* The thread of a writer drawn at random; 0 where it has none now. A child is not a thread of this process. */
static int draw_tid(uint64_t *random)
{
    const struct stress_writer *writer = &stress->writer[random_next(random) % stress->writers];
    int child = writer->kind == STRESS_VFORK_CHILD || writer->kind == STRESS_FORK_CHILD || writer->kind == STRESS_MAIN;
    return child ? 0 : (int)__atomic_load_n(&writer->tid, __ATOMIC_RELAXED);
}

static int calm(void)
{
    return (int)__atomic_load_n(&stress->calm, __ATOMIC_RELAXED);
}

void *stress_signals(void *unused)
{
    const struct timespec pause = {0, PAUSE_NANOSECONDS};
    uint64_t random = SEED;
    pid_t pid = getpid();
    (void)unused;
    while (!calm()) {
        for (int i = 0; i < SIGNALS_IN_A_ROW; i++) {
            int tid = draw_tid(&random), number = random_next(&random) % 2 ? SIGUSR1 : SIGUSR2;
            if (tid && rsm_syscall(RSM_SYS_TGKILL, pid, tid, number, 0, 0, 0) == 0)
                stress->signals_sent++;
        }
        nanosleep(&pause, NULL);
    }
    return NULL;
}

void *stress_migrations(void *unused)
{
    const struct timespec pause = {0, PAUSE_NANOSECONDS};
    uint64_t random = SEED + 1;
    (void)unused;
    while (!calm()) {
        int tid = draw_tid(&random);
        unsigned choice = random_next(&random);
        if (!tid)
            continue;
        if (choice % 4 == 0)
            cpu_unpin(tid);
        else
            cpu_pin(tid, cpu_number(choice / 4));
        stress->affinities_set++;
        nanosleep(&pause, NULL);
    }
    for (uint32_t i = 0; i < stress->writers; i++)
        if (stress->writer[i].kind != STRESS_VFORK_CHILD && stress->writer[i].kind != STRESS_FORK_CHILD)
            cpu_unpin((int)stress->writer[i].tid);
    return NULL;
}
