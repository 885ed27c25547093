/* signal.alternate_stack. Fired by raise() with a handler on a stack of its own; that it runs there is checked before
 * the record is taken. Async-signal-safe libc may be used. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>

#include "probe_libc.h"
#include "steps.h"

static uint8_t stack[256 * 1024];

static void handler(int signal)
{
    uint8_t here;
    (void)signal;
    if (&here >= stack && &here < stack + sizeof(stack))
        RSM_PROBE_LIBC(signal, alternate_stack);
}

void rsm_signal_alternate_stack(void)
{
    stack_t alternate = {.ss_sp = stack, .ss_size = sizeof(stack)};
    stack_t none = {.ss_flags = SS_DISABLE};
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_ONSTACK};
    sigaltstack(&alternate, NULL);
    sigaction(SIGUSR1, &action, NULL);
    raise(SIGUSR1);
    sigaltstack(&none, NULL);
}
