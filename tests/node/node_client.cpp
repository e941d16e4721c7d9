// Purpose: a client for the tests of the daemon and the command line: attaches to a socket and does
//          what it reads from fd 0, a line a command; answers each with a line.
// Who calls it: tests/node/node_test.py and the tests of the daemon.
// Crash rule: it is there to be killed.
#include <sys/syscall.h>
#include <sys/wait.h>

#include <iostream>
#include <map>
#include <sstream>
#include <string>
#include <thread>

#include "dsm-core/sharing/directory.hpp"
#include "dsm-core/sharing/share_ops.hpp"
#include "tests/node/client.hpp"
#include "tests/node/scribble.hpp"

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
        begin_claim(client.index(), open.name.text);
        u64 first_word;
        std::memcpy(&first_word, open.name.text, sizeof first_word);
        share_client(client.index()).name_words[0] = first_word;
        announce(client.index());
        tid = own;
        syscall(SYS_exit, 0);
    }).detach();
    while (tid == 0 || syscall(SYS_tgkill, getpid(), tid.load(), 0) == 0) sched_yield();
}

/// An attached client, and what stands behind its commands.
struct Attached {
    int socket;
    test::Client client;

    std::string complete(u32 slot) {
        AskMessage ask = test::good_ask(Ask::complete_slot);
        ask.slot = slot;
        test::must(send(socket, &ask, sizeof ask, 0) == sizeof ask, "send");
        AnswerMessage answer{};
        UniqueFd fds[ATTACH_FDS];
        test::must(test::receive_answer(socket, answer, fds), "answer");
        return std::to_string(answer.error) + " " + answer.text;
    }

    u32 status_of(const op::Open& open) { return static_cast<u32>(client.ask(open).status); }

    /// Behind a lock that nobody will free; again if the host has found it held from outside.
    [[noreturn]] void get_stuck() {
        for (;;) {
            sharing().names.lock(client.slot());
            client.ask(op::Open{});
        }
    }

    /// In a lane, as if with an export pinned.
    void pretend_pinned(u32 export_number) {
        sharing().exports_used.put(export_number);
        pin_of(client.slot()).put(export_number);
        lane_taken(0) = client.slot() + 1;
        client.pretend_inside(number_of<op::Send>());
    }
};

struct Words {
    u64 a = 0, b = 0;
    std::string name;  // the first word, as it is
};

using Command = std::string (*)(Attached&, const Words&);
const std::map<std::string, Command> COMMANDS = {
    {"fill",  // pages, bytes
     [](Attached& at, const Words& w) {
         return std::to_string(at.client.fill(static_cast<u32>(w.a), w.b));
     }},
    {"claim",  // chunks
     [](Attached& at, const Words& w) {
         return std::to_string(at.client.claim(static_cast<u32>(w.a)));
     }},
    {"large",  // slices
     [](Attached& at, const Words& w) {
         return std::to_string(at.client.large(static_cast<u32>(w.a)));
     }},
    {"inside",  // operation
     [](Attached& at, const Words& w) {
         at.client.pretend_inside(static_cast<u32>(w.a));
         return std::to_string(at.client.slot());
     }},
    {"complete",  // slot
     [](Attached& at, const Words& w) { return at.complete(static_cast<u32>(w.a)); }},
    {"share", [](Attached& at, const Words&) { return std::to_string(at.status_of({})); }},
    {"pins",  // export
     [](Attached& at, const Words& w) {
         at.pretend_pinned(static_cast<u32>(w.a));
         return std::to_string(at.client.slot());
     }},
    {"passes",  // itself off as process PID, which began at TIME
     [](Attached& at, const Words& w) {
         client_at(at.client.index()).pid = static_cast<u32>(w.a);
         client_at(at.client.index()).start_time = w.b;
         return std::to_string(at.client.index());
     }},
    {"named",  // NAME
     [](Attached& at, const Words& w) { return std::to_string(at.status_of(named(w.name))); }},
    {"renames",  // NAME: a thread does, tells other nodes, and dies alone
     [](Attached& at, const Words& w) {
         die_renaming(at.client, w.name);
         return told_name(at.client.index());
     }},
    {"scribbles",  // SEED WORDS
     [](Attached&, const Words& w) {
         test::scribble(w.a, w.b);
         return std::string("done");
     }},
    {"pretends",  // NUMBER of objects that are nobody's, or nowhere
     [](Attached&, const Words& w) {
         sharing().exports_used.put(static_cast<u32>(w.a));
         for (u32 i = 1; i <= w.a; ++i) {
             Export& e = export_at(i);
             e.state.put(static_cast<u32>(i % 3 == 0 ? ExportState::returned : ExportState::live));
             e.address.put(i % 2 == 0 ? HEAP_BASE + u64{i} * CHUNK_SIZE : 64);
             e.bytes.put(i % 2 == 0 ? ~u64{0} : 64);
         }
         Export& of_nobody = export_at(1);
         of_nobody.address.put(HEAP_BASE);
         of_nobody.owner.put(context().max_clients + 1);
         return std::string("done");
     }},
    {"told", [](Attached& at, const Words&) { return told_name(at.client.index()); }},
};

void obey(Attached& at) {
    for (std::string line; std::getline(std::cin, line);) {
        std::istringstream words(line);
        std::string command;
        Words w;
        words >> command >> w.name;
        std::istringstream(w.name) >> w.a;
        words >> w.b;
        if (command == "exit") return;
        if (command == "stuck" || command == "churn") {  // until the end, inside the image
            std::cout << "going" << std::endl;
            command == "stuck" ? at.get_stuck() : at.client.churn();
        } else {
            std::cout << COMMANDS.at(command)(at, w) << std::endl;
        }
    }
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
    Attached attached{socket.get(), test::Client(answer, fds)};
    for (UniqueFd& fd : fds) fd.reset();
    std::cout << "client " << attached.client.index() << std::endl;
    obey(attached);
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
