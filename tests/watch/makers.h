/* Purpose: see makers.c.
 * Who calls it: watched.cpp.
 * Crash rule: none needed. */
#pragma once

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A block that stays, and is written to. */
void* kept_by(size_t size);
/* One that goes soon. */
void* dropped_by(size_t size);
void freed_by(void* p);

#ifdef __cplusplus
}
#endif
