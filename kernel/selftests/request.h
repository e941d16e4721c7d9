/* Purpose: what a test asks of its thread inside the protected text.
 * Who calls it: image.c, which carries it out there; the tests.
 * Crash rule: it lies in memory that parent and child share, so it outlives the child. */
#pragma once

enum op {
    OP_RETURN,       /* nothing */
    OP_HOLD,         /* stay until `go` */
    OP_UPDATE,       /* two counters that have to stay equal, with arg[0] steps of work between */
    OP_SYSCALL,      /* system call arg[0], with arg[1..6] */
    OP_WAIT,         /* sleep until `go`, however often it is interrupted */
    OP_HELD_SYSCALL, /* the same, once `go` */
    OP_STACK,        /* once `go`, touch arg[0] new pages of the stack */
    OP_LOOP,         /* never return */
    OP_UD2,          /* raise an exception */
    OP_DIVIDE,       /* another */
    OP_READ,         /* read, */
    OP_WRITE,        /* write, */
    OP_JUMP,         /* or execute at arg[0] */
};

/* What OP_UPDATE does between its two stores, or-ed into arg[1]. */
enum { WORK_SYSCALL = 1, WORK_STACK = 2 };

struct request {
    volatile int op, go;
    volatile int inside, done; /* set when the operation begins and ends */
    volatile int returned;     /* set by the code that called it */
    volatile long steps;       /* grows while it holds */
    volatile long first, second;
    volatile long result;
    long arg[7];
};
