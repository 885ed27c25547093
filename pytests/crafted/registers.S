/* x86-64: what registers hold behind some instructions, told by what the code then does with them: it writes into the
 * area of glibc, or it calls rseq(2). */
        .macro begin name
        .globl \name
        .type \name, @function
\name:
        .endm

        .macro ready name
        ret
        .size \name, . - \name
        .endm

        .macro area
        movq __rseq_offset@GOTPCREL(%rip), %rax
        movq (%rax), %rax
        .endm

        .text
/* movslq of a register: -4 with a sign, so that the field at 8 - 4 is written, cpu_id. */
        begin crafted_sign
        area
        movl $0xfffffffc, %ecx
        movslq %ecx, %rcx
        movl $0, %fs:8(%rax, %rcx)
        ready crafted_sign

/* movslq of memory loads four bytes: that is no pointer to __rseq_offset. */
        begin crafted_half_of_a_pointer
        movslq __rseq_offset@GOTPCREL(%rip), %rax
        movq (%rax), %rax
        movl $0, %fs:4(%rax)
        ready crafted_half_of_a_pointer

/* 32 bits of result: 4 GiB - 4, and not -4. */
        begin crafted_truncated
        area
        xorl %ecx, %ecx
        leal -4(%rcx), %ecx
        movl $0, %fs:8(%rax, %rcx)
        ready crafted_truncated

/* cmpxchg loads eax where it does not store. */
        begin crafted_number_is_lost
        movl $32, %esi
        movl $334, %eax
        lock cmpxchgl %ecx, (%rdi)
        syscall
        ready crafted_number_is_lost

/* The system call instruction has its return address in rcx, and its flags in r11 (syscall(2)). */
        begin crafted_rcx_is_lost
        movl $32, %ecx
        movl $39, %eax
        syscall
        movl %ecx, %esi
        movl $334, %eax
        syscall
        ready crafted_rcx_is_lost

        begin crafted_r11_is_lost
        movl $32, %r11d
        movl $39, %eax
        syscall
        movl %r11d, %esi
        movl $334, %eax
        syscall
        ready crafted_r11_is_lost

/* What neither of them changes. */
        begin crafted_kept
        movl $32, %ebx
        movl $39, %eax
        lock cmpxchgl %ecx, (%rdi)
        syscall
        movl %ebx, %esi
        movl $334, %eax
        syscall
        ready crafted_kept

/* A loop: its length grows. The end of the second is further away than inspect looks. */
        begin crafted_near_loop
        movl $32, %esi
1:      movl $334, %eax
        syscall
        addl $32, %esi
        jmp 1b
        ready crafted_near_loop

        begin crafted_far_loop
        movl $32, %esi
1:      movl $334, %eax
        syscall
        .rept 100
        nop
        .endr
        addl $32, %esi
        jmp 1b
        ready crafted_far_loop

        .section .note.GNU-stack, "", @progbits
