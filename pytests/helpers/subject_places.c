/* Uses a subject in one of the places where that goes wrong easily, for test_subjects.py:
 *
 *   subject_places PLACE [SUBJECT.so]     the subject is preloaded, or loaded from the file by the place
 *
 * Compiled with OWN_VFORK, the program brings a vfork() of its own, so that nobody's is the subject's. Ends with 0 if
 * all was right, else says what was not. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "arch/x86_64_clone.h"
#include "host/cpu_pair.h"
#include "host/raw_thread.h"
#include "kernel_query.h"
#include "registration.h"
#include "subject.h"

#define COUNTER 7
#define EARLY_COUNTER 5 /* subject_early.c */

static struct {
    void (*add)(unsigned counter, uint64_t n);
    uint64_t (*sum)(unsigned counter);
    int (*path)(void);
    int (*enroll)(void); /* rsm_subject_register() */
    void *push;
} subject;

static const char *file;

static void find(void *object)
{
    *(void **)&subject.add = dlsym(object, "rsm_subject_add");
    *(void **)&subject.sum = dlsym(object, "rsm_subject_sum");
    *(void **)&subject.path = dlsym(object, "rsm_subject_path");
    *(void **)&subject.enroll = dlsym(object, "rsm_subject_register");
    subject.push = dlsym(object, "rsm_subject_push");
}

