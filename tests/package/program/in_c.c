/* Purpose: sends itself a message, and says which libraries of ours it runs on.
 * Who calls it: installed.py, built with pkg-config.
 * Crash rule: none needed. */
#include <aep/dsm.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

static int print_libraries(void) {
    char line[4096];
    FILE* maps = fopen("/proc/self/maps", "r");
    if (maps == NULL) return 1;
    while (fgets(line, sizeof line, maps) != NULL)
        if (strstr(line, "libaepmalloc") != NULL) fputs(strchr(line, '/'), stdout);
    return fclose(maps);
}

static int failed(const char* what) {
    fprintf(stderr, "%s: %s\n", what, dsm_strerror(errno));
    return 1;
}

int main(void) {
    static const char WORDS[] = "a message to myself";
    struct dsm_info info;
    char* text = dsm_malloc(sizeof WORDS);
    if (dsm_version() != DSM_VERSION) return failed("another version");
    if (text == NULL || dsm_attach("in_c") != 0) return failed("attach");
    memcpy(text, WORDS, sizeof WORDS);
    if (dsm_fd() < 0 || dsm_send(dsm_lookup("in_c"), text) != 0) return failed("send");
    text = dsm_recv(DSM_ANY, -1, &info);
    if (text == NULL || info.sender != dsm_self()) return failed("receive");
    puts(text);
    return print_libraries();
}
