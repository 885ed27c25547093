/* Carries out a subject's operations one by one, for `verify`, which interrupts them at every instruction
 * (scripts/rseq_matrix/verify/interruptions.py) and single-steps them (stepping.py). The subject is preloaded. Each
 * thread has a role and waits at a gate, a breakpoint, until its driver has written a command into its box and restarts
 * it; so the driver alone determines what happens in which order.
 *
 *   interrupted DESCRIPTOR        the mailbox is inherited at the descriptor
 *   interrupted alone OPERATION   one operation, for a debugger: between rsm_operation_begins() and
 *                                 rsm_operation_ends(). Its exit status says how often it took effect (enum
 *                                 rsm_alone) */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "arch/x86_64_context.h"
#include "rseq/own_registration.h"
#include "verify/loaded_subject.h"
#include "verify/mailbox.h"

#define REGISTER_PRIVATE_EXPEDITED_RSEQ (1 << 8) /* linux/membarrier.h, which may be older */

#define THREADS RSM_HANDLER /* all roles before it are threads */
#define ALONE_NODES 4

static struct loaded_subject subject;
static struct rsm_mailbox *mailbox;
static struct rsm_subject_node nodes[RSM_ROLES][RSM_NODES_MAX];

static uint64_t pop_one(void)
{
    struct rsm_subject_node *node = subject.pop();
    return node ? node->value : 0;
}

static void push_own(uint32_t role, uint64_t number)
{
    struct rsm_subject_node *node = &nodes[role][number % RSM_NODES_MAX];
    node->value = role * RSM_NODES_MAX + number % RSM_NODES_MAX + 1;
    subject.push(node);
}

static void keep(struct rsm_box *box, uint64_t value)
{
    if (value)
        box->value[box->count++] = value;
}

/* So that a pop that was interrupted after it read the first node's successor finds the same first node again, with
 * another successor (the ABA problem). */
static void exchange(struct rsm_box *box)
{
    struct rsm_subject_node *first = subject.pop();
    keep(box, first ? pop_one() : 0);
    if (first)
        subject.push(first);
}

static void drain(struct rsm_box *box)
{
    uint64_t value = 1;
    while (value && box->count < RSM_VALUES_MAX) {
        value = pop_one();
        keep(box, value);
    }
}

/* The operator does not run while this is done: this thread has preempted it, and both are bound to one CPU. */
static void put_code_back(struct rsm_box *box)
{
    int memory = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
    ssize_t written = memory < 0 ? -1 : pwrite(memory, box->code, box->code_size, (off_t)box->code_at);
    box->error = written == (ssize_t)box->code_size ? 0 : errno;
    close(memory);
}

static int error_of(long result)
{
    return result < 0 ? errno : 0;
}

static void carry_out(uint32_t role)
{
    struct rsm_box *box = &mailbox->box[role];
    const uint64_t *argument = box->argument;
    box->count = 0;
    box->error = 0;
    if (box->code_at)
        put_code_back(box);
    switch ((enum rsm_command)box->command) {
    case RSM_DO_NOTHING:
        break;
    case RSM_DO_ADD:
        subject.add(RSM_COUNTER, argument[0]);
        break;
    case RSM_DO_PUSH:
        push_own(role, argument[0]);
        break;
    case RSM_DO_POP:
        keep(box, pop_one());
        break;
    case RSM_DO_EXCHANGE:
        exchange(box);
        break;
    case RSM_DO_FILL:
        for (uint64_t i = 1; i <= argument[0]; i++)
            push_own(role, RSM_NODES_MAX - i);
        break;
    case RSM_DO_DRAIN:
        drain(box);
        break;
    case RSM_DO_SUM:
        box->value[box->count++] = subject.sum(RSM_COUNTER);
        break;
    case RSM_DO_REGISTER:
        box->error = subject.enroll ? subject.enroll() : ENOSYS;
        break;
    case RSM_DO_UNREGISTER:
        box->error = rsm_rseq((void *)(uintptr_t)argument[0], (uint32_t)argument[1], RSM_RSEQ_FLAG_UNREGISTER,
                              (uint32_t)argument[2]);
        break;
    case RSM_DO_MEMBARRIER:
        box->error = error_of(syscall(SYS_membarrier, argument[0], argument[1], argument[2]));
        break;
    }
}

static void handle(int signal, siginfo_t *information, void *context)
{
    (void)signal;
    (void)information;
    int error = errno;
    mailbox->interrupted_at = rsm_interrupted_at(context);
    mailbox->interruptions++;
    carry_out(RSM_HANDLER);
    errno = error;
}

