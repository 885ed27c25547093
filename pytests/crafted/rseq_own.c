/* rseq-length, rseq-alignment, rseq-write-read-only (a warning for an own area, which has to be initialised before it
 * is registered): an area of the object's own, __rseq_abi, and its registration.
 *
 * LENGTH     the second argument of rseq(2): below 32 bytes every kernel answers EINVAL, and not 32 before Linux 6.3
 * ALIGNMENT  of the area: below 32 rseq(2) answers EINVAL where the address happens not to be aligned
 * STORE      code that writes cpu_id, with what is no mark of an unregistered area (0, a CPU's number)
 * LOOP       the call is made again with a greater length
 * WRAPPER    the call is libc's syscall(2), as the last thing that the function does
 * MODEL      how the area is reached */
#include <stdint.h>
#ifdef WRAPPER
#include <unistd.h>
#endif

#ifndef LENGTH
#define LENGTH 32
#endif
#ifndef ALIGNMENT
#define ALIGNMENT 32
#endif
#ifndef MODEL
#define MODEL "initial-exec"
#endif

struct area {
    uint32_t cpu_id_start, cpu_id;
    uint64_t rseq_cs;
    uint32_t flags, node_id, mm_cid, padding;
} __attribute__((aligned(ALIGNMENT)));

static __thread uint32_t before __attribute__((used, tls_model("initial-exec"))) = 1;
__thread struct area __rseq_abi __attribute__((tls_model(MODEL))) = {.cpu_id = UINT32_MAX};

static long rseq(void *area, long length, long flags, long signature)
{
#ifdef WRAPPER
    return syscall(334, area, length, flags, signature);
#elif defined(__x86_64__)
    long result = 334;
    register long r10 __asm__("r10") = signature;
    __asm__ volatile("syscall" : "+a"(result) : "D"(area), "S"(length), "d"(flags), "r"(r10) : "rcx", "r11", "memory");
    return result;
#elif defined(__i386__)
    long result = 386;
    __asm__ volatile("int $0x80" : "+a"(result) : "b"(area), "c"(length), "d"(flags), "S"(signature) : "memory");
    return result;
#elif defined(__aarch64__) || defined(__riscv)
#ifdef __riscv
    register long number __asm__("a7") = 293;
    register long result __asm__("a0") = (long)area;
    register long a1 __asm__("a1") = length, a2 __asm__("a2") = flags, a3 __asm__("a3") = signature;
    __asm__ volatile("ecall" : "+r"(result) : "r"(number), "r"(a1), "r"(a2), "r"(a3) : "memory");
#else
    register long number __asm__("x8") = 293;
    register long result __asm__("x0") = (long)area;
    register long x1 __asm__("x1") = length, x2 __asm__("x2") = flags, x3 __asm__("x3") = signature;
    __asm__ volatile("svc #0" : "+r"(result) : "r"(number), "r"(x1), "r"(x2), "r"(x3) : "memory");
#endif
    return result;
#elif defined(__arm__)
    register long number __asm__("r7") = 398;
    register long result __asm__("r0") = (long)area;
    register long r1 __asm__("r1") = length, r2 __asm__("r2") = flags, r3 __asm__("r3") = signature;
    __asm__ volatile("svc #0" : "+r"(result) : "r"(number), "r"(r1), "r"(r2), "r"(r3) : "memory");
    return result;
#elif defined(__powerpc64__)
    register long number __asm__("r0") = 387;
    register long result __asm__("r3") = (long)area;
    register long r4 __asm__("r4") = length, r5 __asm__("r5") = flags, r6 __asm__("r6") = signature;
    __asm__ volatile("sc" : "+r"(number), "+r"(result), "+r"(r4), "+r"(r5), "+r"(r6) : : "memory", "cr0");
    return result;
#elif defined(__s390x__)
    register long number __asm__("r1") = 383;
    register long result __asm__("r2") = (long)area;
    register long r3 __asm__("r3") = length, r4 __asm__("r4") = flags, r5 __asm__("r5") = signature;
    __asm__ volatile("svc 0" : "+d"(result) : "d"(number), "d"(r3), "d"(r4), "d"(r5) : "memory");
    return result;
#endif
}

long crafted_register(void);
long crafted_register(void)
{
#ifdef STORE
    *(volatile uint32_t *)&__rseq_abi.cpu_id = 0;
#endif
#ifdef LOOP
    long length = LENGTH;
    while (rseq(&__rseq_abi, length, 0, 0x53053053) < 0)
        length += 32;
    return length;
#else
    return rseq(&__rseq_abi, LENGTH, 0, 0x53053053);
#endif
}
