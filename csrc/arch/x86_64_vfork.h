/* vfork() and clone() for x86-64, with something done before and after. Neither knows of shadow stacks, so an object
 * with them is compiled with -fcf-protection=none. */
#ifndef RSM_ARCH_X86_64_VFORK_H
#define RSM_ARCH_X86_64_VFORK_H

/* pid_t vfork(void): a call, with the registers that a call clobbers. The child returns first, on its parent's stack,
 * and would overwrite the return address there: it is kept in rdi, which the kernel keeps for both.
 *
 *                   rsm_before_vfork()
 *                   rdi = the return address, taken off the stack
 *                   rax = vfork()
 *                   put rdi back on the stack
 *                   if (rax == 0) goto vfork_child
 *                   return rsm_after_vfork(rax)     in the parent, and where it failed
 *     vfork_child:  return 0 */
__asm__(".pushsection .text\n\t"
        ".globl vfork, __vfork\n\t"
        ".type vfork, @function\n"
        "vfork:\n\t"
        "subq $8, %rsp\n\t"
        "call rsm_before_vfork\n\t"
        "addq $8, %rsp\n\t"
        "popq %rdi\n\t"
        "movl $58, %eax\n\t"
        "syscall\n\t"
        "pushq %rdi\n\t"
        "testq %rax, %rax\n\t"
        "je .Lrsm_vfork_child\n\t"
        "movq %rax, %rdi\n\t"
        "jmp rsm_after_vfork\n"
        ".Lrsm_vfork_child:\n\t"
        "ret\n\t"
        ".size vfork, . - vfork\n\t"
        ".set __vfork, vfork\n\t"
        ".popsection");

/* long rsm_clone(start rdi, stack rsi, flags edx, argument rcx, parent_tid r8, tls r9, child_tid 8(rsp)): a call, with
 * the registers that a call clobbers. Returns the child's id, or a negated errno.
 *
 *                   put start and argument on the new stack, aligned to 16 bytes
 *                   rax = clone(flags, stack, parent_tid, child_tid, tls)
 *                   if (rax == 0) goto clone_child
 *                   return rax
 *     clone_child:  rbp = 0, exit(start(argument)) */
__asm__(".pushsection .text\n\t"
        ".globl rsm_clone\n\t"
        ".hidden rsm_clone\n\t"
        ".type rsm_clone, @function\n"
        "rsm_clone:\n\t"
        "andq $-16, %rsi\n\t"
        "subq $16, %rsi\n\t"
        "movq %rcx, 8(%rsi)\n\t" /* argument */
        "movq %rdi, (%rsi)\n\t"  /* start */
        "movl %edx, %edi\n\t"    /* flags */
        "movq %r8, %rdx\n\t"     /* parent_tid */
        "movq 8(%rsp), %r10\n\t" /* child_tid */
        "movq %r9, %r8\n\t"      /* tls */
        "movl $56, %eax\n\t"
        "syscall\n\t"
        "testq %rax, %rax\n\t"
        "je .Lrsm_clone_child\n\t"
        "ret\n"
        ".Lrsm_clone_child:\n\t"
        "xorl %ebp, %ebp\n\t" /* the outermost frame */
        "popq %rax\n\t"
        "popq %rdi\n\t"
        "callq *%rax\n\t"
        "movl %eax, %edi\n\t"
        "movl $60, %eax\n\t"
        "syscall\n\t"
        ".size rsm_clone, . - rsm_clone\n\t"
        ".popsection");

#endif
