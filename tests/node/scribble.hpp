// Purpose: a client that lies: it writes what leads somewhere, or anything, wherever it can in the context.
// Who calls it: tests/node/node_client.cpp.
// Crash rule: it is there to be killed.
#pragma once

#include <cstring>
#include <random>
#include <vector>

#include "dsm-core/sharing/format.hpp"

namespace aep::test {

/// What a client can write: beginning and size.
inline std::vector<std::pair<u8*, usize>> writable_parts() {
    std::vector<std::pair<u8*, usize>> parts;
    const auto add = [&](const void* at, usize bytes) {
        parts.emplace_back(static_cast<u8*>(const_cast<void*>(at)), bytes);
    };
    const ContextHeader& c = context();
    add(&c.node, sizeof(ContextWords));
    add(&client_at(0), (c.max_clients + 1) * sizeof(ClientEntry));
    add(&client_at(0), 4 * sizeof(ClientEntry));
    add(&slot_at(0), 8 * SLOT_STRIDE);
    add(&chunk_owner(0), c.chunk_count * sizeof(u32));
    add(&log_ring(), sizeof(LogRing));
    add(&sharing(), sizeof(ShareHeader));
    add(&share_client(0), 4 * sizeof(ShareClient));
    add(&chunk_exports(0), c.chunk_count * sizeof(u32));
    add(&export_at(0), 64 * sizeof(Export));
    add(&side_at(0), 64 * sizeof(ExportSide));
    add(&holder_at(0), 64 * sizeof(Holder));
    add(ring_of(1), 16 * sizeof(Message));
    return parts;
}

/// `words` words, at random by `seed`. The own slot's stack, and what the client maps, stay.
inline void scribble(u64 seed, u64 words) {
    constexpr u64 STRANGE[] = {0,
                               1,
                               2,
                               7,
                               ~u64{0},
                               u64{1} << 63,
                               0xffff'ffff,
                               0x7fff'ffff,
                               u64{1} << 31,
                               u64{1} << 32 | 1,
                               HEAP_BASE,
                               HEAP_BASE + 64 * KiB,
                               0x0202'0202'0202'0202};
    std::mt19937_64 random(seed);
    const auto parts = writable_parts();
    for (u64 i = 0; i < words; ++i) {
        const auto& [at, bytes] = parts[random() % parts.size()];
        const u64 value = random() % 4 == 0 ? random() : STRANGE[random() % std::size(STRANGE)];
        std::memcpy(at + random() % (bytes / sizeof value) * sizeof value, &value, sizeof value);
    }
}

}  // namespace aep::test
