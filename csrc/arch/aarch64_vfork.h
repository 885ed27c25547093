/* vfork() and clone() for aarch64, with something done before and after. This machine has only clone(2). */
#ifndef RSM_ARCH_AARCH64_VFORK_H
#define RSM_ARCH_AARCH64_VFORK_H

/* pid_t vfork(void): a call, with the registers that a call clobbers. The child returns first, on its parent's stack;
 * the return address is in x30, which the kernel keeps for both.
 *
 *                   rsm_before_vfork()
 *                   x0 = clone(CLONE_VM | CLONE_VFORK | SIGCHLD, the parent's stack pointer, 0, 0, 0)
 *                   if (x0 == 0) goto vfork_child
 *                   return rsm_after_vfork(x0)      in the parent, and where it failed
 *     vfork_child:  return 0 */
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
        "cbz x0, .Lrsm_vfork_child\n\t"
        "b rsm_after_vfork\n"
        ".Lrsm_vfork_child:\n\t"
        "ret\n\t"
        ".size vfork, . - vfork\n\t"
        ".set __vfork, vfork\n\t"
        ".popsection");

/* long rsm_clone(start x0, stack x1, flags w2, argument x3, parent_tid x4, tls x5, child_tid x6): a call, with the
 * registers that a call clobbers. Returns the child's id, or a negated errno.
 *
 *                   x10 = start, x11 = argument
 *                   x0 = clone(flags, stack, aligned to 16 bytes, parent_tid, tls, child_tid)
 *                   if (x0 == 0) goto clone_child
 *                   return x0
 *     clone_child:  x29 = 0, exit(start(argument)) */
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
        "cbz x0, .Lrsm_clone_child\n\t"
        "ret\n"
        ".Lrsm_clone_child:\n\t"
        "mov x29, #0\n\t" /* the outermost frame */
        "mov x0, x11\n\t"
        "blr x10\n\t"
        "mov x8, #93\n\t"
        "svc #0\n\t"
        ".size rsm_clone, . - rsm_clone\n\t"
        ".popsection");

#endif
