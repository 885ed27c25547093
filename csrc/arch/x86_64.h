/* What differs between machines: the raw system call, the thread pointer, a breakpoint for a tracer. x86-64. */
#ifndef RSM_ARCH_X86_64_H
#define RSM_ARCH_X86_64_H

#include <stdint.h>

/* Returns what the kernel returns: -4095 to -1 is a negated errno. There is no errno here: it lives in TLS. */
static inline long rsm_syscall(long number, long a, long b, long c, long d, long e, long f)
{
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

#define RSM_SYS_READ 0
#define RSM_SYS_WRITE 1
#define RSM_SYS_OPEN 2
#define RSM_SYS_CLOSE 3
#define RSM_SYS_MMAP 9
#define RSM_SYS_MUNMAP 11
#define RSM_SYS_RT_SIGACTION 13
#define RSM_SYS_MSYNC 26
#define RSM_SYS_PAUSE 34
#define RSM_SYS_GETPID 39
#define RSM_SYS_CLONE 56
#define RSM_SYS_FORK 57
#define RSM_SYS_EXIT 60
#define RSM_SYS_KILL 62
#define RSM_SYS_SETSID 112
#define RSM_SYS_PRCTL 157
#define RSM_SYS_ARCH_PRCTL 158
#define RSM_SYS_GETTID 186
#define RSM_SYS_FUTEX 202
#define RSM_SYS_EXIT_GROUP 231
#define RSM_SYS_TGKILL 234
#define RSM_SYS_GETCPU 309
#define RSM_SYS_RSEQ 334

#define RSM_AUDIT_ARCH 0xc000003eu /* AUDIT_ARCH_X86_64 of linux/audit.h */
#define RSM_RELATIVE 8             /* R_X86_64_RELATIVE: the load address plus an addend (psABI 4.4.1) */

/* The FS base, 0 where it is not set. Asked of the kernel: reading %fs:0 would fault before it is set. */
static inline uint64_t rsm_thread_pointer(void)
{
    enum { ARCH_GET_FS_BASE = 0x1003 };
    uint64_t base = 0;
    long result = rsm_syscall(RSM_SYS_ARCH_PRCTL, ARCH_GET_FS_BASE, (long)&base, 0, 0, 0, 0);
    return result < 0 ? 0 : base;
}

/* The same where it is known to be set: the first word of the TCB is its own address (psABI 3.4.6). */
static inline uint64_t rsm_thread_pointer_set(void)
{
    uint64_t pointer;
    __asm__("movq %%fs:0, %0" : "=r"(pointer));
    return pointer;
}

/* open(2), for reading. */
static inline long rsm_open(const char *path)
{
    return rsm_syscall(RSM_SYS_OPEN, (long)path, 0, 0, 0, 0, 0);
}

/* Stops for a tracer, which finds `magic` in rax and what is passed with it in rdi and rsi (x86_64_ptrace.h). Without a
 * tracer the SIGTRAP kills. */
static inline void rsm_trap(uint64_t magic, uint64_t argument)
{
    __asm__ volatile("int3" : : "a"(magic), "D"(argument) : "memory");
}

static inline void rsm_trap_with(uint64_t magic, uint64_t first, uint64_t second)
{
    __asm__ volatile("int3" : : "a"(magic), "D"(first), "S"(second) : "memory");
}

/* Whether the relocations of the object that this code is linked into have been applied: a pointer that needs one,
 * against the same address computed from the instruction pointer.
 *
 *     canary: the address of canary                in .data.rel.rsm_canary
 *     %[stored] = *canary, %[computed] = &canary   equal if the relocation of the pointer is done */
static inline uint32_t rsm_own_relocations_done(void)
{
    uint64_t stored, computed;
    __asm__("leaq .Lrsm_canary%=(%%rip), %[computed]\n\t"
            "movq .Lrsm_canary%=(%%rip), %[stored]\n\t"
            ".pushsection .data.rel.rsm_canary, \"aw\"\n\t"
            ".balign 8\n"
            ".Lrsm_canary%=: .quad .Lrsm_canary%=\n\t"
            ".popsection"
            : [stored] "=r"(stored), [computed] "=r"(computed)
            :
            : "memory");
    return stored == computed;
}

#endif
