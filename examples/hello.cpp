// Purpose: two processes, one object: the one writes it, the other reads it where it is.
// Who calls it: people who begin, and the tests:
//     aep run -- hello receive & aep run -- hello send "good morning"
// Crash rule: killed at any moment, either of them leaves nothing behind.
#include <aep/dsm.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

namespace {

int failed(const char* what) {
    std::fprintf(stderr, "%s: %s\n", what, dsm_strerror(errno));
    return 1;
}

int receive() {
    if (dsm_attach("hello") != 0) return failed("attach");
    std::puts("waiting");
    std::fflush(stdout);
    dsm_info info{};
    const char* text = static_cast<const char*>(dsm_recv(DSM_ANY, -1, &info));
    if (text == nullptr) return failed("recv");
    std::printf("%s (%zu bytes at %p)\n", text, info.size, static_cast<const void*>(text));
    return dsm_free(const_cast<char*>(text)) == 0 ? 0 : failed("free");
}

int send(const char* words) {
    if (dsm_attach(nullptr) != 0) return failed("attach");
    const dsm_id receiver = dsm_lookup("hello");
    if (receiver == 0) return failed("lookup of hello");
    char* text = static_cast<char*>(dsm_malloc(std::strlen(words) + 1));
    if (text == nullptr) return failed("malloc");
    std::strcpy(text, words);
    if (dsm_send(receiver, text) != 0) return failed("send");
    std::printf("sent from %p\n", static_cast<void*>(text));
    return 0;  // it lives on until the receiver drops it
}

}  // namespace

int main(int count, char** words) {
    if (count == 2 && std::strcmp(words[1], "receive") == 0) return receive();
    if (count == 3 && std::strcmp(words[1], "send") == 0) return send(words[2]);
    std::fputs("usage: hello receive | hello send WORDS\n", stderr);
    return 2;
}
