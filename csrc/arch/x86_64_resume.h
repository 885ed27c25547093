/* Returns from a signal handler to the interrupted code without rt_sigreturn(2), for x86-64: the kernel returns with an
 * instruction that waits until every earlier store can be seen by the other CPUs, and here they must not have arrived.
 *
 * Only for a handler that runs with the signal mask of the interrupted code (SA_NODEFER, an empty sa_mask) and on the
 * same stack. */
#ifndef RSM_ARCH_X86_64_RESUME_H
#define RSM_ARCH_X86_64_RESUME_H

#include <stdint.h>
#include <ucontext.h>

struct resume_line {
    uint64_t word;
} __attribute__((aligned(64)));

/* registers in rdi, floating_point in rsi, line in rdx, count in rcx. Does not return; clobbers nothing that the
 * interrupted code has.
 *
 *                      if (!floating_point) goto stores
 *                      if (XSAVE did not write it) goto fxsave         the kernel says so: FP_XSTATE_MAGIC1
 *                      xrstor, goto stores
 *     fxsave:          fxrstor
 *     stores:          if (count == 0) goto registers
 *                      line++->word = count--
 *                      goto stores
 *     registers:       store rip and rdi below the red zone of the interrupted function (psABI 3.2.2)
 *                      restore the flags and all registers but rsp, rip and rdi
 *                      rsp = where rdi was stored, pop rdi, return to rip and give the red zone back
 *
 * The offsets are those of uc_mcontext.gregs (sys/ucontext.h) and of asm/sigcontext.h. */
_Noreturn void resume_registers(const greg_t *registers, const void *floating_point, struct resume_line *line,
                                uint64_t count) __attribute__((visibility("hidden")));

#define RESUME_CODE                                                                                                    \
    ".pushsection .text\n"                                                                                             \
    ".globl resume_registers\n"                                                                                        \
    ".hidden resume_registers\n"                                                                                       \
    ".type resume_registers, @function\n"                                                                              \
    "resume_registers:\n\t"                                                                                            \
    "testq %rsi, %rsi\n\t"                                                                                             \
    "jz .Lresume_stores\n\t"                                                                                           \
    "cmpl $0x46505853, 464(%rsi)\n\t"                                                                                  \
    "jne .Lresume_fxsave\n\t"                                                                                          \
    "movq %rdx, %r8\n\t"                                                                                               \
    "movl $0xe7, %eax\n\t" /* x87, SSE, AVX, AVX-512 */                                                                \
    "xorl %edx, %edx\n\t"                                                                                              \
    "xrstor64 (%rsi)\n\t"                                                                                              \
    "movq %r8, %rdx\n\t"                                                                                               \
    "jmp .Lresume_stores\n\t"                                                                                          \
    ".Lresume_fxsave:\n\t"                                                                                             \
    "fxrstor64 (%rsi)\n"                                                                                               \
    ".Lresume_stores:\n\t"                                                                                             \
    "testq %rcx, %rcx\n\t"                                                                                             \
    "jz .Lresume_registers\n\t"                                                                                        \
    "movq %rcx, (%rdx)\n\t"                                                                                            \
    "addq $64, %rdx\n\t"                                                                                               \
    "decq %rcx\n\t"                                                                                                    \
    "jmp .Lresume_stores\n"                                                                                            \
    ".Lresume_registers:\n\t"                                                                                          \
    "movq 120(%rdi), %rcx\n\t" /* rsp */                                                                               \
    "movq 128(%rdi), %rdx\n\t" /* rip */                                                                               \
    "movq %rdx, -136(%rcx)\n\t"                                                                                        \
    "movq 64(%rdi), %rdx\n\t" /* rdi */                                                                                \
    "movq %rdx, -144(%rcx)\n\t"                                                                                        \
    "pushq 136(%rdi)\n\t" /* rflags */                                                                                 \
    "popfq\n\t"                                                                                                        \
    "movq 0(%rdi), %r8\n\t"                                                                                            \
    "movq 8(%rdi), %r9\n\t"                                                                                            \
    "movq 16(%rdi), %r10\n\t"                                                                                          \
    "movq 24(%rdi), %r11\n\t"                                                                                          \
    "movq 32(%rdi), %r12\n\t"                                                                                          \
    "movq 40(%rdi), %r13\n\t"                                                                                          \
    "movq 48(%rdi), %r14\n\t"                                                                                          \
    "movq 56(%rdi), %r15\n\t"                                                                                          \
    "movq 72(%rdi), %rsi\n\t"                                                                                          \
    "movq 80(%rdi), %rbp\n\t"                                                                                          \
    "movq 88(%rdi), %rbx\n\t"                                                                                          \
    "movq 96(%rdi), %rdx\n\t"                                                                                          \
    "movq 104(%rdi), %rax\n\t"                                                                                         \
    "leaq -144(%rcx), %rsp\n\t"                                                                                        \
    "movq 112(%rdi), %rcx\n\t"                                                                                         \
    "popq %rdi\n\t"                                                                                                    \
    "ret $128\n\t"                                                                                                     \
    ".size resume_registers, . - resume_registers\n\t"                                                                 \
    ".popsection"

#endif
