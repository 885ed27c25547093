/* A writer, which is a thread or a process that uses the subject: its registration with the kernel, and its signal
 * handlers, which use the subject, too. */
#define _GNU_SOURCE
#include <errno.h>
#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "arch/x86_64_context.h"
#include "rseq/own_registration.h"
#include "verify/own_timer.h"
#include "verify/random.h"
#include "verify/stress/stress.h"

#define SIGNAL_PERIOD_NANOSECONDS 100000

static __thread struct stress_writer *volatile own;
static __thread timer_t timer;
static __thread int has_timer;
static uint64_t subject_start, subject_end;

struct stress_writer *stress_writer_new(enum stress_kind kind)
{
    struct stress_writer *writer = &stress->writer[stress->writers];
    writer->kind = kind;
    writer->index = stress->writers++;
    for (unsigned context = 0; context < STRESS_CONTEXTS; context++)
        writer->book[context].random = 0x2545f4914f6cdd1du * (writer->index * STRESS_CONTEXTS + context + 1);
    return writer;
}

static uint64_t fast_paths(const struct stress_writer *writer)
{
    uint64_t fast = 0;
    for (int context = 0; context < STRESS_CONTEXTS; context++)
        fast += writer->book[context].fast;
    return fast;
}

/* The tid is asked of the kernel: in a vfork child libc's is the parent's. */
void stress_enter(struct stress_writer *writer)
{
    writer->was_registered = (uint32_t)kernel_has_area();
    writer->registered += writer->was_registered;
    writer->entered++;
    writer->fast_before = fast_paths(writer);
    writer->cpu = cpu_now();
    writer->tid = (uint32_t)rsm_syscall(RSM_SYS_GETTID, 0, 0, 0, 0, 0, 0);
}

void stress_leave(struct stress_writer *writer)
{
    if (!writer->was_registered && !kernel_has_area())
        writer->unprotected += fast_paths(writer) - writer->fast_before;
    writer->tid = 0;
}

void stress_disturb(struct stress_writer *writer)
{
    own = writer;
    has_timer = own_timer_start(&timer, SIGNAL_PERIOD_NANOSECONDS);
}

void stress_calm(void)
{
    own = NULL;
    if (has_timer)
        timer_delete(timer);
    has_timer = 0;
}

/* A fork child has its parent's thread-local data, but not its timers, and may not count into its parent's books. */
void stress_be_child(void)
{
    own = NULL;
    has_timer = 0;
}

/* In the mode half-registered, every second thread is registered by the subject, and all that make children. */
void stress_enroll(const struct stress_writer *writer)
{
    int half = writer->kind == STRESS_REGISTERED || writer->kind == STRESS_SHORT_LIVED;
    if (stress->mode != STRESS_HALF_REGISTERED || !subject.enroll || (half && writer->index % 2))
        return;
    int error = subject.enroll();
    if (error)
        __atomic_store_n(&stress->enroll_error, error, __ATOMIC_RELAXED);
    else
        __atomic_fetch_add(&stress->enrolled, 1, __ATOMIC_RELAXED);
}

/* Moves the thread to another CPU in the middle of what was interrupted. */
static void move(struct stress_writer *writer, struct stress_book *book)
{
    unsigned here = cpu_now();
    int cpu = cpu_other(here, random_next(&book->random));
    cpu_pin(0, cpu);
    book->moves += (uint32_t)cpu != here;
    writer->cpu = (uint32_t)cpu;
}

/* SIGUSR2 may interrupt the handler of SIGUSR1, not the other way round: no book has two writers. */
static void on_signal(int number)
{
    struct stress_writer *writer = own;
    int saved = errno;
    if (!writer)
        return;
    uint32_t context = number == SIGUSR1 ? STRESS_HANDLER : STRESS_INNER_HANDLER, interrupted = writer->context;
    struct stress_book *book = &writer->book[context];
    writer->context = context;
    book->signals++;
    stress_operation(writer, book);
    if (random_next(&book->random) % 8 == 0)
        move(writer, book);
    writer->context = interrupted;
    errno = saved;
}

void stress_handle_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    sigaction(SIGUSR1, &action, NULL);
    sigaddset(&action.sa_mask, SIGUSR1);
    sigaction(SIGUSR2, &action, NULL);
}

uint64_t stress_subject_offset(uint64_t address)
{
    return address >= subject_start && address < subject_end ? address - subject_start : 0;
}

static const struct stress_writer *writer_with(uint32_t tid)
{
    for (uint32_t i = 0; i < stress->writers; i++)
        if (stress->writer[i].tid == tid)
            return &stress->writer[i];
    return NULL;
}

/* Writes down for the supervisor where the first crash was, and crashes. */
static void on_crash(int number, siginfo_t *information, void *context)
{
    const struct stress_writer *writer = writer_with((uint32_t)rsm_syscall(RSM_SYS_GETTID, 0, 0, 0, 0, 0, 0));
    int32_t none = 0;
    (void)information;
    if (__atomic_compare_exchange_n(&stress->crash.signal, &none, number, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
        stress->crash.instruction = stress_subject_offset(rsm_interrupted_at(context));
        stress->crash.kind = writer ? writer->kind : STRESS_KINDS;
        stress->crash.context = writer ? writer->context : STRESS_BODY;
    }
    signal(number, SIG_DFL);
    rsm_syscall(RSM_SYS_TGKILL, getpid(), rsm_syscall(RSM_SYS_GETTID, 0, 0, 0, 0, 0, 0), number, 0, 0, 0);
}

static int find_subject(struct dl_phdr_info *object, size_t size, void *unused)
{
    uint64_t end = 0, add = (uint64_t)subject.add;
    (void)size;
    (void)unused;
    for (int i = 0; i < object->dlpi_phnum; i++)
        if (object->dlpi_phdr[i].p_type == PT_LOAD)
            end = object->dlpi_addr + object->dlpi_phdr[i].p_vaddr + object->dlpi_phdr[i].p_memsz;
    if (add < object->dlpi_addr || add >= end)
        return 0;
    subject_start = object->dlpi_addr;
    subject_end = end;
    return 1;
}

void stress_handle_crashes(void)
{
    static const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP};
    struct sigaction action = {.sa_sigaction = on_crash, .sa_flags = SA_SIGINFO};
    dl_iterate_phdr(find_subject, NULL);
    sigfillset(&action.sa_mask);
    for (unsigned i = 0; i < sizeof(signals) / sizeof(*signals); i++)
        sigaction(signals[i], &action, NULL);
}
