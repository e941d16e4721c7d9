// Purpose: syscall(2), so that a program that forks with syscall(SYS_clone | SYS_clone3 | SYS_fork) gets a private heap in
//          the child like any other. Everything else goes straight to the kernel.
// Who calls it: the program, through libc's prototype long syscall(long number, ...).
// Crash rule: no state.
//
// In assembly because the child may return on another stack than the parent.
        .text
        .globl  syscall
        .type   syscall, @function
        .hidden aep_before_fork
        .hidden aep_after_fork_parent
        .hidden aep_after_fork_child
        .hidden aep_syscall_failed

#define NR_clone  56
#define NR_fork   57
#define NR_clone3 435
#define CLONE_VM  0x100

syscall:
        .cfi_startproc
        endbr64
        cmpq    $NR_fork, %rdi
        je      .Lforking
        cmpq    $NR_clone, %rdi
        je      .Lclone
        cmpq    $NR_clone3, %rdi
        je      .Lclone3
.Lplain:
        movq    %rdi, %rax
        movq    %rsi, %rdi
        movq    %rdx, %rsi
        movq    %rcx, %rdx
        movq    %r8, %r10
        movq    %r9, %r8
        movq    8(%rsp), %r9
        syscall
.Lresult:
        cmpq    $-4095, %rax
        jae     .Lfailed
        ret
.Lfailed:
        movq    %rax, %rdi
        jmp     aep_syscall_failed

.Lclone:
        testl   $CLONE_VM, %esi
        jnz     .Lplain
        jmp     .Lforking
.Lclone3:
        testq   %rsi, %rsi
        jz      .Lplain
        testl   $CLONE_VM, (%rsi)
        jnz     .Lplain
.Lforking:
        // Keep the six arguments over the call; seven pushes also align the stack.
        pushq   %rdi
        pushq   %rsi
        pushq   %rdx
        pushq   %rcx
        pushq   %r8
        pushq   %r9
        subq    $8, %rsp
        .cfi_adjust_cfa_offset 56
        call    aep_before_fork
        addq    $8, %rsp
        popq    %r8             // a5 -> r8 of the kernel's convention
        popq    %r10            // a4
        popq    %rdx            // a3
        popq    %rsi            // a2
        popq    %rdi            // a1
        popq    %rcx            // number
        .cfi_adjust_cfa_offset -56
        testl   %eax, %eax
        jnz     .Lrefused
        movq    %rcx, %rax
        syscall
        testq   %rax, %rax
        jz      .Lchild
.Lparent:
        pushq   %rax
        .cfi_adjust_cfa_offset 8
        call    aep_after_fork_parent
        popq    %rax
        .cfi_adjust_cfa_offset -8
        jmp     .Lresult
.Lrefused:
        negl    %eax
        cltq
        jmp     .Lparent
.Lchild:
        // Perhaps on a stack of the program's choice, whose alignment is unknown.
        pushq   %rbp
        movq    %rsp, %rbp
        andq    $-16, %rsp
        call    aep_after_fork_child
        movq    %rbp, %rsp
        popq    %rbp
        xorl    %eax, %eax
        ret
        .cfi_endproc
        .size   syscall, . - syscall
        .section .note.GNU-stack, "", @progbits
