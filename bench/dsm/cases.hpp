// Purpose: the measured loops, written once for every system: what differs is how it allocates,
//          drops, sends and receives.
// Who calls it: ours.cpp and flat.cpp.
// Crash rule: nothing outlives the process.
//
// A System has an Object, and allocate(size), drop(object), address(object), send(object) to
// itself or to a second client in the same thread, receive() there, drop_received(object),
// page_of(object) and chunk_of(object).
#pragma once

#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "bench/dsm/timing.hpp"

namespace aep::bench {

inline constexpr unsigned BATCH = 256;
inline constexpr std::size_t BLOCK = 64;

/// A batch allocated and dropped, pages and lists warm: `alloc` and `free`, ns each.
template <class System>
void operations(System& s, unsigned batches) {
    std::vector<typename System::Object> objects(BATCH);
    std::vector<double> allocs;
    std::vector<double> frees;
    for (unsigned i = 0; i < batches + batches / 8 + 1; ++i) {
        const double begin = now_ns();
        for (auto& object : objects) object = s.allocate(BLOCK);
        const double allocated = now_ns();
        for (auto& object : objects) s.drop(object);
        const double freed = now_ns();
        if (i > batches / 8) {
            allocs.push_back((allocated - begin) / BATCH);
            frees.push_back((freed - allocated) / BATCH);
        }
    }
    print("alloc", median(allocs));
    print("free", median(frees));
}

/// The heap grows to `count` blocks, each timed alone: medians of those that took another page, or
/// another chunk: `NAMEpage` and `NAMEchunk`, ns. Nothing is left.
template <class System>
void refill(System& s, unsigned count, double ticks_per_ns, const std::string& name) {
    std::vector<typename System::Object> objects(count);
    std::vector<double> pages;
    std::vector<double> chunks;
    std::vector<double> nothing;
    for (int i = 0; i < 1000; ++i) {
        const std::uint64_t begin = ticks();
        nothing.push_back(static_cast<double>(ticks() - begin));
    }
    const double overhead = median(nothing);
    std::uint64_t page = ~std::uint64_t{0};
    std::uint64_t chunk = page;
    for (auto& object : objects) {
        const std::uint64_t begin = ticks();
        object = s.allocate(BLOCK);
        const std::uint64_t end = ticks();
        const double ns = (static_cast<double>(end - begin) - overhead) / ticks_per_ns;
        if (s.chunk_of(object) != chunk)
            chunks.push_back(ns);
        else if (s.page_of(object) != page)
            pages.push_back(ns);
        page = s.page_of(object);
        chunk = s.chunk_of(object);
    }
    for (auto& object : objects) s.drop(object);
    print((name + "page").c_str(), median(pages));
    print((name + "chunk").c_str(), median(chunks));
}

/// Twice: on memory that is new to the process, `new_`, and on the same again, `used_`.
template <class System>
void refills(System& s, unsigned count, double ticks_per_ns) {
    refill(s, count, ticks_per_ns, "new_");
    refill(s, count, ticks_per_ns, "used_");
}

/// References sent, received and dropped in one thread, a batch of distinct objects at a time:
/// `send`, `receive`, their sum `transfer`, and `drop`, ns each.
template <class System>
void transfers(System& s, unsigned batches) {
    std::vector<typename System::Object> objects(BATCH);
    std::vector<typename System::Object> received(BATCH);
    for (auto& object : objects) object = s.allocate(BLOCK);
    std::vector<double> sends;
    std::vector<double> receives;
    std::vector<double> drops;
    std::vector<double> both;
    for (unsigned i = 0; i < batches + batches / 8 + 1; ++i) {
        const double begin = now_ns();
        for (auto& object : objects) s.send(object);
        const double sent = now_ns();
        for (auto& object : received) object = s.receive();
        const double arrived = now_ns();
        for (auto& object : received) s.drop_received(object);
        const double dropped = now_ns();
        if (i > batches / 8) {
            sends.push_back((sent - begin) / BATCH);
            receives.push_back((arrived - sent) / BATCH);
            both.push_back((arrived - begin) / BATCH);
            drops.push_back((dropped - arrived) / BATCH);
        }
    }
    for (auto& object : objects) s.drop(object);
    print("send", median(sends));
    print("receive", median(receives));
    print("transfer", median(both));
    print("drop", median(drops));
}

/// threadtest: `threads` threads share 100,000 objects of 64 bytes, allocate, write and free their
/// part, `rounds` times. `system(i)` is what thread i uses. `pair`: ns of processor time an
/// allocation with its free takes; `pairs_per_second` that all did together.
template <class MakeSystem>
void threadtest(unsigned threads, unsigned rounds, MakeSystem&& system) {
    constexpr unsigned OBJECTS = 100'000;
    std::vector<std::thread> running;
    const unsigned share = OBJECTS / threads;
    const double begin = now_ns();
    const double begin_cpu = process_ns();
    for (unsigned i = 0; i < threads; ++i) {
        running.emplace_back([&system, share, rounds, i] {
            auto&& s = system(i);
            using System = std::remove_reference_t<decltype(s)>;
            std::vector<typename System::Object> objects(share);
            for (unsigned round = 0; round < rounds; ++round) {
                for (auto& object : objects) {
                    object = s.allocate(BLOCK);
                    *static_cast<volatile unsigned*>(s.address(object)) = round;
                }
                for (auto& object : objects) s.drop(object);
            }
        });
    }
    for (std::thread& thread : running) thread.join();
    const double pairs = static_cast<double>(share) * threads * rounds;
    print("pair", (process_ns() - begin_cpu) / pairs);
    print("pairs_per_second", pairs / (now_ns() - begin) * 1e9);
}

/// What a neighbour of dying clients does: replaces random ones of 512 objects of 16 to 4111 bytes
/// for so many milliseconds from `begin` on. Of each 10 ms: how many (`bin`), and the processor
/// time that they took (`cpu`, ns).
struct Bins {
    std::vector<double> replaced;
    std::vector<double> cpu;

    void print_all() const {
        for (const double count : replaced) print("bin", count);
        for (const double ns : cpu) print("cpu", ns);
    }
};

template <class System>
Bins survive(System& s, unsigned milliseconds, double begin) {
    constexpr double BIN = 10e6;
    constexpr unsigned BETWEEN_LOOKS = 16;
    Bins bins;
    std::vector<std::optional<typename System::Object>> objects(512);
    std::uint64_t random = 88172645463325252u;
    double used = thread_ns();
    while (bins.replaced.size() < milliseconds / 10) {
        const double end = begin + BIN * static_cast<double>(bins.replaced.size() + 1);
        double count = 0;
        for (; now_ns() < end; count += BETWEEN_LOOKS) {
            for (unsigned i = 0; i < BETWEEN_LOOKS; ++i) {
                random ^= random << 13, random ^= random >> 7, random ^= random << 17;
                auto& object = objects[random % objects.size()];
                if (object) s.drop(*object);
                object = s.allocate(16 + random / 512 % 4096);
                *static_cast<volatile char*>(s.address(*object)) = 1;
            }
        }
        bins.replaced.push_back(count);
        bins.cpu.push_back(thread_ns() - used);
        used = thread_ns();
    }
    return bins;
}

}  // namespace aep::bench
