/* process.coroutine. Fired in a makecontext() coroutine that began on the main thread and was resumed on another: the
 * thread pointer is the second thread's, so an address of the rseq area that was kept from before would be wrong. That
 * the threads differ is checked before the record is taken. libc may be used. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <ucontext.h>

#include "host.h"
#include "probe_libc.h"
#include "steps.h"

static ucontext_t coroutine, resumer;
static uint8_t stack[256 * 1024];

static void body(void)
{
    uint64_t began_on = rsm_thread_pointer();
    swapcontext(&coroutine, &resumer);
    if (rsm_thread_pointer() != began_on)
        RSM_PROBE_LIBC(process, coroutine);
    swapcontext(&coroutine, &resumer);
}

static void *resume(void *argument)
{
    swapcontext(&resumer, &coroutine);
    return argument;
}

static void *start(void *argument)
{
    rsm_thread_begins();
    return resume(argument);
}

void rsm_process_coroutine(void)
{
    pthread_t thread;
    getcontext(&coroutine);
    coroutine.uc_stack.ss_sp = stack;
    coroutine.uc_stack.ss_size = sizeof(stack);
    makecontext(&coroutine, body, 0);
    resume(NULL);
    if (pthread_create(&thread, NULL, start, NULL) == 0)
        pthread_join(thread, NULL);
}
