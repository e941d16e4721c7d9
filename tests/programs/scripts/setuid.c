/* Built by cases/setuid.py as a setuid-root program that is linked with the library: it allocates
 * before and after a line of input, and in between the case looks at what it has mapped. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(void) {
    enum { COUNT = 5000 };
    char** blocks = calloc(COUNT, sizeof *blocks);
    for (int i = 0; i < COUNT; i++) {
        blocks[i] = malloc(16 + (size_t)i * 7 % 3000);
        sprintf(blocks[i], "block %d", i);
    }
    puts("ready");
    fflush(stdout);
    getchar();
    int good = 0;
    for (int i = 0; i < COUNT; i++) {
        char wanted[32];
        sprintf(wanted, "block %d", i);
        good += strcmp(blocks[i], wanted) == 0;
        free(blocks[i]);
    }
    free(blocks);
    printf("done %d\n", good);
    return 0;
}
