// Purpose: the node host: owns one context of one user on one node and the node's entry in the
// pool;
//          lets clients in, takes back what dead ones held, gives unused chunks to the pool,
//          checks.
// Who calls it: the daemon (tools/daemon), its tests. One a process: a context has fixed addresses.
// Crash rule: every method may be cut off anywhere; the next host of the same context repeats it.
//             Who is alive is told by locks alone, so clients go on while there is no host.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <vector>

#include "node/completion.hpp"
#include "node/membership.hpp"
#include "node/paths.hpp"
#include "node/unique_fd.hpp"
#include "shim/backing/pool_shared.hpp"
#include "shim/context/daemon_protocol.hpp"

namespace aep {

struct NodeOptions {
    ContextPaths paths;
    std::string image;                 // the image's file
    std::string pool;                  // empty: the context's own, or the one it was made with
    u64 pool_bytes = 0;                // of a new pool; 0: default
    std::optional<u64> context_limit;  // bytes of chunks; 0: none; not given: as it was
    std::optional<u64> client_limit;
    u32 max_clients = 1023;
    u32 max_slots = 8192;
    u64 decay_ms = 500;       // how long a chunk stays unused in the cache
    MembershipOptions nodes;  // as which of the pool's nodes
    bool verify = false;      // walk the heap of a dead client before it is thrown away
};

/// The answer to a process that asks to be a client.
struct Admission {
    AnswerMessage answer{};
    std::array<UniqueFd, ATTACH_FDS> fds;  // open when answer.error is 0
};

/// An answer without descriptors; `error`: an errno, and `text` says why, cut to its room.
AnswerMessage make_answer(int error, const std::string& text);

enum class RecoveryState {
    none,       // the entry is free
    alive,      // its process lives
    waiting,    // an operation of it is being completed
    frozen,     // its process is gone, but descendants use its heap
    recovered,  // everything is back
};

struct Recovery {
    RecoveryState state = RecoveryState::none;
    u32 chunks = 0;
    u64 ns = 0;
};

/// How far an operation of the host's is.
enum class Performed {
    done,     // the reply is there
    pending,  // ask again after the next event, or with the next sweep
    failed,   // the context is poisoned
};

/// What a sweep did, and whether another one soon makes sense.
struct Sweep {
    u32 recovered = 0;
    u32 chunks_recovered = 0;
    u32 chunks_returned = 0;  // from the cache to the pool
    u32 nodes_reclaimed_chunks = 0;
    u32 nodes_recovered = 0;  // of those that share objects
    bool busy = false;        // something waits: a frozen client, a chunk in the cache
};

/// How long one sweep gives chunks back, and as long gives up references: somebody may wait to be
/// let in.
inline constexpr u64 LONGEST_SHARE_OF_SWEEP_NS = 20'000'000;

inline constexpr u64 LONGEST_CHECK_NS = 3'000'000'000;

/// One thing that a check found wrong.
struct Finding {
    std::string where;  // "chunk 17", "client 3"
    std::string what;
    u64 found = 0;
    u64 expected = 0;
};

class NodeHost {
  public:
    /// Makes the context or goes on with the one that is there. Throws NodeError (EBUSY: another
    /// daemon serves it). `completion` is asked by recovery and outlives the host.
    NodeHost(NodeOptions options, Completion& completion, Log log);
    ~NodeHost();  // unmaps; the context stays for the next host
    NodeHost(const NodeHost&) = delete;
    NodeHost& operator=(const NodeHost&) = delete;

    /// Lets process `pid` of user `uid` in, or says why not. The caller sends the answer and then
    /// calls admitted(), or recover() if it could not be sent.
    Admission admit(pid_t pid, uid_t uid, const AskMessage& ask);
    void admitted(u32 client);
    /// Takes back what admit() granted, for a reason that came up since.
    void turn_away(Admission& admission, const std::string& why);
    /// Whether every entry of the client table is in use.
    bool full() const { return free_client() == 0; }

    /// Performs one operation on behalf of `client`, whose process is dead and whose slots are
    /// finished: once it has begun it completes, exactly once, whoever is killed; its locks are
    /// never left held. Asked again with the same words until it is `done` (pending) or `failed`.
    /// A host that was killed before it had the reply is followed by one that asks anew: ask only
    /// for what may be done when it has been done before.
    Performed perform_for(u32 client, u32 number, const Request& request, Reply& reply);

    /// Completes what a client's thread left open in `slot`, which must be the client's of `pid`.
    AnswerMessage complete_slot(pid_t pid, const AskMessage& ask);

    /// Takes back what client 1 .. max_clients held if its process is dead.
    Recovery recover(u32 client);
    /// recover() for all, cache decay, dead nodes of the pool.
    Sweep sweep(u64 now_ms);
    /// Gives chunks of the cache back that were unused for `decay_ms`, some milliseconds' worth at
    /// a time so that nobody waits long to be let in; or all. How many.
    u32 return_cached(u64 now_ms, bool all);

