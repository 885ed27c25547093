/* Makes sequences of calls of rseq(2), each in a fresh child in which no area is registered, and prints the answers.
 *
 *   calls WRITABLE READABLE NOWHERE SIZE < SEQUENCES
 *
 * maps SIZE bytes at each of the three addresses: writable, read-only, and reserved without any access, so that every
 * address of a call means something. A line of the input is a sequence of steps:
 *
 *   call,ADDRESS,LENGTH,FLAGS,SIGNATURE    rseq(2) by the child's main thread
 *   thread,ADDRESS,LENGTH,FLAGS,SIGNATURE  the same by a new thread, which then stays
 *   filter,ANSWER                          installs the filter of rseq/seccomp.h
 *   protect,PROT                           mprotect(2) of the writable memory
 *   point,ADDRESS                          sets rseq_cs of the area there, in the writable memory, to an invalid
 * address move,0                                 sleeps on every CPU in turn: the kernel writes the CPU number each
 * time
 *
 * and is answered by a line with a word for each step that was made: ERRNO:CPU_ID, 0 where it succeeded, with what
 * the area's cpu_id says afterwards ("-" where that cannot be read), or "killed:SIGNAL", the last, if the step ended
 * the child. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rseq/own_registration.h"
#include "rseq/seccomp.h"

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

enum { STEPS = 64, LINE = 8192, UNREADABLE = -100, SECONDS = 20 };
enum { USAGE = 2, NO_MEMORY = 3, REGISTERED = 4, NO_FILTER = 5 };

struct step {
    char name[8];
    uint64_t argument[4];
};

static struct {
    volatile int done;
    int answer[STEPS];
    int cpu_id[STEPS];
} *result;

static uint64_t writable, size;

static void map(uint64_t address, int protection)
{
    void *wanted = (void *)address;
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE;
    if (mmap(wanted, size, protection, flags, -1, 0) != wanted) {
        fprintf(stderr, "no memory at %p\n", wanted);
        exit(NO_MEMORY);
    }
}

static int cpu_id_at(uint64_t address)
{
    int value;
    if (address < writable || address > writable + size - RSM_RSEQ_ORIGINAL_SIZE)
        return UNREADABLE;
    memcpy(&value, (const void *)(address + offsetof(struct rsm_rseq_area, cpu_id)), sizeof(value));
    return value;
}

static int is_call(const struct step *step)
{
    return strcmp(step->name, "call") == 0 || strcmp(step->name, "thread") == 0;
}

static int call(const struct step *step)
{
    const uint64_t *argument = step->argument;
    return rsm_rseq((void *)argument[0], (uint32_t)argument[1], (int)argument[2], (uint32_t)argument[3]);
}

static struct {
    const struct step *step;
    int answer;
    sem_t answered;
} other;

static void *other_thread(void *unused)
{
    other.answer = call(other.step);
    sem_post(&other.answered);
    for (;;)
        pause();
    return unused;
}

static int call_in_thread(const struct step *step)
{
    pthread_t thread;
    other.step = step;
    sem_init(&other.answered, 0, 0);
    if (pthread_create(&thread, NULL, other_thread, NULL) != 0)
        _exit(NO_MEMORY);
    while (sem_wait(&other.answered) != 0)
        ;
    return other.answer;
}

static int move(void)
{
    cpu_set_t allowed, one;
    if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0)
        return 0;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &allowed))
            continue;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        sched_setaffinity(0, sizeof(one), &one);
        usleep(100);
    }
    return sched_setaffinity(0, sizeof(allowed), &allowed);
}

static int point(uint64_t address)
{
    const uint64_t nowhere = 1;
    memcpy((void *)(address + offsetof(struct rsm_rseq_area, rseq_cs)), &nowhere, sizeof(nowhere));
    return 0;
}

static int make(const struct step *step)
{
    if (strcmp(step->name, "call") == 0)
        return call(step);
    if (strcmp(step->name, "thread") == 0)
        return call_in_thread(step);
    if (strcmp(step->name, "protect") == 0)
        return mprotect((void *)writable, size, (int)step->argument[0]);
    if (strcmp(step->name, "point") == 0)
        return point(step->argument[0]);
    if (strcmp(step->name, "move") == 0)
        return move();
    if (rsm_filter_rseq((int)step->argument[0]) != 0)
        _exit(NO_FILTER);
    return 0;
}

/* As libc leaves an area before it registers it. */
static void prepare(const struct step *step)
{
    const int uninitialized = (int)RSM_CPU_ID_UNINITIALIZED;
    if (is_call(step) && cpu_id_at(step->argument[0]) != UNREADABLE)
        memcpy((void *)(step->argument[0] + offsetof(struct rsm_rseq_area, cpu_id)), &uninitialized,
               sizeof(uninitialized));
}

static void play(const struct step *step, int count)
{
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); /* a step that kills leaves no core behind */
    alarm(SECONDS);
    unregister_area();
    if (kernel_has_area())
        _exit(REGISTERED);
    for (int i = 0; i < count; i++)
        prepare(&step[i]);
    for (int i = 0; i < count; i++) {
        result->answer[i] = make(&step[i]);
        result->cpu_id[i] = is_call(&step[i]) ? cpu_id_at(step[i].argument[0]) : UNREADABLE;
        result->done = i + 1;
    }
    _exit(0);
}

static int parse(char *line, struct step *step)
{
    int count = 0;
    char *rest = NULL;
    for (char *word = strtok_r(line, " \n", &rest); word; word = strtok_r(NULL, " \n", &rest)) {
        char *comma = strchr(word, ',');
        if (count == STEPS || !comma || comma - word >= (long)sizeof(step->name))
            exit(USAGE);
        memset(&step[count], 0, sizeof(*step));
        memcpy(step[count].name, word, (size_t)(comma - word));
        for (int i = 0; comma && i < 4; i++)
            step[count].argument[i] = strtoull(comma + 1, &comma, 0);
        count++;
    }
    return count;
}

static void print(int count, int status)
{
    for (int i = 0; i < result->done; i++) {
        printf(i ? " %d:" : "%d:", result->answer[i]);
        if (result->cpu_id[i] == UNREADABLE)
            printf("-");
        else
            printf("%d", result->cpu_id[i]);
    }
    if (WIFSIGNALED(status))
        printf("%skilled:%d", result->done ? " " : "", WTERMSIG(status));
    else if (WEXITSTATUS(status) != 0)
        exit(WEXITSTATUS(status));
    else if (result->done != count)
        exit(NO_MEMORY);
    putchar('\n');
    fflush(stdout); /* or the next child inherits it */
}

int main(int argc, char **argv)
{
    static struct step step[STEPS];
    static char line[LINE];
    if (argc != 5)
        return USAGE;
    writable = strtoull(argv[1], NULL, 0);
    size = strtoull(argv[4], NULL, 0);
    map(writable, PROT_READ | PROT_WRITE);
    map(strtoull(argv[2], NULL, 0), PROT_READ);
    map(strtoull(argv[3], NULL, 0), PROT_NONE);
    result = mmap(NULL, sizeof(*result), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (result == MAP_FAILED)
        return NO_MEMORY;
    while (fgets(line, sizeof(line), stdin)) {
        int status = 0, count = parse(line, step);
        result->done = 0;
        pid_t child = fork();
        if (child == 0)
            play(step, count);
        if (child < 0 || waitpid(child, &status, 0) != child)
            return NO_MEMORY;
        print(count, status);
    }
    return 0;
}
