/* Makes adds collide: two unregistered threads on two CPUs carry out the instruction that makes an add take effect, the
 * commit, at the same moment, and one of them began the add on the other's CPU. A fallback that reads the CPU and then
 * adds to that CPU's counter with a plain instruction loses adds only then, and by chance that is rare: a thread has to
 * be moved within a few instructions, and its one plain add has to meet another one.
 *
 * find_commit.c says which instruction it is. In each round a breakpoint stands on it:
 *
 *     STAYER, on CPU 0                                   MOVER
 *     ------------------------------------------------   --------------------------------------------------------
 *     writes a breakpoint over the commit                sleeps, bound to CPU 0
 *     round = r                              --------->  add: reads CPU 0's number, comes to the breakpoint
 *     sleeps                                             in the SIGTRAP handler: binds itself to CPU 1
 *     add: comes to the breakpoint           <---------  arrived[MOVER] = r
 *     in the SIGTRAP handler:                            spins
 *         writes the instruction back
 *         restored = r                       --------->  brings what it needs into CPU 1's caches
 *         spins                              <---------  warm = r
 *         takes 64 lines into CPU 0's cache              spins
 *         go = r                             --------->  resumes: stores to the 64 lines, so that its store buffer
 *         waits a random time                            waits for CPU 0; then
 *         resumes                                          |  the commit: a plain add loads the counter at once,
 *     the commit: loads and stores the counter             |  and its store waits behind the 64 others
 *     done[STAYER] = r                                   done[MOVER] = r
 *     sleeps until done[MOVER] == r                      sleeps until done[STAYER] == r
 *
 * Where the STAYER's store comes between the MOVER's load and its store, one of the two adds is lost, unless the commit
 * is atomic or the two add to different words. A thread that waits spins, where it has to continue within nanoseconds,
 * and sleeps on a futex elsewhere; it stops waiting when the other one is done with the round without having come
 * (there was no breakpoint on its way). A STAYER that does not come although the MOVER waits at the commit is kept out
 * by something like a lock: then nothing can collide (`alone`). */
#define _GNU_SOURCE
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "arch/x86_64_resume.h"
#include "rseq/own_registration.h"
#include "verify/random.h"
#include "verify/seconds.h"
#include "verify/stress/stress.h"
#include "verify/supervised.h"

#define ENOUGH 300      /* collisions: of two plain adds that collide, one in twenty is lost */
#define START_SHORT 600 /* time stamp ticks */
#define START_LONG 3000
#define LINES 64 /* more than a store buffer holds */
#define SPINS 100000
#define PATIENCE_SECONDS 0.2
#define BREAKPOINT 0xcc
#define RETURN 0xc3
#define FXSAVE_SIZE 512

enum party { MOVER, STAYER, PARTIES };

static struct {
    uint8_t *commit;  /* the instruction that makes an add take effect */
    uint8_t original; /* its first byte */
    const uint8_t *nearest_return;
    uint32_t round, end, alone; /* end: the round after the last; alone: the STAYER does not come */
    uint32_t arrived[PARTIES], done[PARTIES], restored, warm, go; /* the last round in which it was so */
    struct stress_writer *writer[PARTIES];
} collision;

static __thread enum party party;
static struct resume_line line[LINES];
__asm__(RESUME_CODE);

/* Sleeps until one of the two words has the number of this round. A thread that slept gets a CPU at once when it is
 * woken, whatever else runs on this machine; one that yielded would be scheduled after the others. */
static void wait_for(uint32_t *word, const uint32_t *other, uint32_t round)
{
    const struct timespec limit = {0, 1000000}; /* for the other word, which is not waited on */
    uint32_t now;
    while ((now = __atomic_load_n(word, __ATOMIC_ACQUIRE)) != round &&
           __atomic_load_n(other, __ATOMIC_ACQUIRE) != round)
        rsm_syscall(RSM_SYS_FUTEX, (long)word, FUTEX_WAIT_PRIVATE, now, (long)&limit, 0, 0);
}

static void set(uint32_t *word, uint32_t round)
{
    __atomic_store_n(word, round, __ATOMIC_RELEASE);
    rsm_syscall(RSM_SYS_FUTEX, (long)word, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0);
}

/* Spins, so as to continue at once; yields now and then, because the other one may have no CPU. Returns 0 if that does
 * not come in time. */
