/* Compiled by cases/gcc.py into a small library: a sieve that grows its result as it goes. */
#include <stdlib.h>
#include <string.h>

unsigned* sieve(unsigned limit, size_t* count) {
    unsigned char* composite = calloc(limit, 1);
    unsigned* primes = NULL;
    size_t room = 0;
    *count = 0;
    for (unsigned n = 2; n < limit; n++) {
        if (composite[n]) continue;
        for (unsigned long m = (unsigned long)n * n; m < limit; m += n) composite[m] = 1;
        if (*count == room) {
            room = room ? room + room / 2 + 1 : 4;
            primes = realloc(primes, room * sizeof *primes);
            if (!primes) abort();
        }
        primes[(*count)++] = n;
    }
    free(composite);
    return primes;
}
