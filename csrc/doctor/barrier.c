/* Finds whether membarrier(2) aborts critical sections, as librseq's rseq_fence and tcmalloc need it. A thread on
 * another CPU spins in a critical section; after a barrier it must have been aborted at once, and without one it mostly
 * continues. MEMBARRIER_CMD_QUERY does not tell it: user-mode emulators pass it to a kernel that does not know of their
 * guests' critical sections. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>

#include "doctor/report.h"
#include "rseq/allowed_cpus.h"
#include "rseq/own_registration.h"

#define QUERY 0
#define PRIVATE_EXPEDITED_RSEQ (1 << 7) /* Linux 5.10, commit 2a36ab717e8f */
#define REGISTER_PRIVATE_EXPEDITED_RSEQ (1 << 8)
#define ROUNDS 10
#define PATIENCE 1000000 /* nanoseconds; an interrupt between CPUs takes a few thousand, but the CPU may be busy */

static union {
    struct rsm_rseq_area area;
    uint8_t room[512];
} own __attribute__((aligned(512))) = {.area = {.cpu_id = RSM_CPU_ID_UNINITIALIZED}};
static uint32_t release;
static unsigned entered, left, stop;
static unsigned aborted;

static int barrier(int command)
{
    return (int)syscall(SYS_membarrier, command, 0, 0) < 0 ? errno : 0;
}

static struct rsm_rseq_area *registered_area(void)
{
    struct rsm_registration registration;
    int error;
    rsm_registration_find(&registration);
    if (rsm_query_area(registration.area, &error))
        return registration.area;
    return rsm_rseq(&own, RSM_RSEQ_ORIGINAL_SIZE, 0, RSM_RSEQ_SIGNATURE) == 0 ? &own.area : NULL;
}

static void *spin(void *unused)
{
    cpu_pin(0, cpu_number(1));
    struct rsm_rseq_area *area = registered_area();
    struct rsm_section_range range;
    for (unsigned round = 1; area && !__atomic_load_n(&stop, __ATOMIC_ACQUIRE); round++) {
        __atomic_store_n(&entered, round, __ATOMIC_RELEASE);
        if (rsm_section_spin(area, &range, &release) == RSM_COMMIT_ABORTED)
            __atomic_add_fetch(&aborted, 1, __ATOMIC_ACQ_REL);
        __atomic_store_n(&left, round, __ATOMIC_RELEASE);
        while (__atomic_load_n(&release, __ATOMIC_ACQUIRE))
            sched_yield();
    }
    __atomic_store_n(&stop, 2, __ATOMIC_RELEASE);
    return unused;
}

/* Returns whether the count of aborts changed within `patience` nanoseconds. */
static int wait_for_abort(unsigned before, long patience)
{
    struct timespec start, now;
    clock_gettime(CLOCK_MONOTONIC, &start);
    do {
        clock_gettime(CLOCK_MONOTONIC, &now);
        if (__atomic_load_n(&aborted, __ATOMIC_ACQUIRE) != before)
            return 1;
    } while ((now.tv_sec - start.tv_sec) * 1000000000 + now.tv_nsec - start.tv_nsec < patience);
    return 0;
}

/* Returns whether the spinning thread was aborted in a round with a membarrier command (0: without). */
static int was_aborted(int command)
{
    unsigned round = __atomic_load_n(&entered, __ATOMIC_ACQUIRE), before = __atomic_load_n(&aborted, __ATOMIC_ACQUIRE);
    int answer = wait_for_abort(before, 20000); /* `entered` is set just before the section is */
    if (command)
        barrier(command);
    answer = wait_for_abort(before, answer ? 0 : PATIENCE);
    __atomic_store_n(&release, 1, __ATOMIC_RELEASE);
    while (__atomic_load_n(&left, __ATOMIC_ACQUIRE) < round)
        sched_yield();
    __atomic_store_n(&release, 0, __ATOMIC_RELEASE);
    while (__atomic_load_n(&entered, __ATOMIC_ACQUIRE) == round && __atomic_load_n(&stop, __ATOMIC_ACQUIRE) != 2)
        sched_yield();
    return answer;
}

static void watch_another_cpu(void)
{
    pthread_t thread;
    int with = 0, without = 0, rounds = 0;
    cpu_pin(0, cpu_number(0));
    if (pthread_create(&thread, NULL, spin, NULL) != 0)
        return;
    while (!__atomic_load_n(&entered, __ATOMIC_ACQUIRE) && __atomic_load_n(&stop, __ATOMIC_ACQUIRE) != 2)
        sched_yield();
    for (; rounds < ROUNDS && __atomic_load_n(&stop, __ATOMIC_ACQUIRE) != 2; rounds++) {
        without += was_aborted(0);
        with += was_aborted(PRIVATE_EXPEDITED_RSEQ);
    }
    report("barrier", "aborted_with", "%d", with);
    report("barrier", "aborted_without", "%d", without);
    report("barrier", "rounds", "%d", rounds);
    _exit(0);
}

int main(void)
{
    long query = syscall(SYS_membarrier, QUERY, 0, 0);
    report("barrier", "query", "%ld", query < 0 ? -(long)errno : query);
    report("barrier", "register", "%d", barrier(REGISTER_PRIVATE_EXPEDITED_RSEQ));
    int error = barrier(PRIVATE_EXPEDITED_RSEQ);
    report("barrier", "command", "%d", error);
    if (!error && cpus_find() > 1)
        watch_another_cpu();
    return 0;
}
