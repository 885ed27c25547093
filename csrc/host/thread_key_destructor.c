/* thread.key_destructor and thread.key_destructor_last_round. Fired at the end of a thread, after its thread_local
 * destructors; a destructor that sets its key again is called again, PTHREAD_DESTRUCTOR_ITERATIONS times in all. libc
 * may be used. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "host.h"
#include "probe_libc.h"
#include "steps.h"

static pthread_key_t key;
static int round_number, recorded_round;

static void destructor(void *value)
{
    round_number++;
    if (round_number == 1) {
        RSM_PROBE_LIBC(thread, key_destructor);
    } else if (round_number == sysconf(_SC_THREAD_DESTRUCTOR_ITERATIONS)) {
        RSM_PROBE_LIBC(thread, key_destructor_last_round);
        recorded_round = round_number;
    }
    pthread_setspecific(key, value);
}

static void *start(void *argument)
{
    rsm_thread_begins();
    pthread_setspecific(key, &key);
    return argument;
}

void rsm_thread_key_destructor(void)
{
    pthread_t thread;
    if (!rsm_stage_enabled(RSM_STAGE_thread_key_destructor) &&
        !rsm_stage_enabled(RSM_STAGE_thread_key_destructor_last_round))
        return;
    if (pthread_key_create(&key, destructor) != 0)
        return;
    if (pthread_create(&thread, NULL, start, NULL) == 0)
        pthread_join(thread, NULL);
    if (recorded_round != round_number)
        _Exit(EXIT_FAILURE); /* there was another round: what was recorded was not the last */
    pthread_key_delete(key);
}
