/* vfork() for aarch64, between rsm_before_vfork() and, in the parent, rsm_after_vfork(). The child returns first, on
 * its parent's stack; the return address is in a register, which the kernel keeps for both. This machine has only
 * clone(2), here with CLONE_VM, CLONE_VFORK and SIGCHLD.
 *
 * And clone(), whose child calls start(argument), kept in registers, and ends with what that returns. */
#ifndef RSM_ARCH_AARCH64_VFORK_H
#define RSM_ARCH_AARCH64_VFORK_H

__asm__(".pushsection .text\n\t"
        ".globl vfork, __vfork\n\t"
        ".type vfork, %function\n"
        "vfork:\n\t"
        "stp x29, x30, [sp, #-16]!\n\t"
        "bl rsm_before_vfork\n\t"
        "ldp x29, x30, [sp], #16\n\t"
        "mov x0, #0x4111\n\t"
        "mov x1, #0\n\t" /* the parent's stack pointer */
        "mov x2, #0\n\t"
        "mov x3, #0\n\t"
        "mov x4, #0\n\t"
        "mov x8, #220\n\t"
        "svc #0\n\t"
        "cbz x0, 1f\n\t"
        "b rsm_after_vfork\n"
        "1: ret\n\t"
        ".size vfork, . - vfork\n\t"
        ".set __vfork, vfork\n\t"
        ".popsection");

__asm__(".pushsection .text\n\t"
        ".globl rsm_clone\n\t"
        ".hidden rsm_clone\n\t"
        ".type rsm_clone, %function\n"
        "rsm_clone:\n\t"
        "and x1, x1, #-16\n\t"
        "mov x10, x0\n\t" /* start */
        "mov x11, x3\n\t" /* argument */
        "mov w0, w2\n\t"  /* flags */
        "mov x2, x4\n\t"  /* parent_tid */
        "mov x3, x5\n\t"  /* tls */
        "mov x4, x6\n\t"  /* child_tid */
        "mov x8, #220\n\t"
        "svc #0\n\t"
        "cbz x0, 1f\n\t"
        "ret\n"
        "1: mov x29, #0\n\t" /* the outermost frame */
        "mov x0, x11\n\t"
        "blr x10\n\t"
        "mov x8, #93\n\t"
        "svc #0\n\t"
        ".size rsm_clone, . - rsm_clone\n\t"
        ".popsection");

#endif
