// Purpose: the node host: owns one context of one user on one node and the node's entry in the pool.
//          It puts together the parts that let clients in, take back what dead ones held, give
//          unused chunks to the pool, look after other nodes, check; each says what it does.
// Who calls it: the daemon (tools/daemon), its tests. One a process: a context has fixed addresses.
// Crash rule: every method may be cut off anywhere; the next host of the same context repeats it.
//             Who is alive is told by locks alone, so clients go on while there is no host.
#pragma once

#include "node/checker.hpp"
#include "node/chunk_cache.hpp"
#include "node/client_admission.hpp"
#include "node/context_state.hpp"
#include "node/event_log.hpp"
#include "node/lone_deaths.hpp"
#include "node/node_upkeep.hpp"
#include "node/object_survey.hpp"
#include "node/sweep.hpp"

namespace aep {

inline constexpr u64 LONGEST_CHECK_NS = 3'000'000'000;

class NodeHost {
  public:
    /// Makes the context or goes on with the one that is there. Throws NodeError (EBUSY: another
    /// daemon serves it). `completion` is asked by recovery and outlives the host.
    NodeHost(NodeOptions options, Completion& completion, Log log);
    NodeHost(const NodeHost&) = delete;
    NodeHost& operator=(const NodeHost&) = delete;

    // Clients: see ClientAdmission, OperationRecovery, ClientRecovery.
    Admission admit(pid_t pid, uid_t uid, const AskMessage& ask) {
        return admission_.admit(pid, uid, ask);
    }
    void admitted(u32 client) { admission_.admitted(client); }
    void turn_away(Admission& admission, const std::string& why) {
        admission_.turn_away(admission, why);
    }
    bool full() const { return admission_.full(); }
    AnswerMessage complete_slot(pid_t pid, const AskMessage& ask) {
        return operations_.complete_slot(pid, ask);
    }
    Recovery recover(u32 client) { return recovery_.recover(client); }
    /// Whether a client, or a descendant that uses a client's heap, lives.
    bool somebody_lives() const { return served_.somebody_lives(); }
    /// Whether an entry of the client table is in use, if only because its recovery goes on.
    bool somebody_is_left() const;

    /// See HostSlot.
    template <class O>
    Performed perform_for(u32 client, const O& o, typename O::Reply& reply) {
        return host_slot_.perform_for(client, o, reply);
    }

    /// recover() for all, lone deaths, cache decay, dead nodes of the pool.
    Sweep sweep(u64 now_ms);
    /// How often a sweep is due, at least.
    u64 period_ms() const { return member_.period_ms(); }
    /// See ChunkCache.
    u32 return_cached(u64 now_ms, bool all) { return cache_.give_back_unused(now_ms, all); }
    /// See Checker.
    std::vector<Finding> check(u64 longest_ns = LONGEST_CHECK_NS) const {
        return checker_.check(longest_ns);
    }
    /// See node/object_survey.hpp.
    ObjectSurvey survey_objects(usize most, u64 longest_ns) const {
        return aep::survey_objects(pool_, most, longest_ns);
    }
    /// Heaps of dead clients that were broken.
    u64 broken_domains() const { return verifier_.broken(); }

    /// Ends the node: its chunks go back to the pool, the files go. Clients that still live keep
    /// what they have mapped; then their chunks come back when the last of them ends.
    void remove();

    // The context's state: see context_state.hpp.
    bool poisoned() const { return is_poisoned(); }
    bool fenced() const { return is_fenced(); }
    std::string poison_text() const { return aep::poison_text(); }

    const NodeOptions& options() const { return options_; }
    const PoolHere& pool() const { return pool_.here(); }
    /// As one of the pool's nodes; null: it is none.
    const Membership* membership() const { return member_.membership(); }
    /// See Membership::declare_dead. False in `why`'s place: the context is no node.
    std::string declare_dead(u32 node, u32 generation, u64 now_ms) {
        Membership* const membership = member_.membership();
        if (membership == nullptr) return "the context is no node of its pool";
        return membership->declare_dead(node, generation, now_ms);
    }
    /// What a provider needs to know; valid as long as the host.
    WatchedContext watched() const;
    /// Who completes operations; with any but `none` what is not completed is undone.
    void set_provider(Provider provider) { protection_.set_provider(provider); }
    Provider provider() const { return protection_.provider(); }
    /// Whether an earlier host's context was found.
    bool reopened() const { return reopened_; }

  private:
    void adopt_state();

    // In this order: each uses those before it, and goes before they do.
    const NodeOptions options_;
    const Log log_;
    const UniqueFd serving_lock_;
    const UniqueFd image_;
    NodePool pool_;
    PoolMember member_;
    ServedContext served_;
    const bool reopened_;  // from here on the context is open
    Protection protection_;
    SlotUndo undo_;
    HostSlot host_slot_;
    OperationRecovery operations_;
    HeapVerifier verifier_;
    ChunkCache cache_;
    ClientRecovery recovery_;
    ClientAdmission admission_;
    LoneDeaths lone_deaths_;
    NodeUpkeep upkeep_;
    FailedMemory failed_memory_;
    EventLog events_;
    Checker checker_;
};

}  // namespace aep
