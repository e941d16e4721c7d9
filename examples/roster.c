/* Purpose: who is there: prints who comes, goes and dies, and what they say; one descriptor for both. Plain C.
 * Who calls it: people who begin, and the tests:
 *     aep run -- roster watch 1 & aep run -- roster join anna "good morning"
 * Crash rule: killed at any moment, it leaves nothing behind; those who watch are told. */
#include <aep/dsm.h>

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failed(const char* what) {
    fprintf(stderr, "roster: %s: %s\n", what, dsm_strerror(errno));
    return 1;
}

/* Prints what has happened. How many have gone. */
static unsigned long tell_events(void) {
    static const char* const words[] = {"?", "came", "left", "died", "is called so now"};
    struct dsm_event event;
    unsigned long gone = 0;
    while (dsm_next_event(&event, sizeof event, 0) == 0) {
        printf("%s %s\n", event.name, words[event.kind <= DSM_PEER_RENAMED ? event.kind : 0]);
        if (event.kind == DSM_PEER_LEFT || event.kind == DSM_PEER_DIED) ++gone;
    }
    return gone;
}

static void tell_messages(void) {
    char* text;
    while ((text = dsm_recv(DSM_ANY, 0, NULL)) != NULL) {
        printf("\"%s\"\n", text);
        dsm_free(text);
    }
}

/* Until so many have gone. */
static int watch(unsigned long left) {
    if (dsm_attach("roster") != 0) return failed("attach");
    if (dsm_watch_peers(DSM_WATCH) != 0) return failed("watch");
    struct pollfd news = {.fd = dsm_fd(), .events = POLLIN, .revents = 0};
    if (news.fd < 0) return failed("fd");
    puts("waiting");
    while (left != 0) {
        fflush(stdout);
        if (poll(&news, 1, -1) < 0 && errno != EINTR) return failed("poll");
        tell_messages(); /* until EAGAIN, and so are the events: then it is readable when there is more */
        const unsigned long gone = tell_events();
        left -= gone < left ? gone : left;
    }
    return 0;
}

/* Says something to who watches, and stays until its input ends. */
static int join(const char* name, const char* words) {
    if (dsm_attach(name) != 0) return failed("attach");
    const dsm_id roster = dsm_lookup_wait("roster", 10000);
    if (roster == 0) return failed("lookup");
    char* text = dsm_malloc(strlen(words) + 1);
    if (text == NULL) return failed("malloc");
    strcpy(text, words);
    if (dsm_send_message(roster, text, NULL, -1, DSM_DROP) != 0) return failed("send");
    while (getchar() != EOF) continue;
    return dsm_detach() == 0 ? 0 : failed("detach");
}

int main(int count, char** words) {
    if (count == 3 && strcmp(words[1], "watch") == 0) return watch(strtoul(words[2], NULL, 10));
    if (count == 4 && strcmp(words[1], "join") == 0) return join(words[2], words[3]);
    fputs("usage: roster watch DEPARTURES | roster join NAME WORDS\n", stderr);
    return 2;
}
