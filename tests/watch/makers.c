/* Purpose: functions that allocate and free, by whose names tests find them in profiles. In C: the pprof of Go 1.19 does
 *          not understand what compilers say about where C++ has its code.
 * Who calls it: watched.cpp.
 * Crash rule: none needed. */
#include "tests/watch/makers.h"

#include <stdlib.h>
#include <string.h>

void* kept_by(size_t size) {
    void* volatile p = malloc(size);
    memset(p, 1, size);
    return p;
}

void* dropped_by(size_t size) {
    void* volatile p = malloc(size);
    return p;
}

void freed_by(void* p) {
    free(p);
    __asm__ volatile("");
}
