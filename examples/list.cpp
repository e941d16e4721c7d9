// Purpose: a linked list that is sent by its root: the reader walks it where it is, after its
//          writer has gone. The C functions of aep/dsm.h.
// Who calls it: people who begin, and the tests:
//     aep run -- list receive & aep run -- list send 1000
// Crash rule: killed at any moment, either of them leaves nothing behind.
#include <aep/dsm.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

struct Node {
    Node* next;
    unsigned long value;
};

struct List {
    Node* first;
};

int failed(const char* what) {
    std::perror(what);
    return 1;
}

int receive() {
    if (dsm_attach("list") != 0) return failed("attach");
    std::puts("waiting");
    std::fflush(stdout);
    dsm_info info{};
    auto* list = static_cast<List*>(dsm_recv(DSM_ANY, -1, &info));
    if (list == nullptr) return failed("recv");
    if (info.group == nullptr) return 1;  // an object by itself
    unsigned long nodes = 0, sum = 0;
    for (const Node* n = list->first; n != nullptr; n = n->next) {
        ++nodes;
        sum += n->value;
    }
    std::printf("%lu nodes, sum %lu\n", nodes, sum);
    return dsm_free(list) == 0 ? 0 : failed("free");  // with all of its nodes
}

int send(unsigned long nodes) {
    if (dsm_attach(nullptr) != 0) return failed("attach");
    const dsm_id receiver = dsm_lookup("list");
    if (receiver == 0) return failed("nobody is called list");
    dsm_group* group = dsm_group_create(0);
    if (group == nullptr) return failed("create");
    auto* list = static_cast<List*>(dsm_group_alloc(group, sizeof(List)));
    if (list == nullptr) return failed("alloc");
    list->first = nullptr;
    for (unsigned long i = 0; i < nodes; ++i) {
        auto* node = static_cast<Node*>(dsm_group_alloc(group, sizeof(Node)));
        if (node == nullptr) return failed("alloc");
        *node = {list->first, i};
        list->first = node;
    }
    if (dsm_group_set_root(group, list) != 0) return failed("root");
    if (dsm_send(receiver, list) != 0) return failed("send");
    std::printf("sent %zu bytes by one reference\n", dsm_group_bytes(group));
    return dsm_group_close(group) == 0 ? 0 : failed("close");
}

}  // namespace

int main(int count, char** words) {
    if (count == 2 && std::strcmp(words[1], "receive") == 0) return receive();
    if (count == 3 && std::strcmp(words[1], "send") == 0)
        return send(std::strtoul(words[2], nullptr, 10));
    std::fputs("usage: list receive | list send NODES\n", stderr);
    return 2;
}
