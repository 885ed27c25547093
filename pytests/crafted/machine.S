/* What the crafted critical sections need of a machine, for section.S to include.
 *
 * POINTER(x)           one 64-bit field that holds an address (struct rseq_cs has 64-bit fields on every machine)
 * SIGNATURE            glibc's RSEQ_SIG of the machine (its bits/rseq.h)
 * SIGNATURE_OPENING    bytes before it that make an instruction of it, on x86
 * ENTER                publishes the descriptor in struct rseq; on x86-64 only, where section_run.c runs the section
 * SPIN                 waits inside the section until another thread or a handler releases it
 * CONTINUED, ABORTED   the return value 0, and 1
 */
#if defined(__x86_64__)
#define POINTER(x) .quad x
#define SIGNATURE_OPENING .byte 0x0f, 0xb9, 0x3d
#define SIGNATURE 0x53053053
#define ENTER leaq .Ldescriptor(%rip), %rax; movq %rax, 8(%rdi)
#define SPIN 1: cmpl $0, (%rsi); je 1b
#define CONTINUED xorl %eax, %eax; movq $0, 8(%rdi)
#define ABORTED movl $1, %eax; movq $0, 8(%rdi)
#define SYSTEM_CALL movl $39, %eax; syscall
#define CALL(x) call x
#define BRANCH(x) je x
#define JUMP(x) jmp x
#define JUMP_INDIRECTLY jmp *%rdx
#define RETURN ret
#define UNDECODABLE .byte 0x06

#elif defined(__i386__)
#define POINTER(x) .long x, 0
#define SIGNATURE_OPENING .byte 0x0f, 0xb9, 0x3d
#define SIGNATURE 0x53053053
#define SPIN 1: cmpl $0, (%ecx); je 1b
#define CONTINUED xorl %eax, %eax
#define ABORTED movl $1, %eax
#define SYSTEM_CALL int $0x80
#define CALL(x) call x
#define BRANCH(x) je x
#define JUMP(x) jmp x
#define JUMP_INDIRECTLY jmp *%edx
#define RETURN ret
#define UNDECODABLE .byte 0x0f, 0x04

#elif defined(__aarch64__)
#define POINTER(x) .quad x
#define SIGNATURE 0xd428bc00
#define SPIN 1: ldr w2, [x1]; cbz w2, 1b
#define CONTINUED mov w0, #0
#define ABORTED mov w0, #1
#define SYSTEM_CALL svc #0
#define CALL(x) bl x
#define BRANCH(x) b.eq x
#define JUMP(x) b x
#define JUMP_INDIRECTLY br x2
#define RETURN ret
#define UNDECODABLE .long 0xffffffff

#elif defined(__arm__)
        .syntax unified
#define POINTER(x) .long x, 0
#define SIGNATURE 0xe7f5def3
#define SPIN 1: ldr r2, [r1]; cmp r2, #0; beq 1b
#define CONTINUED mov r0, #0
#define ABORTED mov r0, #1
#define SYSTEM_CALL svc #0
#define CALL(x) bl x
#define BRANCH(x) beq x
#define JUMP(x) b x
#define JUMP_INDIRECTLY bx r2
#define RETURN bx lr
#define UNDECODABLE .long 0xffffffff

#elif defined(__powerpc64__)
#define POINTER(x) .quad x
#define SIGNATURE 0x0fe5000b
#define SPIN 1: lwz 5, 0(4); cmpwi 5, 0; beq 1b
#define CONTINUED li 3, 0
#define ABORTED li 3, 1
#define SYSTEM_CALL sc
#define CALL(x) bl x
#define BRANCH(x) beq x
#define JUMP(x) b x
#define JUMP_INDIRECTLY bctr
#define RETURN blr
#define UNDECODABLE .long 0x00000000

#elif defined(__s390x__)
#define POINTER(x) .quad x
#define SIGNATURE 0xb2ff0fff
#define SPIN 1: lt %r4, 0(%r3); je 1b
#define CONTINUED lghi %r2, 0
#define ABORTED lghi %r2, 1
#define SYSTEM_CALL svc 0
#define CALL(x) brasl %r14, x
#define BRANCH(x) jge x
#define JUMP(x) jg x
#define JUMP_INDIRECTLY br %r4
#define RETURN br %r14
#define UNDECODABLE .byte 0x00, 0x00

#elif defined(__riscv)
#define POINTER(x) .quad x
#define SIGNATURE 0xf1401073
#define SPIN 1: lw a2, 0(a1); beqz a2, 1b
#define CONTINUED li a0, 0
#define ABORTED li a0, 1
#define SYSTEM_CALL ecall
#define CALL(x) jal ra, x
#define BRANCH(x) beqz a2, x
#define JUMP(x) j x
#define JUMP_INDIRECTLY jr a2
#define RETURN ret
#define UNDECODABLE .long 0xffffffff
#endif

#ifndef SIGNATURE_OPENING
#define SIGNATURE_OPENING
#endif
#ifndef ENTER
#define ENTER
#endif
