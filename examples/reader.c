/* Purpose: takes and prints as many lines as it is told, whoever sends them. Plain C.
 * Who calls it: people who begin, and the tests; see preloaded.c.
 * Crash rule: killed at any moment, it leaves nothing behind: lines not yet read go with it. */
#include <aep/dsm.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static int failed(const char* what) {
    fprintf(stderr, "reader: %s: %s\n", what, dsm_strerror(errno));
    return 1;
}

int main(int count, char** words) {
    if (count != 2) {
        fputs("usage: reader LINES\n", stderr);
        return 2;
    }
    if (dsm_attach("reader") != 0) return failed("attach");
    puts("waiting");
    fflush(stdout);
    for (unsigned long left = strtoul(words[1], NULL, 10); left != 0; --left) {
        char* line = dsm_recv(DSM_ANY, -1, NULL);
        if (line == NULL) return failed("receive");
        puts(line);
        if (dsm_free(line) != 0) return failed("free");
    }
    return 0;
}
