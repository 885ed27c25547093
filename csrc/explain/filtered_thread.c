/* A program that gets a seccomp filter in front of rseq(2), and starts a thread, to show what glibc does then.
 *
 *   filtered_thread late ANSWER   the filter is installed in main(): libc has registered the main thread by then
 *   filtered_thread early ANSWER  the filter is there before libc starts: the program installs it and executes itself
 *   filtered_thread never         there is no filter
 *
 * Prints whether main() and the thread were registered as far as a library can see: "main 1 thread 1". */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "registration.h"
#include "rseq/seccomp.h"

enum { USAGE = 2, NO_THREAD = 3, NO_FILTER = 5 };

static int registered(void)
{
    struct rsm_registration registration;
    rsm_registration_find(&registration);
    return rsm_user_registered(&registration);
}

static void *thread(void *seen)
{
    *(int *)seen = registered();
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t started;
    int in_main = registered(), in_thread = -1;
    if (argc < 2)
        return USAGE;
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); /* the abort that is expected leaves no core behind */
    if (argc > 2 && rsm_filter_rseq(atoi(argv[2])) != 0)
        return NO_FILTER;
    if (strcmp(argv[1], "early") == 0) {
        execl(argv[0], argv[0], "never", (char *)NULL);
        return USAGE;
    }
    if (pthread_create(&started, NULL, thread, &in_thread) != 0 || pthread_join(started, NULL) != 0)
        return NO_THREAD;
    printf("main %d thread %d\n", in_main, in_thread);
    return 0;
}
