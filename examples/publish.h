/* Purpose: sends malloc'ed blocks to a named process, from a program that links no library of AEP.
 * Who calls it: examples/preloaded.c, any C program like it.
 * Crash rule: that of aep/dsm.h: a block is sent or it is not. */
#ifndef EXAMPLES_PUBLISH_H
#define EXAMPLES_PUBLISH_H

enum publish_result {
    PUBLISH_SENT,   /* the block lives on until the receiver frees it; free() it here as usual */
    PUBLISH_ALONE,  /* not under `aep run`, or nobody has that name: nothing happened */
    PUBLISH_FAILED, /* errno */
};

/* Sends the block, waiting while the receiver is behind. */
enum publish_result publish(const char* receiver, void* block);

#endif