static int watch_for(const uint32_t *word, const uint32_t *other, uint32_t round)
{
    double start = seconds_now();
    for (int spins = 1; __atomic_load_n(word, __ATOMIC_ACQUIRE) != round; spins++) {
        if (__atomic_load_n(other, __ATOMIC_ACQUIRE) == round)
            return 1;
        if (spins % SPINS)
            continue;
        sched_yield();
        if (seconds_now() - start > PATIENCE_SECONDS)
            return 0;
    }
    return 1;
}

/* Waits for a time that is different each round: how much later the MOVER's commit comes is not known, mostly a little.
 */
static void give_a_start(void)
{
    uint64_t start = __builtin_ia32_rdtsc();
    unsigned choice = random_next(&collision.writer[STAYER]->book[STRESS_BODY].random);
    uint64_t length = choice / 2 % (choice % 2 ? START_LONG : START_SHORT);
    while (__builtin_ia32_rdtsc() - start < length)
        ;
}

/* Takes all of the lines into this CPU's caches, so that a store to any of them takes the other CPU some time. */
static void own_lines(void)
{
    for (int i = 0; i < LINES; i++)
        *(volatile uint64_t *)&line[i].word = collision.round;
}

/* Brings what the mover needs into the caches of its new CPU, else the 64 stores would be done before the add begins:
 * its floating point state, the counter, and the code at the commit, which has just been written to. To load the code,
 * its nearest byte that is a return instruction is called. */
static void warm_up(const void *floating_point)
{
    for (unsigned i = 0; i < FXSAVE_SIZE / sizeof(uint64_t); i++)
        (void)((const volatile uint64_t *)floating_point)[i];
    subject.sum(STRESS_COLLISION_COUNTER);
    if (collision.nearest_return)
        ((void (*)(void))(uint64_t)collision.nearest_return)();
}

static const uint8_t *find_return(void)
{
    const uint64_t size = (uint64_t)sysconf(_SC_PAGESIZE);
    const uint8_t *page = (const uint8_t *)((uint64_t)collision.commit & ~(size - 1)), *found = NULL;
    for (const uint8_t *byte = page; byte < page + size; byte++)
        if (*byte == RETURN && (!found || byte <= collision.commit))
            found = byte;
        else if (*byte == RETURN && byte - collision.commit < collision.commit - found)
            found = byte;
    return found;
}

static void take_breakpoint_away(void)
{
    __atomic_store_n(collision.commit, collision.original, __ATOMIC_SEQ_CST);
}

/* The two columns of the time line between "comes to the breakpoint" and "resumes". */
static void on_breakpoint(int number, siginfo_t *information, void *context)
{
    mcontext_t *machine = &((ucontext_t *)context)->uc_mcontext;
    uint32_t round = collision.round;
    (void)number;
    (void)information;
    machine->gregs[REG_RIP] = (greg_t)(uint64_t)collision.commit; /* not behind the breakpoint */
    if (party == MOVER) {
        cpu_pin(0, cpu_number(1));
        set(&collision.arrived[MOVER], round);
        greg_t registers[NGREG];
        if (!watch_for(&collision.restored, &collision.done[STAYER], round)) {
            take_breakpoint_away();
            collision.alone = 1;
            return;
        }
        memcpy(registers, machine->gregs, sizeof(registers));
        warm_up(machine->fpregs);
        __atomic_store_n(&collision.warm, round, __ATOMIC_RELEASE);
        watch_for(&collision.go, &collision.done[STAYER], round);
        resume_registers(registers, machine->fpregs, line, LINES);
    }
    take_breakpoint_away();
    __atomic_store_n(&collision.restored, round, __ATOMIC_RELEASE);
    watch_for(&collision.warm, &collision.done[MOVER], round);
    own_lines();
    __atomic_store_n(&collision.go, round, __ATOMIC_RELEASE);
    give_a_start();
    resume_registers(machine->gregs, machine->fpregs, NULL, 0);
}

static void collide(uint32_t round)
{
    struct stress_writer *writer = collision.writer[party];
    stress_add(&writer->book[STRESS_BODY], STRESS_COLLISION_COUNTER);
    set(&collision.done[party], round);
}

