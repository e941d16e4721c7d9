// Purpose: the transactions of one lane: create, attach and release a reference, and the steps
//          that messages (mailbox.hpp) and recovery (recovery.hpp) are made of.
// Who calls it: a node for its clients; recovery, which goes on as a lane of the dead node.
// Crash rule: up to the compare-and-swap on the count word nothing has happened, from then on
//             everything: the redo record and the words tell which, and settle() does the rest.
//             A move has no such word, there the record itself is the commit.
//
// A lane is one caller's at a time; who has which is the node's affair, in its own memory. Nothing
// here waits: a compare-and-swap fails only because another transaction succeeded.
//
// What two at once may see; the compare-and-swap on the count decides, and the claim of a cell before.
//
//   any | any, one object        one commits, the other tries again with the new count
//   create | create              one makes it; exists
//   last release | attach        attached before it was the last, or gone
//   release | release, one cell  one; busy
//   any | recovery of its node   committed: recovery ends it. Not committed: fenced, and undone
//   settle | settle, one lane    never: a lane is one caller's, a dead one's one recoverer's
#pragma once

#include "dsm-core/era/flush.hpp"
#include "dsm-core/era/judge.hpp"

namespace aep::era {

enum class Status : u8 {
    ok,        // done
    last,      // done, and nobody holds the object any more: free its memory, then reclaimed()
    fenced,    // this node was declared dead: it must not touch the pool, and must join again
    gone,      // attach, send: no such object, or its last reference is gone
    exists,    // create: the object is there already
    too_many,  // attach, send: the count is at its largest
    busy,      // the reference is in use, or another client is changing it, or not held at all
    no_node,   // send, recover: that node does not take part; nothing was sent
    full,      // send: no room in the ring
    empty,     // receive: no message
    invalid,   // an index out of range
    damaged,   // a held reference's object is none, or has a count of 0: somebody wrote over the
               // tables; the reference is gone
};

template <class Memory>
class Lane {
  public:
    /// `standing` is the node's word while the caller may act for it: {live, its generation}, or
    /// for a recoverer {recovering, by itself}.
    Lane(Memory& memory, const Tables& tables, u32 node, u32 lane, NodeWord standing)
        : m(memory), t(tables), node_(node), me_(t.writer(node, lane)), standing_(standing) {}

    /// Makes `object` with one reference, the node's `ref`. exists, busy, invalid, fenced.
    /// The caller has written and flushed what the object consists of. Cost: as attach.
    Status create(u32 ref, u32 object) { return attach_ref(ref, object, true); }

    /// Adds a reference to `object`, the node's `ref`. gone, too_many, busy, invalid, fenced.
    /// Safe against every other transaction; to be sure that the object is still the one that was
    /// meant, the caller holds a reference to it. Cost: 4 or 5 fences, and up to 2 for each time
    /// that another transaction on the object was faster.
    Status attach(u32 ref, u32 object) { return attach_ref(ref, object, false); }

    /// Drops the reference `ref`. last: the lane is taken until reclaimed(). busy (also for a
    /// second release of it), invalid, fenced, damaged. Cost: as attach.
    Status release(u32 ref) {
        if (ref >= t.shape.refs) return Status::invalid;
        if (!stands()) return Status::fenced;
        Word& cell = t.ref(node_, ref);
        const Cell held{m.load(cell)};
        if (!held.holds() || held.claimer() != NOBODY || !claim(cell, held)) return Status::busy;
        return drop_claimed(cell, held.object());
    }

    /// After `last`, when the object's memory is free: the object may be created again. A kill in
    /// between is repaired by recovery, which frees the memory once more. Cost: 2 fences.
    void reclaimed() {
        const RedoHead head{m.load(redo().head)};
        if (const u64 object = m.load(redo().object); t.has_object(object)) {
            Word& count = t.count(static_cast<u32>(object));
            m.cas(count, CountWord::make(me_, head.era(), 0).bits, FREE_OBJECT.bits);
            persist(count);  // before the record, which alone knows of the object
        }
        retire();
    }

