/* Uses a subject where its answer about a thread could be wrong only for an instant, for test_subjects_edges.py:
 *
 *   subject_edges EDGE [SUBJECT.so]     the subject is preloaded, or loaded from the file
 *
 * Ends with 0 if all was right, else says what was not. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "arch/x86_64_clone.h"
#include "host/cpu_pair.h"
#include "subject.h"

#define COUNTER 7
#define CHURN 1000
#define TRAP_FLAG 0x100 /* of RFLAGS: a trap after every instruction (Intel SDM volume 3, 18.3.1.4) */

static struct {
    void (*add)(unsigned counter, uint64_t n);
    uint64_t (*sum)(unsigned counter);
    int (*path)(void);
    int (*enroll)(void); /* rsm_subject_register() */
} subject;

#define WANT(got, want)                                                                                                \
    do {                                                                                                               \
        unsigned long long got_ = (unsigned long long)(got), want_ = (unsigned long long)(want);                       \
        if (got_ != want_) {                                                                                           \
            printf("line %d: " #got ": got %llu, want %llu\n", __LINE__, got_, want_);                                 \
            fflush(stdout);                                                                                            \
            _exit(1);                                                                                                  \
        }                                                                                                              \
    } while (0)

static void find(void *object)
{
    *(void **)&subject.add = dlsym(object, "rsm_subject_add");
    *(void **)&subject.sum = dlsym(object, "rsm_subject_sum");
    *(void **)&subject.path = dlsym(object, "rsm_subject_path");
    *(void **)&subject.enroll = dlsym(object, "rsm_subject_register");
    WANT(subject.add && subject.sum && subject.path, 1);
}

/* Twice: the second time the answer of the first may be remembered. */
static void want_way(int want)
{
    for (int i = 0; i < 2; i++) {
        subject.add(COUNTER, 1);
        WANT(subject.path(), want);
    }
}

/* --- a signal handler that adds, after every instruction of vfork() or clone(), in the parent and in the child */

static struct {
    pid_t parent;
    struct rsm_cpu_pair pair;
    volatile unsigned long in_parent, in_child;     /* how often the handler ran */
    volatile unsigned long slow_parent, fast_child; /* how often it was told the wrong way */
    volatile unsigned long other_adds;
    volatile int parent_is_through;
} stepped;

static void after_instruction(int unused)
{
    (void)unused;
    subject.add(COUNTER, 1);
    int way = subject.path();
    if (syscall(SYS_gettid) == stepped.parent) {
        stepped.in_parent++;
        stepped.slow_parent += way != RSM_SUBJECT_FAST;
    } else {
        stepped.in_child++;
        stepped.fast_child += way != RSM_SUBJECT_FALLBACK;
    }
}

static inline __attribute__((always_inline)) void step(void)
{
    __asm__ volatile("pushfq\n\torq %0, (%%rsp)\n\tpopfq" : : "i"(TRAP_FLAG) : "memory", "cc");
}

static inline __attribute__((always_inline)) void step_no_more(void)
{
    __asm__ volatile("pushfq\n\tandq %0, (%%rsp)\n\tpopfq" : : "i"(~TRAP_FLAG) : "memory", "cc");
}

/* What a child does on its own CPU, which the area of its parent does not tell. */
static __attribute__((noinline)) void in_child(void)
{
    rsm_pin(stepped.pair.there);
    WANT(rsm_is_on(stepped.pair.there), 1);
    want_way(RSM_SUBJECT_FALLBACK);
    stepped.other_adds += 2;
}

static void stepping_begins(void)
{
    stepped.parent = (pid_t)syscall(SYS_gettid);
    stepped.pair = rsm_cpu_pair_pin();
    signal(SIGTRAP, after_instruction);
}

static void want_it_right(pid_t child)
{
    int status;
    WANT(child > 0, 1);
    WANT(waitpid(child, &status, 0), child);
    WANT(status, 0);
    WANT(stepped.in_parent > 20, 1);
    WANT(stepped.in_child > 0, 1);
    WANT(stepped.slow_parent, 0);
    WANT(stepped.fast_child, 0);
    WANT(subject.sum(COUNTER), stepped.in_parent + stepped.in_child + stepped.other_adds);
}

static void stepped_vfork(void)
{
    stepping_begins();
    step(); /* before anybody has added anything */
    pid_t child = vfork();
    if (child == 0) {
        step_no_more();
        in_child();
        _exit(0);
    }
    step_no_more();
    want_it_right(child);
    want_way(RSM_SUBJECT_FAST);
}

static int in_clone(void *unused)
{
    (void)unused;
    step_no_more();
    while (!stepped.parent_is_through) /* which adds at every instruction, and might remember */
        usleep(100);
    in_child();
    return 0;
}

static void stepped_clone(void)
{
    static uint8_t stack[256 * 1024] __attribute__((aligned(16)));
    stepping_begins();
    want_way(RSM_SUBJECT_FAST);
    stepped.other_adds = 2;
    step();
    pid_t child = clone(in_clone, stack + sizeof(stack), CLONE_VM | SIGCHLD, NULL);
    step_no_more();
    stepped.parent_is_through = 1;
    want_it_right(child);
    want_way(RSM_SUBJECT_FAST);
}

/* --- threads that come and go, each with an area of the subject's on a stack that had one before */

static void *enrolled(void *unused)
{
    want_way(RSM_SUBJECT_FALLBACK);
    WANT(subject.enroll(), 0);
    want_way(RSM_SUBJECT_FAST);
    WANT(subject.enroll(), 0);
    want_way(RSM_SUBJECT_FAST);
    return unused;
}

static void churn(void)
{
    want_way(RSM_SUBJECT_FALLBACK);
    for (int i = 0; i < CHURN; i++) {
        pthread_t thread;
        WANT(pthread_create(&thread, NULL, enrolled, NULL), 0);
        WANT(pthread_join(thread, NULL), 0);
    }
    want_way(RSM_SUBJECT_FALLBACK);
    WANT(subject.sum(COUNTER), CHURN * 6 + 4);
}

/* --- the child of a vfork() wants the very area that its parent has registered */

static __attribute__((noinline)) void enrolls_in_child(int there)
{
    rsm_pin(there);
    want_way(RSM_SUBJECT_FALLBACK);
    WANT(subject.enroll() != 0, 1);
    want_way(RSM_SUBJECT_FALLBACK);
}

static void enrolled_parent(void)
{
    int status;
    struct rsm_cpu_pair pair = rsm_cpu_pair_pin();
    WANT(subject.enroll(), 0);
    want_way(RSM_SUBJECT_FAST);
    pid_t child = vfork();
    if (child == 0) {
        enrolls_in_child(pair.there);
        _exit(0);
    }
    WANT(waitpid(child, &status, 0), child);
    WANT(status, 0);
    want_way(RSM_SUBJECT_FAST);
    WANT(subject.sum(COUNTER), 8);
}

/* --- a thread whose TLS block is a copy of one whose thread is known to be protected */

static void in_copy(void)
{
    want_way(RSM_SUBJECT_FALLBACK);
}

/* Run in a thread that libc made: the memory before its TLS block is its stack, and that is mapped. */
static void *copies_its_tls(void *unused)
{
    enum { BEFORE = 16384, PAGE = 4096 };
    static uint8_t block[BEFORE + PAGE] __attribute__((aligned(PAGE)));
    static uint8_t stack[64 * 1024] __attribute__((aligned(16)));
    static int32_t alive = 1;
    struct rsm_cpu_pair pair = rsm_cpu_pair_pin();
    uint64_t thread_pointer = rsm_thread_pointer(), after = PAGE - thread_pointer % PAGE;
    uint8_t *copy = block + BEFORE;
    want_way(RSM_SUBJECT_FAST);
    memcpy(copy - BEFORE, (uint8_t *)thread_pointer - BEFORE, BEFORE + after);
    rsm_thread_block_prepare(copy);
    rsm_pin(pair.there);
    WANT(rsm_raw_thread(in_copy, stack + sizeof(stack), copy, &alive) > 0, 1);
    while (__atomic_load_n(&alive, __ATOMIC_ACQUIRE))
        usleep(100);
    want_way(RSM_SUBJECT_FAST);
    return unused;
}

static void copied_tls(void)
{
    pthread_t thread;
    WANT(pthread_create(&thread, NULL, copies_its_tls, NULL), 0);
    WANT(pthread_join(thread, NULL), 0);
    WANT(subject.sum(COUNTER), 6);
}

/* --- no system call: from here on any but read, write, exit and sigreturn kills (prctl(2), SECCOMP_MODE_STRICT) */

static void silent(void)
{
    want_way(RSM_SUBJECT_FAST);
    WANT(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT), 0);
    for (int i = 0; i < 1000; i++)
        subject.add(COUNTER, 1);
    syscall(SYS_exit, subject.path() != RSM_SUBJECT_FAST || subject.sum(COUNTER) != 1002);
}

#define EDGE(name) {#name, name}

static const struct {
    const char *name;
    void (*go)(void);
} edges[] = {EDGE(stepped_vfork),   EDGE(stepped_clone), EDGE(churn),
             EDGE(enrolled_parent), EDGE(copied_tls),    EDGE(silent)};

int main(int count, char **arguments)
{
    find(count > 2 ? dlopen(arguments[2], RTLD_NOW | RTLD_LOCAL) : RTLD_DEFAULT);
    for (size_t i = 0; count > 1 && i < sizeof(edges) / sizeof(edges[0]); i++) {
        if (strcmp(edges[i].name, arguments[1]) == 0) {
            edges[i].go();
            return 0;
        }
    }
    return 2;
}