static void *move(void *writer)
{
    party = MOVER;
    unregister_area();
    stress_enter(writer);
    for (uint32_t round = 1;; round++) {
        cpu_pin(0, cpu_number(0));
        wait_for(&collision.round, &collision.end, round);
        if (collision.end)
            break;
        collide(round);
        wait_for(&collision.done[STAYER], &collision.end, round);
    }
    stress_leave(writer);
    return NULL;
}

/* On a busy machine they may take longer; two threads that never meet, not that long. */
static int enough(double elapsed, double seconds)
{
    double limit = 3 * seconds + (stress->collisions ? EXTRA_SECONDS / 2 : 1);
    stress->deadline = seconds_now() + stress->seconds + STRESS_HANG_SECONDS;
    return collision.alone || (elapsed >= seconds && (stress->collisions >= ENOUGH || elapsed >= limit));
}

/* Runs the rounds, on CPU 0. */
static void stay(double seconds)
{
    double start = seconds_now();
    party = STAYER;
    cpu_pin(0, cpu_number(0));
    for (uint32_t round = 1; !enough(seconds_now() - start, seconds); round++) {
        __atomic_store_n(collision.commit, BREAKPOINT, __ATOMIC_SEQ_CST);
        set(&collision.round, round);
        wait_for(&collision.arrived[MOVER], &collision.done[MOVER], round);
        collide(round);
        wait_for(&collision.done[MOVER], &collision.done[MOVER], round);
        stress->collisions += collision.arrived[MOVER] == round && collision.go == round;
    }
    take_breakpoint_away();
    set(&collision.end, collision.round + 1);
}

struct stay {
    struct stress_writer *writer;
    double seconds;
};

static void *stay_beside_a_mover(void *argument)
{
    struct stay *plan = argument;
    struct sigaction action = {.sa_sigaction = on_breakpoint, .sa_flags = SA_SIGINFO | SA_NODEFER};
    pthread_t mover;
    sigemptyset(&action.sa_mask);
    sigaction(SIGTRAP, &action, NULL);
    unregister_area();
    stress_enter(plan->writer);
    if (pthread_create(&mover, NULL, move, collision.writer[MOVER]) == 0) {
        stay(plan->seconds);
        pthread_join(mover, NULL);
    }
    stress_leave(plan->writer);
    return NULL;
}

static int in_another_thread(void *(*body)(void *), void *argument)
{
    pthread_t thread;
    return pthread_create(&thread, NULL, body, argument) == 0 && pthread_join(thread, NULL) == 0;
}

/* The breakpoint is written into this process's copy of the subject's code. */
static int set_writable(int writable)
{
    uint64_t size = (uint64_t)sysconf(_SC_PAGESIZE), page = (uint64_t)collision.commit & ~(size - 1);
    return mprotect((void *)page, size, PROT_READ | PROT_EXEC | (writable ? PROT_WRITE : 0)) == 0;
}

static const char *obstacle(void)
{
    if (stress->cpus < 2)
        return "only one CPU is allowed here";
    collision.commit = stress_find_commit(collision.writer[MOVER]);
    if (!collision.commit)
        return "no single instruction makes an add take effect";
    stress->collision_commit = stress_subject_offset((uint64_t)collision.commit);
    if (!stress->collision_commit)
        return "what makes an add take effect is not the subject's code";
    if (!set_writable(1))
        return "the subject's code may not be written to here";
    return NULL;
}

void stress_collide(double seconds)
{
    struct sigaction before;
    for (int i = 0; i < PARTIES; i++)
        collision.writer[i] = stress_writer_new(STRESS_COLLIDING);
    sigaction(SIGTRAP, NULL, &before);
    const char *reason = obstacle();
    if (!reason) {
        struct stay plan = {collision.writer[STAYER], seconds};
        uint64_t start = subject.sum(STRESS_COLLISION_COUNTER), added;
        collision.original = *collision.commit;
        collision.nearest_return = find_return();
        in_another_thread(stay_beside_a_mover, &plan);
        set_writable(0);
        if (collision.alone)
            reason = "while one thread is there no other one comes, as with a lock";
        added = collision.writer[MOVER]->book[STRESS_BODY].adds + collision.writer[STAYER]->book[STRESS_BODY].adds - 2;
        stress->collisions_lost = (int64_t)(added - (subject.sum(STRESS_COLLISION_COUNTER) - start));
    }
    sigaction(SIGTRAP, &before, NULL);
    snprintf(stress->collisions_reason, sizeof(stress->collisions_reason), "%s", reason ? reason : "");
}
