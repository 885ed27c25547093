/* A raw clone(2) with a TLS block of the caller's making, for x86-64. */
#ifndef RSM_ARCH_X86_64_CLONE_H
#define RSM_ARCH_X86_64_CLONE_H

#include <stdint.h>

#include "arch.h"

/* Starts a thread that calls start() and ends. `stack_end` is 16-byte aligned. *alive must be 1; the kernel sets it to
 * 0 and wakes its futex when the thread has ended. Returns the thread id, or a negated errno.
 *
 *                rax = clone(flags, stack_end, 0, alive, thread_pointer)
 *                if (rax != 0) goto parent
 *                rbp = 0, start(), exit(0)            the new thread: it has only its registers, start is in r9
 *     parent:    return rax
 *
 * Clobbers rcx and r11, as each system call does. */
static inline long rsm_raw_thread(void (*start)(void), uint8_t *stack_end, uint8_t *thread_pointer, int32_t *alive)
{
    /* VM, FS, FILES, SIGHAND, THREAD, SYSVSEM, SETTLS, CHILD_CLEARTID */
    enum { FLAGS = 0x100 | 0x200 | 0x400 | 0x800 | 0x10000 | 0x40000 | 0x80000 | 0x200000 };
    long result;
    register int32_t *r10 __asm__("r10") = alive;
    register uint8_t *r8 __asm__("r8") = thread_pointer;
    register void (*r9)(void) __asm__("r9") = start;
    __asm__ volatile("syscall\n\t"
                     "testq %%rax, %%rax\n\t"
                     "jnz .Lrsm_parent%=\n\t"
                     "xorl %%ebp, %%ebp\n\t" /* the new thread: outermost frame */
                     "callq *%%r9\n\t"
                     "xorl %%edi, %%edi\n\t"
                     "movl %[exit], %%eax\n\t"
                     "syscall\n"
                     ".Lrsm_parent%=:"
                     : "=a"(result)
                     : "a"((long)RSM_SYS_CLONE), "D"((long)FLAGS), "S"(stack_end), "d"(0L), "r"(r10), "r"(r8),
                       "r"(r9), [exit] "i"(RSM_SYS_EXIT)
                     : "rcx", "r11", "memory", "cc");
    return result;
}

/* The first word of the TCB is its own address (ELF TLS ABI, variant II). */
static inline void rsm_thread_block_prepare(uint8_t *thread_pointer)
{
    *(uint64_t *)thread_pointer = (uint64_t)thread_pointer;
}

#endif
