/* vfork() for aarch64, between rsm_before_vfork() and, in the parent, rsm_after_vfork(). The child returns first, on
 * its parent's stack; the return address is in a register, which the kernel keeps for both. This machine has only
 * clone(2), here with CLONE_VM, CLONE_VFORK and SIGCHLD. */
#ifndef RSM_ARCH_AARCH64_VFORK_H
#define RSM_ARCH_AARCH64_VFORK_H

__asm__(".pushsection .text\n\t"
        ".globl vfork\n\t"
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
        ".popsection");

#endif
