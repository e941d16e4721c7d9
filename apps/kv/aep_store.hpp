// Purpose: the store in a context: each partition a group, which its writer allocates in and all others hold by a
//          reference to its root.
// Who calls it: kv.hpp.
// Crash rule: a killed writer leaves its partition to the readers, who hold it; whoever takes its seat gets a reference
//             from any of them and copies the partition into a group of its own, then the old one goes.
//
// Two kinds of messages: roots of partitions, and notes. Who comes says hello to each other member; the answer is
// the root of that member's own partition, that of the newcomer's predecessor, and a goodbye.
#pragma once

#include <memory>

#include "apps/common/aep.hpp"
#include "apps/kv/partition.hpp"

namespace aep::apps::kv {

class AepStore {
  public:
    static constexpr const char* NAME = "aep";
    static constexpr bool SURVIVES = true;
    using World = Aep::World;
    using Own = Writer<AepStore>;

    AepStore(const Plan& plan, World* world, unsigned me)
        : names_(plan, world, me),
          me_(me),
          partitions_(plan.members),
          told_(plan.members, 0),
          heard_(plan.members, false) {}
    ~AepStore() {
        if (retired_ != nullptr) dsm_free(retired_);
        for (dsm_group* group : partitions_)
            if (group != nullptr) dsm_free(group);
    }
    AepStore(const AepStore&) = delete;
    AepStore& operator=(const AepStore&) = delete;

    void* allocate(std::size_t bytes) {
        void* block = dsm_group_alloc(group_, bytes);
        if (block == nullptr) throw std::bad_alloc();
        return block;
    }
    void free(void* block) { expect(dsm_group_free(group_, block) == 0, "dsm_group_free"); }

    /// This member's partition: a new one, or a copy of what a predecessor had. `bytes`: that it is going to have.
    void open(std::size_t bytes) {
        bytes_ = bytes;
        greet_all();
        renew();
    }

    void put(std::string_view key, std::string_view value, bool in_place) {
        own_->put(key, value, in_place);
    }
    bool remove(std::string_view key) { return own_->remove(key); }
    bool get(unsigned partition, std::string_view key, std::string& found) {
        const auto reader = read(partition);
        return reader && reader->get(key, found);
    }
    template <class Use>
    void scan(unsigned partition, Use&& use) {
        if (const auto reader = read(partition)) reader->scan(use);
    }

    /// To read a partition; none: nobody has told of it yet.
    std::optional<Reader> read(unsigned partition) {
        dsm_group* group = partitions_[partition];
        if (group == nullptr) return std::nullopt;
        // Opens what the group has got since.
        auto* root = static_cast<Root*>(dsm_group_root(group));
        expect(root != nullptr, "dsm_group_root");
        return Reader(root);
    }

    /// Between operations, now and then: what others say. What a writer frees is used again when all have been here since. Of
    /// readers on other nodes nobody knows that: when what they keep has become much, all get a copy without it, and the
    /// next one when they have dropped the last.
    void look() {
        listen();
        for (dsm_group* group : partitions_)
            if (group != nullptr && group != group_)
                expect(dsm_group_quiesce(group) == 0, "dsm_group_quiesce");
        if (own_ == nullptr || dsm_group_bytes(group_) < most_bytes_) return;
        while (retired_ != nullptr && dsm_references(retired_) > 1) {
            sched_yield();
            listen();
        }
        drop_retired();
        renew();
    }

  private:
    void drop_retired() {
        if (retired_ != nullptr) expect(dsm_free(retired_) == 0, "dsm_free");
        retired_ = nullptr;
    }

    void listen() {
        dsm_info info{};
        for (void* object = nullptr; (object = dsm_recv(DSM_ANY, 0, &info)) != nullptr;) {
            if (info.group != nullptr) {
                verify(info.size >= sizeof(Root), "kv: a root is too small");
                const std::uint64_t partition = static_cast<const Root*>(object)->partition;
                verify(partition < partitions_.size(), "kv: there is no such partition");
                hold(static_cast<unsigned>(partition), info.group);
            } else {
                verify(info.size >= sizeof(Note), "kv: a note is too small");
                const Note note = *static_cast<const Note*>(object);
                expect(dsm_free(object) == 0, "dsm_free");
                verify(note.from < partitions_.size(), "kv: there is no such member");
                if (note.hello)
                    answer(note.from, info.sender);
                else
                    heard_[note.from] = true;
            }
        }
        expect(errno == EAGAIN, "dsm_recv");
    }

