/* Child processes that use the same per-CPU data: of vfork(), which borrow their parent's memory and thread pointer
 * while the kernel keeps no registration for them, and of fork(), which inherit the registration. A child does complete
 * operations only, and holds no node when it ends. */
#define _GNU_SOURCE
#include <errno.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rseq/own_registration.h"
#include "verify/random.h"
#include "verify/stress/stress.h"
#include "verify/supervised.h"

#define PARENT_BURST 32
#define CHILD_MICROSECONDS 200
#define OWN_COUNTERS 4
#define OWN_ADDS 256

/* Both kinds of parents use the subject, too, and are interrupted by signals. */
static struct stress_writer *begin_as_parent(struct stress_writer **writers)
{
    stress_enroll(writers[0]);
    stress_enter(writers[0]);
    stress_disturb(writers[0]);
    return writers[0];
}

static void end_as_parent(struct stress_writer *parent)
{
    stress_calm();
    stress_leave(parent);
}

/* Waits for a child, if there is one, and counts it. */
static void note_end(pid_t child, enum stress_kind kind, uint64_t *count)
{
    int status = 0;
    if (child <= 0)
        return;
    ++*count;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    if (!WIFSIGNALED(status))
        return;
    int32_t none = 0;
    if (__atomic_compare_exchange_n(&stress->crash.signal, &none, WTERMSIG(status), 0, __ATOMIC_ACQ_REL,
                                    __ATOMIC_RELAXED))
        stress->crash.kind = kind;
    __atomic_store_n(&stress->stop, 1, __ATOMIC_RELAXED);
}

/* Not inlined: the child may change no variable of the function that called vfork(). Two times of three it moves to
 * another CPU: the area that it finds still has the parent's. */
static __attribute__((noinline)) void in_vfork_child(struct stress_writer *writer, pid_t parent)
{
    die_with(parent);
    unsigned here = cpu_now(), choice = random_next(&writer->book[STRESS_BODY].random);
    if (choice % 3)
        cpu_pin(0, cpu_other(here, choice / 3));
    stress_enter(writer);
    stress_work_for(writer, CHILD_MICROSECONDS);
    stress_leave(writer);
}

void *stress_vforking(void *writers)
{
    struct stress_writer *parent = begin_as_parent(writers);
    struct stress_writer *child_writer = ((struct stress_writer **)writers)[1];
    pid_t pid = getpid();
    while (!stress_stopped()) {
        stress_burst(parent, PARENT_BURST);
        pid_t child = vfork();
        if (child == 0) {
            in_vfork_child(child_writer, pid);
            _exit(0);
        }
        note_end(child, STRESS_VFORK_CHILD, &stress->vfork_children);
    }
    end_as_parent(parent);
    return NULL;
}

/* A child whose data are its own is alone with them: every add must be there when it has returned. */
static void work_on_own_data(void)
{
    uint64_t before[OWN_COUNTERS];
    for (unsigned i = 0; i < OWN_COUNTERS; i++)
        before[i] = subject.sum(i);
    for (unsigned i = 0; i < OWN_ADDS; i++)
        subject.add(i % OWN_COUNTERS, 1);
    for (unsigned i = 0; i < OWN_COUNTERS; i++) {
        uint64_t want = OWN_ADDS / OWN_COUNTERS, got = subject.sum(i) - before[i];
        stress->own_lost += got < want ? want - got : 0;
        stress->own_doubled += got > want ? got - want : 0;
    }
    stress->own_attempted += OWN_ADDS;
}

/* Every second child unregisters what it inherited. */
static void in_fork_child(struct stress_writer *writer, pid_t parent)
{
    die_with(parent);
    stress_be_child();
    if (writer->entered % 2)
        unregister_area();
    stress_enter(writer);
    if (stress->sharing == STRESS_SHARED)
        stress_work_for(writer, CHILD_MICROSECONDS);
    else
        work_on_own_data();
    stress_leave(writer);
}

void *stress_forking(void *writers)
{
    struct stress_writer *parent = begin_as_parent(writers);
    struct stress_writer *child_writer = ((struct stress_writer **)writers)[1];
    pid_t pid = getpid();
    while (!stress_stopped()) {
        pid_t child = fork();
        if (child == 0) {
            in_fork_child(child_writer, pid);
            _exit(0);
        }
        stress_burst(parent, PARENT_BURST); /* beside the child */
        note_end(child, STRESS_FORK_CHILD, &stress->fork_children);
    }
    end_as_parent(parent);
    return NULL;
}
