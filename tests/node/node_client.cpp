// Purpose: a client for the tests of the daemon and the command line: attaches to a socket and does
//          what it reads from fd 0, a line a command; answers each with a line.
// Who calls it: tests/node/node_test.py and the tests of the daemon.
// Crash rule: it is there to be killed.
#include <sys/syscall.h>
#include <sys/wait.h>

#include <iostream>
#include <sstream>
#include <thread>

#include "dsm-core/sharing/directory.hpp"
#include "dsm-core/sharing/share_ops.hpp"
#include "tests/node/client.hpp"

namespace {

using namespace aep;

op::Open named(const std::string& name) {
    op::Open open;
    name.copy(open.name.text, sizeof open.name.text - 1);
    return open;
}

/// What other nodes are told: the client's name, if it can be reached and claims none.
std::string told_name(u32 client) {
    const era::DirectoryEntry& entry = era_tables().client(context().era_node, client);
    const bool reached = entry.id.load() == id_of(client).bits && entry.claim.load() == 0;
    return reached ? entry.name.text : "nobody";
}

void die_renaming(test::Client& client, const std::string& name) {
    std::atomic<u32> tid{0};
    std::thread([&] {
        const u32 own = static_cast<u32>(syscall(SYS_gettid));
        client.slot_entry().tid.store(own);
        client.pretend_half_way(number_of<op::Open>());
        const op::Open open = named(name);
        test::must(claim_name(client.index(), open.name.text), "claim");
        u64 first_word;
        std::memcpy(&first_word, open.name.text, sizeof first_word);
        share_client(client.index()).name_words[0] = first_word;
        announce(client.index());
        tid = own;
        syscall(SYS_exit, 0);
    }).detach();
    while (tid == 0 || syscall(SYS_tgkill, getpid(), tid.load(), 0) == 0) sched_yield();
}

int attach_and_work(const char* path) {
    const UniqueFd socket = test::connect_to(path);
    test::must(bool(socket), "connect");
    const AskMessage ask = test::good_ask();
    test::must(send(socket.get(), &ask, sizeof ask, 0) == sizeof ask, "send");
    AnswerMessage answer{};
    UniqueFd fds[ATTACH_FDS];
    test::must(test::receive_answer(socket.get(), answer, fds), "answer");
    if (answer.error != 0) {
        std::cout << "refused " << answer.error << " " << answer.text << std::endl;
        return 3;
    }
    test::Client client(answer, fds);
    for (UniqueFd& fd : fds) fd.reset();
    std::cout << "client " << client.index() << std::endl;
    for (std::string line; std::getline(std::cin, line);) {
        std::istringstream words(line);
        std::string command;
        u64 a = 0, b = 0;
        words >> command >> a >> b;
        if (command == "fill") {  // pages, bytes
            std::cout << client.fill(static_cast<u32>(a), b) << std::endl;
        } else if (command == "claim") {  // chunks
            std::cout << client.claim(static_cast<u32>(a)) << std::endl;
        } else if (command == "large") {  // slices
            std::cout << client.large(static_cast<u32>(a)) << std::endl;
        } else if (command == "inside") {  // operation
            client.pretend_inside(static_cast<u32>(a));
            std::cout << client.slot() << std::endl;
        } else if (command == "complete") {  // slot
            AskMessage complete = test::good_ask(Ask::complete_slot);
            complete.slot = static_cast<u32>(a);
            test::must(send(socket.get(), &complete, sizeof complete, 0) == sizeof complete,
                       "send");
            if (!test::receive_answer(socket.get(), answer, fds)) break;
            std::cout << answer.error << " " << answer.text << std::endl;
        } else if (command == "share") {
            const auto reply = client.ask(op::Open{});
            std::cout << static_cast<u32>(reply.status) << std::endl;
        } else if (command == "stuck") {  // inside, behind a lock that nobody will free
            std::cout << "going" << std::endl;
            for (;;) {  // again if the host has found it held from outside
                sharing().lock.lock(client.slot());
                client.ask(op::Open{});
            }
        } else if (command == "pins") {  // inside, in a lane, as if with an export pinned
            sharing().exports_used.put(static_cast<u32>(a));
            pin_of(client.slot()).put(static_cast<u32>(a));
            lane_taken(0) = client.slot() + 1;
            client.pretend_inside(number_of<op::Send>());
            std::cout << client.slot() << std::endl;
        } else if (command == "passes") {  // itself off as process PID, which began at TIME
            client_at(client.index()).pid = static_cast<u32>(a);
            client_at(client.index()).start_time = b;
            std::cout << client.index() << std::endl;
        } else if (command == "named") {  // NAME
            std::cout << static_cast<u32>(client.ask(named(line.substr(6))).status) << std::endl;
        } else if (command ==
                   "renames") {  // NAME: a thread does, tells other nodes, and dies alone
            die_renaming(client, line.substr(8));
            std::cout << told_name(client.index()) << std::endl;
        } else if (command == "told") {
            std::cout << told_name(client.index()) << std::endl;
        } else if (command == "churn") {  // until the end, nearly always inside the image
            std::cout << "going" << std::endl;
            client.churn();
        } else if (command == "exit") {
            break;
        }
    }
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    try {
        return argc == 2 ? attach_and_work(argv[1]) : 2;
    } catch (const std::exception& error) {
        std::cout << "failed " << error.what() << std::endl;
        return 1;
    }
}
