/* Planted defects, for tests that the matrix reports them. Only probes built with RSM_SABOTAGE_BUILD contain them; in
 * every other build rsm_sabotaged() is the constant 0 and the compiler drops the code. */
#ifndef RSM_SABOTAGE_H
#define RSM_SABOTAGE_H

#include "arch.h"
#include "record.h"

#ifdef RSM_SABOTAGE_BUILD

static inline int rsm_sabotaged(uint32_t planted, enum rsm_sabotage kind)
{
    return planted == (uint32_t)kind;
}

static inline void rsm_sabotage_crash(void)
{
    *(volatile int *)8 = 0;
}

static inline void rsm_sabotage_hang(void)
{
    for (;;)
        rsm_syscall(RSM_SYS_PAUSE, 0, 0, 0, 0, 0, 0);
}

static inline void rsm_sabotage_garbage(void)
{
    static const char bytes[] = "\x7f\xff garbage \x00\n";
    rsm_syscall(RSM_SYS_WRITE, 1, (long)bytes, sizeof(bytes), 0, 0, 0);
}

static inline void rsm_sabotage_stray_child(void)
{
    if (rsm_syscall(RSM_SYS_FORK, 0, 0, 0, 0, 0, 0) != 0)
        return;
    rsm_syscall(RSM_SYS_SETSID, 0, 0, 0, 0, 0, 0);
    rsm_sabotage_hang();
}

static inline void rsm_sabotage_kill(void)
{
    enum { SIGKILL_NUMBER = 9 };
    long pid = rsm_syscall(RSM_SYS_GETPID, 0, 0, 0, 0, 0, 0);
    rsm_syscall(RSM_SYS_KILL, pid, SIGKILL_NUMBER, 0, 0, 0, 0);
}

/* The defects that happen while a record is begun and not yet complete. */
static inline void rsm_sabotage_act(uint32_t planted)
{
    if (planted == RSM_SABOTAGE_CRASH)
        rsm_sabotage_crash();
    else if (planted == RSM_SABOTAGE_HANG)
        rsm_sabotage_hang();
    else if (planted == RSM_SABOTAGE_GARBAGE)
        rsm_sabotage_garbage();
    else if (planted == RSM_SABOTAGE_STRAY_CHILD)
        rsm_sabotage_stray_child();
    else if (planted == RSM_SABOTAGE_EARLY_EXIT)
        rsm_syscall(RSM_SYS_EXIT_GROUP, 0, 0, 0, 0, 0, 0);
}

#else

static inline int rsm_sabotaged(uint32_t planted, enum rsm_sabotage kind)
{
    (void)planted;
    (void)kind;
    return 0;
}

static inline void rsm_sabotage_act(uint32_t planted)
{
    (void)planted;
}

static inline void rsm_sabotage_kill(void)
{
}

#endif
#endif