    /// Puts what operations have written into the context's ring into the log, a line for each kind
    /// of event and client.
    void log_events();

    /// Walks all invariants that can be checked while clients run, for so long at most: what is
    /// damaged may have no end, and somebody may wait to be let in.
    std::vector<Finding> check(u64 longest_ns = LONGEST_CHECK_NS);

    /// Whether a client, or a descendant that uses a client's heap, lives.
    bool somebody_lives() const;
    /// Whether an entry of the client table is in use, if only because its recovery goes on.
    bool somebody_is_left() const;
    /// Ends the node: its chunks go back to the pool, the files go. Clients that still live keep
    /// what they have mapped; then their chunks come back when the last of them ends.
    void remove();

    bool poisoned() const;
    /// Whether other nodes have declared this one dead.
    bool fenced() const;
    /// As one of the pool's nodes; null: it is none.
    const Membership* membership() const { return membership_.get(); }
    /// How often a sweep is due, at least.
    u64 period_ms() const;
    /// "operation 3 of client 2 (name, pid 17) was left open in slot 5"; empty when it is not.
    std::string poison_text() const;

    const NodeOptions& options() const { return options_; }
    const PoolHere& pool() const { return *pool_; }
    WatchedContext watched() const;
    /// Who completes operations; with any but `none` what is not completed is undone.
    void set_provider(Provider provider);
    Provider provider() const { return provider_; }
    u64 broken_domains() const { return broken_; }
    /// Whether an earlier host's context was found.
    bool reopened() const { return reopened_; }

  private:
    // host.cpp
    void take_lock();
    void open_context();
    bool continue_context();
    void make_context();
    bool is_pool_of(const ContextConstants& header) const;
    void map_context(const ContextConstants& header);
    void unmap_heap();
    void unmap_context();
    void open_pool(const std::string& path, bool as_node);
    std::string pool_path() const;
    void remember_pool();
    void adopt_state();
    bool context_lives(int fd) const;
    // node_entry.cpp
    Owner take_entry();
    bool share_entry(Owner owner);
    // nodes.cpp
    void enter_nodes();
    bool go_on_as_node(bool lives);
    void leave_nodes();
    void look_after_nodes(u64 now_ms, Sweep& done);
    u32 free_kept_chunks();
    // admit.cpp
    u32 free_client() const;
    bool open_descriptions(u32 client, Admission& admission);
    // verify.cpp
    void verify_domain(u32 client);
    // recover.cpp
    bool life_held(u32 client) const;
    bool finish_slots(u32 client);
    bool leave_sharing(u32 client);
    void free_slots(u32 client);
    void poison(u32 slot);
    void say_poisoned(u32 slot);
    u32 take_chunks_back(u32 client);
    void empty_domain(u32 client);
    // lone_deaths.cpp
    bool may_be_left_behind(u32 slot) const;
    void finish_left_behind(u64 now_ms);
    void free_stray_lock();
    // perform.cpp
    SlotOutcome settle_host_slot();
    SlotOutcome begin(u32 slot);
    void free_what_the_dead_hold();
    Performed unfinished(SlotOutcome outcome);
    // cache.cpp
    bool return_chunk(u32 chunk);
    bool pool_is_short() const;
    void count_cached();
    // rollback.cpp
    SlotOutcome complete_or_undo(u32 slot);
    SlotOutcome roll_back(u32 slot);
    bool make_present(uptr address, u64 bytes) const;
    u32 pinned_by(u32 slot) const;
    bool undo_slot(u32 slot);
    Performed finish_pinned(u32 slot);

    void say(LogLevel level, const std::string& text) const { log_(level, text); }

    NodeOptions options_;
    Completion& completion_;
    Log log_;
    UniqueFd lock_fd_;     // one daemon a context
    UniqueFd context_fd_;  // holds no lock: asks for those of others
    UniqueFd image_fd_;
    UniqueFd constants_fd_;
    UniqueFd pool_fd_;  // holds the node's lock, shared
    std::unique_ptr<PoolHere> pool_;
    std::unique_ptr<Membership> membership_;
    std::vector<u64>
        cached_since_;  // a chunk: when a sweep first saw it in the cache, in ms; 0: not
    u64 broken_ = 0;
    LogReader log_reader_;
    u32 ends_with_ = 1;  // sequence of the host's slot when what this host began is over; 1: none
    u32 next_dead_node_ = 0;
    bool mapped_ = false;
    bool pool_mapped_ = false;
    bool reopened_ = false;
    bool host_slot_settled_ = false;  // what a former host left there is over
    Provider provider_ = Provider::none;
    bool rolls_back_ = false;       // what nobody completes is undone
    u32 host_failures_ = 0;         // operations of the host's that broke, one after the other
    std::vector<u32> open_before_;  // a slot: its sequence at the last look; 0: it was even
    u64 next_look_ms_ = 0;          // for threads that died alone
};

}  // namespace aep