    /// Finishes what the lane's record says, whatever became of its caller: the first step of
    /// recovery. Calls `reclaim(object)` if the object's last reference went. Repeatable. False: no
    /// sound node wrote the record; nothing is done, and it is there to be told of and retired.
    template <class Reclaim>
    bool settle(Reclaim&& reclaim) {
        Step step;
        if (!read_step(m, t, node_, me_, step)) return false;
        if (step.kind == RedoKind::none) return true;
        if (step.kind == RedoKind::move)
            finish_move(*step.cell, *step.to, step.object);
        else if (step.kind == RedoKind::attach && committed(step.object, step.era))
            fill(*step.cell, step.object);
        else if (step.kind == RedoKind::release && committed(step.object, step.era))
            vacate(*step.cell, step.object);
        const bool dropped = step.kind == RedoKind::release || step.kind == RedoKind::reclaim;
        const u64 last = CountWord::make(me_, step.era, 0).bits;
        // Nobody changes a count of 0 but its writer, so this is still so or the object is free.
        if (dropped && m.load(t.count(step.object)) == last) {
            reclaim(step.object);
            reclaimed();
        } else {
            retire();
        }
        return true;
    }

    // The steps below are for mailbox.hpp and recovery.hpp.

    const Tables& tables() const { return t; }
    Memory& memory() const { return m; }
    u32 node() const { return node_; }
    u32 writer() const { return me_; }

    /// Whether the caller still acts for the node.
    bool stands() const { return m.load(t.node(node_)) == standing_.bits; }

    /// Makes the cell ours to change; it must hold `found`. Made durable by what follows.
    bool claim(Word& cell, Cell found) {
        const Cell mine = found.holds() ? Cell::of(found.object(), me_) : Cell::empty(me_);
        return m.cas(cell, found.bits, mine.bits);
    }

    /// Puts a new reference into `cell`, which is empty and claimed. Unclaims it on an error.
    Status attach_claimed(Word& cell, u32 object, bool create) {
        const u64 era = begin(RedoKind::attach, object, cell, cell);
        for (;;) {
            const CountWord found{m.load(t.count(object))};
            if (create ? found.bits != FREE_OBJECT.bits : found.count() == 0)
                return abandon(cell, create ? Status::exists : Status::gone);
            if (found.count() == MAX_COUNT) return abandon(cell, Status::too_many);
            const Attempt attempt = commit(object, found, era, found.count() + 1);
            if (attempt == Attempt::fenced) return Status::fenced;
            if (attempt == Attempt::committed) {
                fill(cell, object);
                retire();
                return Status::ok;
            }
        }
    }

    /// Drops the reference in `cell`, which is claimed. As release().
    Status drop_claimed(Word& cell, u32 object) {
        if (!t.has_object(object)) {
            vacate(cell, object);
            return Status::damaged;
        }
        const u64 era = begin(RedoKind::release, object, cell, cell);
        for (;;) {
            const CountWord found{m.load(t.count(object))};
            if (found.count() == 0) {
                vacate(cell, object);
                retire();
                return Status::damaged;
            }
            const Attempt attempt = commit(object, found, era, found.count() - 1);
            if (attempt == Attempt::fenced) return Status::fenced;
            if (attempt == Attempt::committed) {
                vacate(cell, object);
                if (found.count() == 1) {
                    // From now on only the object is the record's, so the cell may be used again.
                    m.store(redo().head, RedoHead::make(RedoKind::reclaim, era).bits);
                    persist(redo().head);
                    return Status::last;
                }
                retire();
                return Status::ok;
            }
        }
    }

    /// Moves the reference in `cell` to `to`; both are claimed. The count stays.
    void move_claimed(Word& cell, Word& to, u32 object) {
        begin(RedoKind::move, object, cell, to);
        m.flush(to);
        m.fence();  // the commit; a claim that is lost with the record moves nothing
        finish_move(cell, to, object);
        retire();
    }

    /// Gives up a claim before or without a transaction: the cell holds `found` as before.
    void unclaim(Word& cell, Cell found) {
        const Cell mine = found.holds() ? Cell::of(found.object(), me_) : Cell::empty(me_);
        m.cas(cell, mine.bits, found.bits);
    }

    /// Ends what the lane's record says, done or not.
    void retire() {
        const u64 era = RedoHead{m.load(redo().head)}.era();
        m.store(redo().head, RedoHead::make(RedoKind::none, era).bits);
        persist(redo().head);  // before the caller uses the cell: a later redo would be wrong
    }

  private:
    enum class Attempt : u8 { committed, again, fenced };

    RedoRecord& redo() const { return t.lane(me_).redo; }

    void persist(const Word& word) {
        m.flush(word);
        m.fence();
    }

    Status attach_ref(u32 ref, u32 object, bool create) {
        if (ref >= t.shape.refs || object >= t.shape.objects) return Status::invalid;
        if (!stands()) return Status::fenced;
        Word& cell = t.ref(node_, ref);
        return claim(cell, Cell::empty()) ? attach_claimed(cell, object, create) : Status::busy;
    }

