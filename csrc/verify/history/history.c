/* verify/history SECONDS DESCRIPTOR SIZE: lets threads push to and pop from the stacks of the preloaded subject and
 * records every operation with when it began and ended into the file that the descriptor is of, so that the driver can
 * decide whether stacks behave like that. Prints how much was recorded, as JSON. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "verify/history/history.h"
#include "verify/seconds.h"
#include "verify/supervised.h"

static int fail(const char *problem)
{
    fprintf(stderr, "history: %s\nusage: history SECONDS DESCRIPTOR SIZE\n", problem);
    return 2;
}

static int open_logs(int descriptor, size_t size)
{
    size_t capacity = size / HISTORY_LOGS / sizeof(struct history_operation);
    struct history_operation *file = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    history = mmap(NULL, sizeof(*history), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (file == MAP_FAILED || history == MAP_FAILED)
        return 0;
    for (int i = 0; i < HISTORY_LOGS; i++)
        history->log[i] = (struct history_log){0, (uint32_t)capacity, file + (size_t)i * capacity};
    history->clock = 1;
    return 1;
}

static const char *boolean(int value)
{
    return value ? "true" : "false";
}

static void report(const struct supervised *outcome)
{
    printf("{\"logs\": [");
    for (int i = 0; i < HISTORY_LOGS; i++)
        printf("%s[%td, %u]", i ? ", " : "", history->log[i].operation - history->log[0].operation,
               history->log[i].count);
    printf("], \"rounds\": %u, \"registered\": %u, ", history->rounds, history->registered);
    printf("\"signals\": %llu, \"migrations\": %llu, ", (unsigned long long)history->signals,
           (unsigned long long)history->migrations);
    printf("\"damaged\": %s, \"hung\": %s, ", boolean((int)history->damaged), boolean(outcome->hung));
    printf("\"signal\": %d, \"status\": %d, \"seconds\": %.3f}\n", outcome->signal, outcome->status, history->seconds);
}

int main(int count, char **argument)
{
    if (count != 4)
        return fail("a time, a descriptor and a size are needed");
    if (!loaded_subject_find(&subject, RTLD_DEFAULT) || !loaded_subject_has_stacks(&subject))
        return fail("no subject with stacks is preloaded");
    if (!open_logs(atoi(argument[2]), strtoul(argument[3], NULL, 10)))
        return fail("the file cannot be mapped");
    history->seconds = strtod(argument[1], NULL);
    history->deadline = seconds_now() + history->seconds + HISTORY_HANG_SECONDS;
    struct supervised outcome = supervise(history_work, &history->deadline);
    report(&outcome);
    return 0;
}