    struct Note {
        bool hello;
        unsigned from;
    };

    /// Takes the reference over and keeps the newer of two.
    void hold(unsigned partition, dsm_group* group) {
        dsm_group*& held = partitions_[partition];
        if (held != nullptr && generation_of(group) > generation_of(held)) std::swap(held, group);
        if (held == nullptr)
            held = group;
        else
            expect(dsm_free(group) == 0, "dsm_free");
    }
    static std::uint64_t generation_of(dsm_group* group) {
        const auto* root = static_cast<const Root*>(dsm_group_root(group));
        expect(root != nullptr, "dsm_group_root");
        return root->generation;
    }

    /// The own partition in a group of its own, with what it had; then all are told.
    void renew() {
        dsm_group* const group = dsm_group_create(bytes_);
        expect(group != nullptr, "dsm_group_create");
        retired_ = group_;  // null: what a predecessor had is only held
        group_ = group;
        const auto before = read(me_);
        own_ = std::make_unique<Own>(*this, me_, before ? &*before : nullptr);
        expect(dsm_group_set_root(group, own_->root()) == 0, "dsm_group_set_root");
        most_bytes_ = 4 * std::max(bytes_, dsm_group_bytes(group));
        if (retired_ != nullptr)
            partitions_[me_] = group;
        else
            hold(me_, group);
        for (unsigned i = 0; i < partitions_.size(); ++i)
            if (i != me_) tell(i, own_->root());
    }

    dsm_id id_of(unsigned member) { return dsm_lookup(names_.name_of(member).c_str()); }

    void tell(unsigned member, void* root) {
        if (const dsm_id id = id_of(member); id != 0) send(id, root);
    }
    /// A member that dies meanwhile has a successor that says hello itself.
    static void send(dsm_id to, void* object) {
        while (dsm_send_wait(to, object, 100) != 0) {
            if (errno == ESRCH) return;
            expect(errno == ETIMEDOUT || errno == EINTR, "dsm_send_wait");
        }
    }
    static void send_note(dsm_id to, Note note) {
        auto* object = static_cast<Note*>(dsm_malloc(sizeof(Note)));
        if (object == nullptr) throw std::bad_alloc();
        *object = note;
        send(to, object);
        expect(dsm_free(object) == 0, "dsm_free");
    }
    void answer(unsigned newcomer, dsm_id id) {
        if (own_ != nullptr) send(id, own_->root());
        if (partitions_[newcomer] != nullptr) send(id, partitions_[newcomer]);
        send_note(id, {.hello = false, .from = me_});
    }

    /// Until each other member has said what it knows; those that die meanwhile are greeted again as who follows them.
    void greet_all() {
        for (bool all = false; !all;) {
            all = true;
            for (unsigned i = 0; i < partitions_.size(); ++i) {
                if (i == me_ || heard_[i]) continue;
                all = false;
                const dsm_id id = id_of(i);
                if (id == 0 || id == told_[i]) continue;
                told_[i] = id;
                send_note(id, {.hello = true, .from = me_});
            }
            listen();
            if (!all) sched_yield();
        }
    }

    Aep names_;
    unsigned me_;
    dsm_group* group_ = nullptr;    // the own partition's, which partitions_ holds
    dsm_group* retired_ = nullptr;  // what it was in before
    std::size_t bytes_ = 0;
    std::size_t most_bytes_ = 0;
    std::unique_ptr<Own> own_;
    std::vector<dsm_group*> partitions_;  // references; null: not told of
    std::vector<dsm_id> told_;
    std::vector<bool> heard_;
};

}  // namespace aep::apps::kv
