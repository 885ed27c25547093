/* Measures a subject's add and what it is compared with, for scripts/benchmarks/subject_speed.py. Prints a line of
 * nanoseconds an add for each round:
 *
 *   alone     the increment in inline assembly, in a loop: cpu_id is read each time
 *   inlined   the add of csrc/subject/split.h, compiled into this program, in a loop
 *   called    the increment alone, behind a call
 *   fast      the subject's add, called in its shared object, in a thread that libc registered
 *   getcpu    sched_getcpu() and an atomic add to that CPU's counter, in the same thread
 *   fallback  the subject's add, in a thread without an area
 *   getcpu    sched_getcpu() and the atomic add there */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define RSM_CHILDLESS
#include "subject/split.h"

#include "rseq/own_registration.h"
#include "verify/loaded_subject.h"

#define CACHE_LINE_SHIFT 6

static struct {
    uint64_t count;
    char rest[(1 << CACHE_LINE_SHIFT) - sizeof(uint64_t)];
} counter[RSM_CPU_MAX] __attribute__((aligned(1 << CACHE_LINE_SHIFT)));

static struct loaded_subject loaded;
static struct rsm_rseq_area *area;
static unsigned long times;

static __attribute__((noinline)) void alone(void)
{
    struct rsm_rseq_area *mine = area;
    for (unsigned long i = times; i > 0; i--)
        while (rsm_section_add_here(mine, &counter[0].count, CACHE_LINE_SHIFT, RSM_CPU_MAX, 1) != RSM_COMMIT_DONE)
            ;
}

static __attribute__((noinline)) void inlined(void)
{
    for (unsigned long i = times; i > 0; i--)
        rsm_split_counters_add(0, 1);
}

static __attribute__((noinline)) void increment(unsigned which, uint64_t n)
{
    while (rsm_section_add_here(area, &counter[0].count + which, CACHE_LINE_SHIFT, RSM_CPU_MAX, n) != RSM_COMMIT_DONE)
        ;
}

static __attribute__((noinline)) void called(void)
{
    void (*volatile function)(unsigned which, uint64_t n) = increment;
    void (*known)(unsigned which, uint64_t n) = function; /* so that the call stays one */
    for (unsigned long i = times; i > 0; i--)
        known(0, 1);
}

static __attribute__((noinline)) void subject(void)
{
    for (unsigned long i = times; i > 0; i--)
        loaded.add(0, 1);
}

static __attribute__((noinline)) void atomically(void)
{
    for (unsigned long i = times; i > 0; i--)
        __atomic_fetch_add(&counter[sched_getcpu()].count, 1, __ATOMIC_RELAXED);
}

static double measured(void (*what)(void))
{
    struct timespec start, end;
    clock_gettime(CLOCK_MONOTONIC, &start);
    what();
    clock_gettime(CLOCK_MONOTONIC, &end);
    return ((double)(end.tv_sec - start.tv_sec) * 1e9 + (double)(end.tv_nsec - start.tv_nsec)) / (double)times;
}

/* In a thread that unregisters its area first. */
static void *unregistered(void *results)
{
    double *result = results;
    unregister_area();
    result[0] = measured(subject);
    result[1] = measured(atomically);
    return NULL;
}

int main(int argc, char **argv)
{
    struct rsm_registration registration;
    unsigned long rounds = argc > 1 ? strtoul(argv[1], NULL, 10) : 10;
    times = argc > 2 ? strtoul(argv[2], NULL, 10) : 1000000;
    int found = loaded_subject_find(&loaded, RTLD_DEFAULT);
    rsm_registration_find(&registration);
    area = registration.area;
    if (!found || !rsm_user_registered(&registration)) {
        fprintf(stderr, "%s\n", found ? "libc has registered no area here" : "no subject is preloaded");
        return 1;
    }
    for (unsigned long round = 0; round < rounds; round++) {
        double result[7] = {
            measured(alone), measured(inlined), measured(called), measured(subject), measured(atomically), 0, 0};
        pthread_t thread;
        if (pthread_create(&thread, NULL, unregistered, result + 5) != 0 || pthread_join(thread, NULL) != 0)
            return 1;
        for (int i = 0; i < 7; i++)
            printf("%f%c", result[i], i < 6 ? ' ' : '\n');
    }
    return 0;
}
