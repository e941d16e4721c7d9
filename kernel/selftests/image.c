/* Purpose: the protected text of the tests, and its shadow entry.
 * Who calls it: tests, with a request in rdi, by a call of AEP_SHADOW.
 * Crash rule: what lies in .text completes although its thread is killed; what lies in .shadow does
 *             not. */
#include "kernel/selftests/request.h"

__asm__(
    ".section .shadow, \"ax\"\n"
    "    sub $8, %rsp\n"
    "    call image_main\n"
    "    add $8, %rsp\n"
    "    ret\n"
    "    .previous\n");

/* As in any image: a system call instruction that a return follows, of use to whoever finds it. */
__asm__(
    ".text\n"
    "image_syscall: syscall\n"
    "    ret\n");

static long raw_syscall(const long* arg) {
    register long r10 __asm__("r10") = arg[4];
    register long r8 __asm__("r8") = arg[5];
    register long r9 __asm__("r9") = arg[6];
    long result;

    __asm__ volatile(
        "sub $128, %%rsp\n"
        "call image_syscall\n"
        "add $128, %%rsp\n"
        : "=a"(result)
        : "a"(arg[0]), "D"(arg[1]), "S"(arg[2]), "d"(arg[3]), "r"(r10), "r"(r8), "r"(r9)
        : "rcx", "r11", "memory");
    return result;
}

static void hold(struct request* r) {
    while (!r->go) {
        r->steps++;
        __builtin_ia32_pause();
    }
}

/* A frame of one OS page, written. */
__attribute__((noinline)) static long touch_stack(long pages) {
    volatile char page[4096];

    page[0] = (char)pages;
    return (pages > 1 ? touch_stack(pages - 1) : 0) + page[0];
}

static void update(struct request* r) {
    static const long getpid_call[7] = {39};

    r->first++;
    for (long i = 0; i < r->arg[0]; i++) {
        r->steps++;
        if ((r->arg[1] & WORK_SYSCALL) && i % 8 == 0) raw_syscall(getpid_call);
        if ((r->arg[1] & WORK_STACK) && i % 8 == 0) touch_stack(1 + i % 32);
    }
    r->second++;
}

__attribute__((used)) void image_main(struct request* r) {
    r->inside = 1;
    switch (r->op) {
        case OP_HOLD:
            hold(r);
            break;
        case OP_UPDATE:
            update(r);
            break;
        case OP_SYSCALL:
            r->result = raw_syscall(r->arg);
            break;
        case OP_WAIT:
            while (!r->go) raw_syscall(r->arg);
            break;
        case OP_HELD_SYSCALL:
            hold(r);
            r->result = raw_syscall(r->arg);
            break;
        case OP_STACK:
            hold(r);
            r->result = touch_stack(r->arg[0]);
            break;
        case OP_LOOP:
            for (;;) r->steps++;
        case OP_UD2:
            __asm__ volatile("ud2");
            break;
        case OP_DIVIDE:
            __asm__ volatile("div %0" : : "r"(0UL) : "rax", "rdx");
            break;
        case OP_READ:
            r->result = *(volatile long*)r->arg[0];
            break;
        case OP_WRITE:
            *(volatile long*)r->arg[0] = r->arg[1];
            break;
        case OP_JUMP:
            ((void (*)(void))r->arg[0])();
            break;
        default:
            break;
    }
    r->done = 1;
}
