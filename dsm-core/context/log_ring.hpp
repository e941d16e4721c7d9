// Purpose: what operations have to tell people: a ring of small records in the context, because the
//          image makes no system call. The daemon puts them into its log.
// Who calls it: the node operations and the dispatcher write; the daemon reads.
// Crash rule: a record counts when its ticket is stored, last of all. A writer that is killed
// before
//             is completed like any operation; if it is undone its record is skipped.
//
// What two at once may see.
//
//   write | write                different records. Where one sleeps while RECORDS others are written,
//                                the same: fields of both, for people to wonder at
//   write | read                 the record as a whole, or not yet: its ticket comes last. One that is
//                                being written over is counted as lost
//   read | read                  each has a place of its own in the ring
#pragma once

#include <atomic>

#include "dsm-core/base/types.hpp"

namespace aep {

enum class Event : u32 {
    none = 0,
    client_limit = 1,    // a=chunks it asked for, b=its limit in bytes
    context_limit = 2,   // a=chunks, b=the context's limit in bytes
    no_run = 3,          // a=chunks: the pool has no such run
    not_its_chunk = 4,   // a=chunk that it gave back and does not have
    refused = 5,         // a=operation: the context is poisoned
    unknown_number = 6,  // a=operation that does not exist
    memory_failed = 7,   // a=address in the pool that it touched, b=si_code of the SIGBUS
    count,
};

struct LogRecord {
    std::atomic<u64> ticket;  // number of the record plus 1; 0 or another's: not complete
    std::atomic<u32> event;
    std::atomic<u32> client;
    std::atomic<u64> a;
    std::atomic<u64> b;
};

/// Zeroed memory is an empty ring. When it is full the oldest records are written over.
struct LogRing {
    static constexpr u32 RECORDS = 1024;

    alignas(64) std::atomic<u64> next;  // number of the next record
    alignas(64) LogRecord records[RECORDS];

    /// Writes one record. Lock-free, any number of writers; about ten stores.
    void write(Event event, u32 client, u64 a, u64 b) {
        const u64 number = next.fetch_add(1, std::memory_order_relaxed);
        LogRecord& r = records[number % RECORDS];
        r.ticket.store(0, std::memory_order_relaxed);
        // Release: who sees one of the new fields sees that the old ticket is gone.
        std::atomic_thread_fence(std::memory_order_release);
        r.event.store(static_cast<u32>(event), std::memory_order_relaxed);
        r.client.store(client, std::memory_order_relaxed);
        r.a.store(a, std::memory_order_relaxed);
        r.b.store(b, std::memory_order_relaxed);
        r.ticket.store(number + 1, std::memory_order_release);
    }
};

/// A record as it was read.
struct LogEntry {
    Event event = Event::none;
    u32 client = 0;
    u64 a = 0;
    u64 b = 0;
};

/// One reader's place in a ring.
class LogReader {
  public:
    /// Calls f(entry) for each complete record since the last call, oldest first. Returns how many
    /// were lost: written over before they were read, or never completed.
    template <class F>
    u64 read(const LogRing& ring, F&& f) {
        const u64 end = ring.next.load(std::memory_order_acquire);
        u64 lost = 0;
        if (end - position_ > LogRing::RECORDS) {
            lost = end - LogRing::RECORDS - position_;
            position_ = end - LogRing::RECORDS;
        }
        for (; position_ != end; ++position_) {
            const LogRecord& r = ring.records[position_ % LogRing::RECORDS];
            const u64 ticket = r.ticket.load(std::memory_order_acquire);
            if (ticket != position_ + 1) {
                // Its writer is at it, or died at it: waited for while there is room for others.
                if (ticket <= position_ && end - position_ < LogRing::RECORDS / 2) break;
                ++lost;
                continue;
            }
            LogEntry entry{static_cast<Event>(r.event.load(std::memory_order_relaxed)),
                           r.client.load(std::memory_order_relaxed),
                           r.a.load(std::memory_order_relaxed),
                           r.b.load(std::memory_order_relaxed)};
            // Acquire: the ticket is looked at again after the fields.
            std::atomic_thread_fence(std::memory_order_acquire);
            if (r.ticket.load(std::memory_order_relaxed) != ticket) {
                ++lost;
                continue;
            }
            f(entry);
        }
        return lost;
    }

    /// Leaves out what has been written so far.
    void skip(const LogRing& ring) { position_ = ring.next.load(std::memory_order_acquire); }

  private:
    u64 position_ = 0;
};

}  // namespace aep