    /// Writes the redo record and starts to flush it and the claimed cell; commit() fences.
    u64 begin(RedoKind kind, u32 object, const Word& cell, const Word& to) {
        u64 era = RedoHead{m.load(redo().head)}.era() + 1;
        if (era > MAX_ERA) {
            renew();
            era = 1;
        }
        m.store(redo().object, object);
        m.store(redo().cell, t.offset_of(cell));
        m.store(redo().to, t.offset_of(to));
        m.store(redo().head, RedoHead::make(kind, era).bits);  // last: makes the others valid
        m.flush(redo().head);
        m.flush(cell);
        return era;
    }

    /// One try to change the count from `found`.
    Attempt commit(u32 object, CountWord found, u64 era, u32 count) {
        Word& word = t.count(object);
        if (!tell(word, found)) return Attempt::again;
        m.fence();  // record, claim and what was told are in the pool before anybody sees the count
        if (!stands()) return Attempt::fenced;
        if (!m.cas(word, found.bits, CountWord::make(me_, era, count).bits)) return Attempt::again;
        persist(word);  // before the cell and the record: else a reference could outlive its count
        return Attempt::committed;
    }

    /// Records in the matrix that the transaction named by `found` has committed: the word that
    /// says so is about to be overwritten. False: it has been already.
    bool tell(const Word& word, CountWord found) {
        const u32 writer = found.writer();
        if (writer == me_ || !t.has_writer(writer))
            return true;  // our own last transaction is complete; NOBODY's, and what is none, too
        const u64 epoch = m.load(t.lane(writer).epoch);
        // A lane's words are gone before its epoch changes: the same word, so its era is of
        // `epoch`.
        if (m.load(word) != found.bits) return false;
        // If the writer shares our cache, memory may not have the word yet: never tell of a commit
        // that may still be lost.
        persist(word);
        Word& seen = t.seen(node_, writer);
        const u64 era = full_era(epoch, found.era());
        for (u64 old = m.load(seen); old < era && !m.cas(seen, old, era);) old = m.load(seen);
        m.flush(seen);  // even if another lane of ours was first: it may not have flushed yet
        return true;
    }

    /// Whether our transaction of `era` on `object` committed: the word still says so, or somebody
    /// saw it and said so before it was overwritten.
    bool committed(u32 object, u64 era) {
        const CountWord now{m.load(t.count(object))};
        if (now.writer() == me_ && now.era() == era) return true;
        const u64 full = full_era(m.load(t.lane(me_).epoch), era);
        for (u32 i = 0; i < t.shape.nodes; ++i)
            if (m.load(t.seen(i, me_)) >= full) return true;
        return false;
    }

    // The idempotent halves: each does nothing if it was done, whatever happened to the cell since.

    void fill(Word& cell, u32 object) {
        m.cas(cell, Cell::empty(me_).bits, Cell::of(object).bits);
        persist(cell);  // before the record retires, which alone could redo it
    }

    void vacate(Word& cell, u32 object) {
        m.cas(cell, Cell::of(object, me_).bits, Cell::empty().bits);
        persist(cell);  // as in fill
    }

    void finish_move(Word& cell, Word& to, u32 object) {
        if (m.load(cell) != Cell::of(object, me_).bits)
            return;  // finished before, or its claim was lost: then it never began
        m.store(to, Cell::of(object).bits);  // our node's own cell, claimed by us or not at all
        persist(to);                         // before the other one forgets the reference
        vacate(cell, object);
    }

    Status abandon(Word& cell, Status status) {
        retire();  // in either order: a record that never committed changes nothing
        unclaim(cell, Cell::empty());
        return status;
    }

    /// Begins a new epoch, once in 2^34 transactions of the lane, which is idle: no word names it
    /// any more, so no era of the old epoch can be taken for one of the new. Cost: one look at
    /// every object.
    void renew() {
        for (u32 i = 0; i < t.shape.objects; ++i) {
            Word& word = t.count(i);
            for (CountWord old{m.load(word)}; old.writer() == me_; old = {m.load(word)}) {
                m.cas(word, old.bits, CountWord::make(NOBODY, 0, old.count()).bits);
                m.flush(word);
            }
        }
        Word& epoch = t.lane(me_).epoch;
        m.store(epoch, m.load(epoch) + 1);
        // Words and epoch, before an era of it is used. After a kill before that the record still
        // has the last era of the old epoch, and the lane begins one more.
        persist(epoch);
    }

    Memory& m;
    const Tables& t;
    u32 node_;
    u32 me_;
    NodeWord standing_;
};

}  // namespace aep::era
