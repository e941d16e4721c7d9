/* Purpose: a plain C program on malloc and free alone. It numbers the lines that it reads; under
 *          `aep run` the process called "reader" gets each line as well, the very block.
 * Who calls it: people who begin, and the tests:
 *     aep run -- reader 3 & printf 'a\nb\nc\n' | aep run -- preloaded
 * Crash rule: killed at any moment, it leaves the lines that it has sent, and nothing else. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "examples/publish.h"

int main(void) {
    char input[1000];
    unsigned sent = 0;
    for (unsigned number = 1; fgets(input, sizeof input, stdin) != NULL; ++number) {
        input[strcspn(input, "\n")] = '\0';
        size_t size = strlen(input) + 20;
        char* line = malloc(size);
        if (line == NULL) return 1;
        snprintf(line, size, "%u: %s", number, input);
        puts(line);
        switch (publish("reader", line)) {
            case PUBLISH_SENT:
                ++sent;
                break;
            case PUBLISH_ALONE:
                break;
            case PUBLISH_FAILED:
                perror("preloaded");
                return 1;
        }
        free(line); /* the reader's stays */
    }
    printf("%u sent\n", sent);
    return 0;
}