#define WANT(got, want)                                                                                                \
    do {                                                                                                               \
        unsigned long long got_ = (unsigned long long)(got), want_ = (unsigned long long)(want);                       \
        if (got_ != want_) {                                                                                           \
            printf("line %d: " #got ": got %llu, want %llu\n", __LINE__, got_, want_);                                 \
            fflush(stdout);                                                                                            \
            _exit(1);                                                                                                  \
        }                                                                                                              \
    } while (0)

/* Adds 1 and returns how. */
static int way(void)
{
    subject.add(COUNTER, 1);
    return subject.path();
}

/* Twice: the second time the answer of the first may be remembered. A list's first add may find its accumulator in the
 * shared stack. */
static void want_way(int want)
{
    int first = way();
    if (!subject.push || want != RSM_SUBJECT_FAST)
        WANT(first, want);
    WANT(way(), want);
}

static struct rsm_rseq_area *libc_area(void)
{
    struct rsm_registration registration;
    rsm_registration_find(&registration);
    return registration.area;
}

#ifdef OWN_VFORK
__asm__(".globl vfork\n\t"
        ".type vfork, @function\n"
        "vfork: popq %rdi\n\t"
        "movl $58, %eax\n\t"
        "syscall\n\t"
        "pushq %rdi\n\t"
        "ret\n\t"
        ".size vfork, . - vfork");
#endif

/* --- threads and signal handlers */

#define THREADS 4
#define TIMES 1000000

static pthread_barrier_t all_there;

static void *adding(void *unused)
{
    pthread_barrier_wait(&all_there);
    for (int i = 0; i < TIMES; i++)
        subject.add(COUNTER, 1);
    return unused;
}

static void *adding_enrolled(void *unused)
{
    WANT(subject.enroll(), 0);
    want_way(RSM_SUBJECT_FAST);
    return adding(unused);
}

static void start_and_join(void *(*const start[THREADS])(void *))
{
    pthread_t thread[THREADS];
    pthread_barrier_init(&all_there, NULL, THREADS);
    for (int i = 0; i < THREADS; i++)
        WANT(pthread_create(&thread[i], NULL, start[i], NULL), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
}

static void threads(void)
{
    start_and_join((void *(*[])(void *)){adding, adding, adding, adding});
    WANT(subject.sum(COUNTER), THREADS * TIMES);
}

static void enrolled(void)
{
    start_and_join((void *(*[])(void *)){adding, adding_enrolled, adding, adding_enrolled});
    want_way(RSM_SUBJECT_FALLBACK);
    WANT(subject.sum(COUNTER), THREADS * TIMES + 6);
}

static volatile unsigned long handled;

static void on_alarm(int unused)
{
    (void)unused;
    subject.add(COUNTER, 1);
    handled++;
}

static void handler(void)
{
    const struct itimerval often = {{0, 50}, {0, 50}}, never = {{0, 0}, {0, 0}};
    unsigned long added = 0;
    signal(SIGALRM, on_alarm);
    setitimer(ITIMER_REAL, &often, NULL);
    for (; handled < 2000; added++)
        subject.add(COUNTER, 1);
    setitimer(ITIMER_REAL, &never, NULL);
    WANT(subject.sum(COUNTER), added + handled);
}

/* --- children */

static void fork_child(void)
{
    int status;
    want_way(RSM_SUBJECT_FAST);
    pid_t child = fork();
    if (child == 0) {
        want_way(RSM_SUBJECT_FAST);
        WANT(subject.sum(COUNTER), 4);
        _exit(0);
    }
    WANT(waitpid(child, &status, 0), child);
    WANT(status, 0);
    want_way(RSM_SUBJECT_FAST);
    WANT(subject.sum(COUNTER), 4);
}

static struct rsm_cpu_pair pair;

/* Not inlined: the child of vfork() may change no variable of the function that called it. */
static __attribute__((noinline)) void in_child(int enroll)
{
    rsm_pin(pair.there);
    WANT(rsm_is_on(pair.there), 1);
    want_way(RSM_SUBJECT_FALLBACK);
    if (enroll) {
        WANT(subject.enroll(), 0);
        want_way(RSM_SUBJECT_FAST);
    }
}

static void vforked(int enroll)
{
    int status;
    pid_t child = vfork();
    if (child == 0) {
        in_child(enroll);
        _exit(0);
    }
    WANT(waitpid(child, &status, 0), child);
    WANT(status, 0);
}

static void vfork_child(void)
{
    pair = rsm_cpu_pair_pin();
    vforked(0); /* before this process has added anything */
    want_way(RSM_SUBJECT_FAST);
    vforked(0);
    want_way(RSM_SUBJECT_FAST);
    WANT(subject.sum(COUNTER), 8);
}

static void vfork_child_enrolls(void)
{
    pair = rsm_cpu_pair_pin();
    want_way(RSM_SUBJECT_FAST);
    vforked(1);
    want_way(RSM_SUBJECT_FAST);
    WANT(subject.sum(COUNTER), 8);
}

static void vfork_fails(void)
{
    want_way(RSM_SUBJECT_FAST);
    WANT(syscall(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    const struct rlimit_like {
        uint64_t now, most;
    } none = {0, 0};
    WANT(syscall(SYS_setresuid, 65534, 65534, 65534), 0);
    WANT(syscall(SYS_prlimit64, 0, 6 /* RLIMIT_NPROC */, &none, NULL), 0);
    pid_t child = vfork();
    if (child == 0)
        _exit(0);
    WANT(child, -1);
    WANT(errno, EAGAIN);
    want_way(RSM_SUBJECT_FAST);
}

static uint8_t stack[256 * 1024] __attribute__((aligned(16)));
static volatile int parent_added;

static int in_clone(void *wait)
{
    while (wait && !parent_added)
        usleep(100);
    in_child(0);
    return 0;
}

static void cloned(void *wait)
{
    int status;
    pid_t child = clone(in_clone, stack + sizeof(stack), CLONE_VM | SIGCHLD, wait);
    WANT(child > 0, 1);
    if (wait) { /* the parent adds while the child is there, and then is quiet */
        subject.add(COUNTER, 1);
        subject.add(COUNTER, 1);
        parent_added = 1;
    }
    WANT(waitpid(child, &status, 0), child);
    WANT(status, 0);
}

static void clone_vm_child(void)
{
    pair = rsm_cpu_pair_pin();
    want_way(RSM_SUBJECT_FAST);
    cloned(NULL);
    want_way(RSM_SUBJECT_FAST);
    WANT(subject.sum(COUNTER), 6);
}

/* The child is there before this process has added anything. */
static void clone_vm_child_first(void)
{
    pair = rsm_cpu_pair_pin();
    cloned(&pair);
    WANT(subject.sum(COUNTER), 4);
}

/* --- threads that libc does not know */

static void in_raw_thread(void)
{
    want_way(RSM_SUBJECT_FALLBACK);
}

static void raw_thread(void)
{
    want_way(RSM_SUBJECT_FAST);
    rsm_raw_thread_run(in_raw_thread, 0);
    rsm_raw_thread_run(in_raw_thread, 1);
    want_way(RSM_SUBJECT_FAST);
    WANT(subject.sum(COUNTER), 8);
}

/* Its TLS block is a copy of a thread's that is known to be protected. */
static void copied_tls(void)
{
    enum { SIDE = 16384, STEP = 64 };
    static uint8_t block[2 * SIDE] __attribute__((aligned(4096)));
    static int32_t alive = 1;
    pair = rsm_cpu_pair_pin();
    want_way(RSM_SUBJECT_FAST);
    uint8_t *from = (uint8_t *)rsm_thread_pointer();
    int memory = open("/proc/self/mem", O_RDONLY); /* what is beside the block may not be there */
    for (long at = -2048; at < 2304; at += STEP)
        if (pread(memory, block + SIDE + at, STEP, (off_t)(from + at)) < 0)
            WANT(errno, EIO);
    rsm_thread_block_prepare(block + SIDE);
    rsm_pin(pair.there);
    WANT(rsm_raw_thread(in_raw_thread, stack + sizeof(stack), block + SIDE, &alive) > 0, 1);
    while (__atomic_load_n(&alive, __ATOMIC_ACQUIRE))
        usleep(100);
    want_way(RSM_SUBJECT_FAST);
    WANT(subject.sum(COUNTER), 6);
}

/* --- registrations that come and go */

static void unregistered(void)
{
    int error;
    struct rsm_rseq_area *area = libc_area();
    want_way(RSM_SUBJECT_FAST);
    uint32_t length = rsm_query_area(area, &error);
    WANT(rsm_rseq(area, length, RSM_RSEQ_FLAG_UNREGISTER, RSM_RSEQ_SIGNATURE), 0);
    want_way(RSM_SUBJECT_FALLBACK);
    WANT(subject.enroll(), 0);
    WANT(subject.enroll(), 0); /* it is registered, which is what was asked for */
    want_way(RSM_SUBJECT_FAST);
    WANT(subject.sum(COUNTER), 6);
}

static void never_registered(void)
{
    want_way(RSM_SUBJECT_FALLBACK);
    start_and_join((void *(*[])(void *)){adding, adding, adding, adding});
    WANT(subject.sum(COUNTER), THREADS * TIMES + 2);
}

/* Somebody else's area is registered, which the subject does not know. */
static void other_owner(void)
{
    static uint8_t area[64] __attribute__((aligned(64)));
    ((struct rsm_rseq_area *)area)->cpu_id = RSM_CPU_ID_UNINITIALIZED;
    WANT(rsm_rseq(area, RSM_RSEQ_ORIGINAL_SIZE, 0, RSM_RSEQ_SIGNATURE), 0);
    want_way(RSM_SUBJECT_FALLBACK);
    WANT(subject.enroll() != 0, 1);
    want_way(RSM_SUBJECT_FALLBACK);
}

/* --- the dynamic linker */

/* Nobody's vfork() is the subject's then. */
static void opened(void)
{
    pair = rsm_cpu_pair_pin();
    void *object = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    WANT(object != NULL, 1);
    find(object);
    want_way(RSM_SUBJECT_FAST);
    vforked(0);
    want_way(RSM_SUBJECT_FAST);
    WANT(dlclose(object), 0);
    want_way(RSM_SUBJECT_FAST); /* it stays: rseq_cs may point into it */
    WANT(subject.sum(COUNTER), 8);
}

static void early(void)
{
    unsigned (*early_adds)(void);
    *(void **)&early_adds = dlsym(RTLD_DEFAULT, "early_adds");
    WANT(early_adds != NULL, 1);
    WANT(early_adds(), 1000);
    WANT(subject.sum(EARLY_COUNTER), 1000);
    want_way(RSM_SUBJECT_FAST);
}

/* Once a thread is known, an add asks nothing: from here on any system call but write and exit kills. */
static void steady(int want)
{
    want_way(want);
    WANT(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT), 0);
    for (int i = 0; i < 1000; i++)
        subject.add(COUNTER, 1);
    int right = subject.path() == want && subject.sum(COUNTER) == 1002;
    syscall(SYS_exit, right ? 0 : 1);
}

static void steady_fast(void)
{
    steady(RSM_SUBJECT_FAST);
}

static void steady_fallback(void)
{
    steady(RSM_SUBJECT_FALLBACK);
}

static void steady_unregistered(void)
{
    int error;
    struct rsm_rseq_area *area = libc_area();
    uint32_t length = rsm_query_area(area, &error);
    WANT(rsm_rseq(area, length, RSM_RSEQ_FLAG_UNREGISTER, RSM_RSEQ_SIGNATURE), 0);
    steady(RSM_SUBJECT_FALLBACK);
}

#define PLACE(name) {#name, name}

static const struct {
    const char *name;
    void (*go)(void);
} places[] = {
    PLACE(threads),
    PLACE(enrolled),
    PLACE(handler),
    PLACE(fork_child),
    PLACE(vfork_child),
    PLACE(vfork_fails),
    PLACE(raw_thread),
    PLACE(vfork_child_enrolls),
    PLACE(clone_vm_child),
    PLACE(copied_tls),
    PLACE(unregistered),
    PLACE(clone_vm_child_first),
    PLACE(never_registered),
    PLACE(other_owner),
    PLACE(opened),
    PLACE(early),
    PLACE(steady_fast),
    PLACE(steady_fallback),
    PLACE(steady_unregistered),
};

int main(int count, char **arguments)
{
    file = count > 2 ? arguments[2] : NULL;
    if (!file)
        find(RTLD_DEFAULT);
    for (size_t i = 0; count > 1 && i < sizeof(places) / sizeof(places[0]); i++) {
        if (strcmp(places[i].name, arguments[1]) == 0) {
            places[i].go();
            return 0;
        }
    }
    return 2;
}
