/* A preload library of the usual kind: wraps malloc and its like via dlsym(RTLD_NEXT) and counts.
 * Preloaded before the allocator by the second-preload program. dlsym may itself allocate: such
 * calls are answered from a small array. Crash rule: none. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static void* (*s_malloc)(size_t);
static void (*s_free)(void*);
static void* (*s_calloc)(size_t, size_t);
static void* (*s_realloc)(void*, size_t);
static void* (*s_memalign)(size_t, size_t);
static atomic_long s_calls;
static _Thread_local int t_resolving;
static _Alignas(16) char s_early[8192];
static size_t s_early_used;

static void resolve(void) {
    t_resolving = 1;
    *(void**)&s_malloc = dlsym(RTLD_NEXT, "malloc");
    *(void**)&s_free = dlsym(RTLD_NEXT, "free");
    *(void**)&s_calloc = dlsym(RTLD_NEXT, "calloc");
    *(void**)&s_realloc = dlsym(RTLD_NEXT, "realloc");
    *(void**)&s_memalign = dlsym(RTLD_NEXT, "memalign");
    t_resolving = 0;
}

static void* early(size_t size) {
    void* p = s_early + s_early_used;
    s_early_used += (size + 15) / 16 * 16;
    return s_early_used <= sizeof s_early ? p : NULL;
}

static int is_early(const void* p) { return (uintptr_t)p - (uintptr_t)s_early < sizeof s_early; }

void* malloc(size_t size) {
    if (t_resolving) return early(size);
    if (s_malloc == NULL) resolve();
    atomic_fetch_add(&s_calls, 1);
    return s_malloc(size);
}

void* calloc(size_t count, size_t size) {
    if (t_resolving) return early(count * size);
    if (s_calloc == NULL) resolve();
    atomic_fetch_add(&s_calls, 1);
    return s_calloc(count, size);
}

void* realloc(void* p, size_t size) {
    if (s_realloc == NULL) resolve();
    atomic_fetch_add(&s_calls, 1);
    return s_realloc(p, size);
}

void* memalign(size_t alignment, size_t size) {
    if (s_memalign == NULL) resolve();
    atomic_fetch_add(&s_calls, 1);
    return s_memalign(alignment, size);
}

void free(void* p) {
    if (is_early(p)) return;
    if (s_free == NULL) resolve();
    atomic_fetch_add(&s_calls, 1);
    s_free(p);
}

/* How many calls went through here. */
long wrapper_calls(void) { return atomic_load(&s_calls); }
