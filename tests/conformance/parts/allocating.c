/* A library that allocates in its constructor and frees in its destructor. Built as allocating.so
 * for the dlopen, dlmopen and chroot programs. Crash rule: none, it keeps nothing outside the
 * process. */
#include <stdlib.h>
#include <string.h>

static char* s_block;
static char* s_large;

__attribute__((constructor)) static void on_load(void) {
    s_block = malloc(3000);
    s_large = calloc(1, 100000);
    if (s_block == NULL || s_large == NULL) abort();
    memset(s_block, 0x5a, 3000);
}

__attribute__((destructor)) static void on_unload(void) {
    for (int i = 0; i < 3000; ++i)
        if (s_block[i] != 0x5a) abort();
    free(s_block);
    free(s_large);
}

/* Hands out a block that the caller frees. */
void* part_allocate(size_t size) { return malloc(size); }

/* Frees a block of the caller's. */
void part_free(void* p) { free(p); }

/* A copy that libc allocates, through whatever malloc libc sees. */
char* part_strdup(const char* text) { return strdup(text); }

/* Grows a block of the caller's. */
void* part_realloc(void* p, size_t size) { return realloc(p, size); }
