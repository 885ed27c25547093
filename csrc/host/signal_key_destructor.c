/* signal.key_destructor. Fired by raise() inside a pthread_key_create() destructor; async-signal-safe libc may be used.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>

#include "host.h"
#include "probe_libc.h"
#include "steps.h"

static pthread_key_t key;

static void handler(int signal)
{
    (void)signal;
    RSM_PROBE_LIBC(signal, key_destructor);
}

static void destructor(void *value)
{
    (void)value;
    raise(SIGUSR1);
}

static void *start(void *argument)
{
    rsm_thread_begins();
    pthread_setspecific(key, &key);
    return argument;
}

void rsm_signal_key_destructor(void)
{
    pthread_t thread;
    signal(SIGUSR1, handler);
    if (pthread_key_create(&key, destructor) != 0)
        return;
    if (pthread_create(&thread, NULL, start, NULL) == 0)
        pthread_join(thread, NULL);
    pthread_key_delete(key);
}
