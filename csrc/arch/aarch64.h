/* What differs between machines: the raw system call, the thread pointer. aarch64, little-endian. The subjects are
 * written for it; the probes and what belongs to their tracer are not. */
#ifndef RSM_ARCH_AARCH64_H
#define RSM_ARCH_AARCH64_H

#include <stdint.h>

/* Returns what the kernel returns: -4095 to -1 is a negated errno. There is no errno here: it lives in TLS. */
static inline long rsm_syscall(long number, long a, long b, long c, long d, long e, long f)
{
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;
    __asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
    return x0;
}

/* include/uapi/asm-generic/unistd.h */
#define RSM_SYS_OPENAT 56
#define RSM_SYS_CLOSE 57
#define RSM_SYS_READ 63
#define RSM_SYS_PRCTL 167
#define RSM_SYS_RSEQ 293

#define RSM_AUDIT_ARCH 0xc00000b7u /* AUDIT_ARCH_AARCH64 of linux/audit.h */
#define RSM_RELATIVE 1027 /* R_AARCH64_RELATIVE: the load address plus an addend (aaelf64, Dynamic relocations) */

/* TPIDR_EL0, 0 where it is not set. Every program may read it. */
static inline uint64_t rsm_thread_pointer(void)
{
    uint64_t pointer;
    __asm__ volatile("mrs %0, tpidr_el0" : "=r"(pointer));
    return pointer;
}

/* The same where it is known to be set. */
static inline uint64_t rsm_thread_pointer_set(void)
{
    return rsm_thread_pointer();
}

/* open(2), for reading. This machine has only openat(2). */
static inline long rsm_open(const char *path)
{
    enum { AT_FDCWD_NUMBER = -100 };
    return rsm_syscall(RSM_SYS_OPENAT, AT_FDCWD_NUMBER, (long)path, 0, 0, 0, 0);
}

/* Whether the relocations of the object that this code is linked into have been applied: a pointer that needs one,
 * against the same address computed from the instruction pointer.
 *
 *     canary: the address of canary                in .data.rel.rsm_canary
 *     %[stored] = *canary, %[computed] = &canary   equal if the relocation of the pointer is done */
static inline uint32_t rsm_own_relocations_done(void)
{
    uint64_t stored, computed;
    __asm__("adrp %[computed], .Lrsm_canary%=\n\t"
            "add %[computed], %[computed], :lo12:.Lrsm_canary%=\n\t"
            "ldr %[stored], [%[computed]]\n\t"
            ".pushsection .data.rel.rsm_canary, \"aw\"\n\t"
            ".balign 8\n"
            ".Lrsm_canary%=: .quad .Lrsm_canary%=\n\t"
            ".popsection"
            : [stored] "=&r"(stored), [computed] "=&r"(computed)
            :
            : "memory");
    return stored == computed;
}

#endif