static void *play(void *role)
{
    uint32_t number = (uint32_t)(uintptr_t)role;
    mailbox->box[number].tid = (uint32_t)syscall(SYS_gettid);
    for (;;) {
        rsm_trap(RSM_GATE_MAGIC, number); /* the gate */
        carry_out(number);
    }
    return NULL;
}

/* Notes where the object lies that holds the subject's add. */
static int note_object(struct dl_phdr_info *object, size_t size, void *unused)
{
    (void)size;
    (void)unused;
    uint64_t start = UINT64_MAX, end = 0;
    for (int i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &object->dlpi_phdr[i];
        if (segment->p_type != PT_LOAD || !(segment->p_flags & PF_X))
            continue;
        uint64_t first = object->dlpi_addr + segment->p_vaddr;
        start = first < start ? first : start;
        end = first + segment->p_memsz > end ? first + segment->p_memsz : end;
    }
    uint64_t add = (uint64_t)(uintptr_t)subject.add;
    if (add >= start && add < end) {
        mailbox->bias = object->dlpi_addr;
        mailbox->text = start;
        mailbox->text_end = end;
    }
    return 0;
}

static int serve_driver(int descriptor)
{
    mailbox = mmap(NULL, sizeof(*mailbox), PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    if (mailbox == MAP_FAILED)
        return 2;
    mailbox->missing = !loaded_subject_find(&subject, RTLD_DEFAULT);
    if (mailbox->missing)
        return 2;
    dl_iterate_phdr(note_object, NULL);
    mailbox->membarrier_error = error_of(syscall(SYS_membarrier, REGISTER_PRIVATE_EXPEDITED_RSEQ, 0, 0));
    struct sigaction action = {.sa_sigaction = handle, .sa_flags = SA_SIGINFO | SA_RESTART};
    if (sigaction(SIGUSR1, &action, NULL) != 0)
        return 2;
    for (uintptr_t role = 0; role < THREADS; role++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, play, (void *)role) != 0)
            return 2;
    }
    for (;;)
        pause();
}

/* What a debugger breaks at. Not inlined, and with something inside, so that neither is merged with the other. */
__attribute__((noinline)) void rsm_operation_begins(void)
{
    __asm__ volatile("" : : "i"(1) : "memory");
}

__attribute__((noinline)) void rsm_operation_ends(void)
{
    __asm__ volatile("" : : "i"(2) : "memory");
}

/* Puts nodes where every thread finds them: into this CPU's stack, and, without a registration, into the shared one. A
 * pop whose sections are all aborted finds none but those. */
static void fill_alone(void)
{
    struct unregistered_area own = {NULL, 0};
    for (uint64_t i = 1; i <= ALONE_NODES; i++) {
        if (i == ALONE_NODES / 2 + 1)
            own = unregister_area();
        push_own(RSM_OPERATOR, i);
    }
    if (own.length)
        rsm_rseq(own.area, own.length, 0, RSM_RSEQ_SIGNATURE);
}

/* A thread that a debugger stops and resumes may change CPUs, and each CPU has a stack of its own. */
static void stay_here(void)
{
    cpu_set_t here;
    CPU_ZERO(&here);
    CPU_SET(sched_getcpu(), &here);
    sched_setaffinity(0, sizeof(here), &here);
}

/* Returns how often the operation took effect, enum rsm_alone; 2 where it cannot be done. */
static int operate_alone(const char *operation)
{
    struct rsm_box left = {0};
    stay_here();
    subject.add(RSM_COUNTER, 1); /* what is done once in a process comes before */
    uint64_t before = subject.sum(RSM_COUNTER), popped = 0;
    int add = strcmp(operation, "add") == 0, pop = strcmp(operation, "pop") == 0;
    if (!add && !loaded_subject_has_stacks(&subject))
        return 2;
    if (pop)
        fill_alone();
    rsm_operation_begins();
    if (add)
        subject.add(RSM_COUNTER, 1);
    else if (pop)
        popped = pop_one();
    else
        push_own(RSM_OPERATOR, 0);
    rsm_operation_ends();
    if (!add)
        drain(&left);
    uint64_t times = add ? subject.sum(RSM_COUNTER) - before : pop ? ALONE_NODES - left.count : left.count;
    return times == 1 && (!pop || popped) ? RSM_ALONE_ONCE : times > 1 ? RSM_ALONE_MORE : RSM_ALONE_NONE;
}

int main(int count, char **arguments)
{
    if (count == 3 && strcmp(arguments[1], "alone") == 0)
        return loaded_subject_find(&subject, RTLD_DEFAULT) ? operate_alone(arguments[2]) : 2;
    return count == 2 ? serve_driver(atoi(arguments[1])) : 2;
}
