/* Which instruction makes an add take effect: one add is single-stepped by its own thread, with the trap flag, and the
 * subject's sum is read after each step. For collide.c. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <ucontext.h>

#include "rseq/own_registration.h"
#include "verify/stress/stress.h"

#define STEPS_MAX 100000
#define TRAP_FLAG 0x100 /* of rflags: a debug exception after the next instruction (Intel SDM 3, 18.3.1.4) */

static struct {
    uint8_t *commit; /* null: not found */
    uint32_t steps;
    uint64_t at, sum; /* where the thread was one step before, and the sum then */
} stepped;

static void on_step(int number, siginfo_t *information, void *context)
{
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    uint64_t sum = subject.sum(STRESS_COLLISION_COUNTER);
    (void)number;
    (void)information;
    if (sum != stepped.sum)
        stepped.commit = (uint8_t *)stepped.at;
    stepped.sum = sum;
    stepped.at = (uint64_t)registers[REG_RIP];
    if (++stepped.steps >= STEPS_MAX)
        registers[REG_EFL] &= ~TRAP_FLAG;
}

static void add_in_steps(struct stress_book *book)
{
    stepped.sum = subject.sum(STRESS_COLLISION_COUNTER);
    __asm__ volatile("pushfq\n\torq %0, (%%rsp)\n\tpopfq" : : "i"(TRAP_FLAG) : "memory", "cc");
    subject.add(STRESS_COLLISION_COUNTER, 1);
    __asm__ volatile("pushfq\n\tandq %0, (%%rsp)\n\tpopfq" : : "i"(~TRAP_FLAG) : "memory", "cc");
    book->added[STRESS_COLLISION_COUNTER]++;
    book->adds++;
}

static void *find(void *writer)
{
    struct sigaction action = {.sa_sigaction = on_step, .sa_flags = SA_SIGINFO};
    unregister_area();
    stress_enter(writer);
    stress_add(&((struct stress_writer *)writer)->book[STRESS_BODY], STRESS_COLLISION_COUNTER);
    sigfillset(&action.sa_mask);
    sigaction(SIGTRAP, &action, NULL);
    add_in_steps(&((struct stress_writer *)writer)->book[STRESS_BODY]);
    stress->collision_unprotected = !kernel_has_area();
    stress_leave(writer);
    return NULL;
}

uint8_t *stress_find_commit(struct stress_writer *writer)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, find, writer) != 0 || pthread_join(thread, NULL) != 0)
        return NULL;
    return stepped.commit;
}
