// Purpose: starts the processes of an application over one transport, kills some of them if that is asked for, and waits
//          for their end.
// Who calls it: the applications' main functions.
// Crash rule: members end with their launcher.
#pragma once

#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <csignal>
#include <cstdio>
#include <functional>
#include <random>
#include <thread>

#include "apps/common/board.hpp"
#include "apps/common/transport.hpp"

namespace aep::apps {

/// How a team is started; see add_options in options.hpp.
struct Launch {
    std::string program;  // of the team's names
    std::string over;
    std::vector<std::string> nodes;
    unsigned stay = 1;
    unsigned kills = 0;
    std::uint64_t seed = 1;
    bool json = false;
    // Of a member that begins as a program: its number, the board's descriptor, the team.
    int member = -1;
    int board = -1;
    std::string team;
    std::vector<std::string> words;  // the command line
};

/// T is a Transport, or what an application has in its place: it has a World, is made of (plan, world, number), and says
/// whether the others go on when a member is killed.
template <class T>
class Team {
  public:
    using Role = std::function<void(T&, Board&, unsigned)>;

    /// `role` is what a member does. `plan.members` at most MOST_MEMBERS.
    Team(const Launch& launch, Plan plan, Role role)
        : launch_(launch),
          plan_(std::move(plan)),
          role_(std::move(role)),
          board_(launch.board),
          random_(launch.seed) {
        verify(plan_.members <= MOST_MEMBERS, "too many members");
        plan_.team =
            launch.team.empty() ? fmt::format("{}-{}", launch.program, getpid()) : launch.team;
        plan_.nodes = launch.nodes;
        plan_.stay = launch.stay;
    }

    /// In the launcher: true, when all have ended. In a member that began as a program: false, when its part is done.
    bool run() {
        if (launch_.member >= 0) {
            be(nullptr, static_cast<unsigned>(launch_.member));
            return false;
        }
        if (launch_.kills != 0)
            verify(T::SURVIVES, "--kills: this transport does not survive a member's death");
        board_->kills = launch_.kills;
        {
            typename T::World world(plan_);
            pids_.resize(plan_.members, 0);
            try {
                for (unsigned i = 0; i < plan_.members; ++i) start(world, i);
                wait_until_ready();
                for (unsigned i = 0; i < launch_.kills; ++i) kill_one(world);
                wait_for_all();
            } catch (...) {
                for (const pid_t pid : pids_)
                    if (pid > 0 && kill(pid, SIGKILL) == 0) waitpid(pid, nullptr, 0);
                throw;
            }
        }
        return true;
    }

    const Board& board() const { return *board_; }
    unsigned members() const { return plan_.members; }

  private:
    void be(typename T::World* world, unsigned me) {
        T transport(plan_, world, me);
        board_->come_and_wait();
        role_(transport, *board_, me);
    }

    void start(typename T::World& world, unsigned i) {
        std::fflush(nullptr);
        const pid_t parent = getpid();
        const pid_t child = fork();
        expect(child >= 0, "fork");
        if (child != 0) {
            pids_[i] = child;
            return;
        }
        int status = 1;
        try {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            if (getppid() != parent) _exit(1);
            std::vector<std::string> words = launch_.words;
            for (const std::string& word :
                 {std::string("--member"), std::to_string(i), std::string("--board"),
                  std::to_string(board_.descriptor()), std::string("--team"), plan_.team})
                words.push_back(word);
            std::vector<char*> command;
            for (std::string& word : words) command.push_back(word.data());
            command.push_back(nullptr);
            world.enter(i, command.data());
            be(&world, i);
            status = 0;
        } catch (const std::exception& why) {
            std::fprintf(stderr, "%s: member %u: %s\n", launch_.program.c_str(), i, why.what());
        }
        std::fflush(nullptr);
        _exit(status);  // what the launcher made is not the member's to end
    }

    void wait_until_ready() {
        for (std::uint32_t came = 0; (came = board_->ready.load()) < plan_.members;) {
            Board::wait(board_->ready, came);
            collect(false);
        }
        board_->go = 1;
        Board::wake(board_->go);
    }

    /// The member whose seat is not settled; the number of members: none.
    unsigned unsettled() const {
        unsigned i = 0;
        while (i < plan_.members && board_->seats[i].settled.load() != 0) ++i;
        return i;
    }

    /// Who is to be killed. If all are mortal what one has others have, too, but not who has just come: as long as it has
    /// not, it alone can go.
    unsigned choose_victim() {
        if (!plan_.all_are_mortal)
            return 1 + static_cast<unsigned>(random_() % (plan_.members - 1));
        if (killed_ == 0 || random_() % 2 == 0) {
            while (unsettled() != plan_.members) {
                std::this_thread::sleep_for(std::chrono::milliseconds(1));
                collect(false);
            }
        }
        if (const unsigned newcomer = unsettled(); newcomer != plan_.members) return newcomer;
        return static_cast<unsigned>(random_() % plan_.members);
    }

    /// One at a random moment (but the first, unless all are mortal); another one takes its place.
    void kill_one(typename T::World& world) {
        std::this_thread::sleep_for(std::chrono::microseconds(random_() % 20'000));
        const unsigned victim = choose_victim();
        collect(false);
        ++killed_;
        if (pids_[victim] != 0) {
            kill(pids_[victim], SIGKILL);
            waitpid(pids_[victim], nullptr, 0);
        }
        board_->seats[victim].settled = 0;
        start(world, victim);
        board_->kills.fetch_sub(1);
    }

    void wait_for_all() {
        while (collect(true)) {
        }
    }

    /// Takes back members that have ended; false: there is none left. When the first one is alone, it is over.
    bool collect(bool wait) {
        unsigned living = 0;
        for (const pid_t pid : pids_) living += pid != 0;
        if (living == 1 && pids_[0] != 0) board_->over = 1;
        if (living == 0) return false;
        int status = 0;
        const pid_t ended = waitpid(-1, &status, wait ? 0 : WNOHANG);
        expect(ended >= 0, "waitpid");
        for (pid_t& pid : pids_) {
            if (ended == 0 || pid != ended) continue;
            pid = 0;
            verify(status == 0, "a member failed");
        }
        return true;
    }

    Launch launch_;
    Plan plan_;
    Role role_;
    SharedBoard board_;
    std::mt19937_64 random_;
    std::vector<pid_t> pids_;
    unsigned killed_ = 0;
};

}  // namespace aep::apps
