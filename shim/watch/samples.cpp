// Purpose: see samples.hpp.
// Who calls it: see samples.hpp.
// Crash rule: see samples.hpp.
#include "shim/watch/samples.hpp"

#include "shim/sys/syscall.hpp"

namespace aep {

constinit SampleTables sample_tables{};

namespace {

constexpr u32 CHAINS = 1 << 14;
using Chains = std::atomic<u32>[CHAINS];  // number + 1 of the first site
std::atomic<Chains*> chains{nullptr};

struct Live {
    std::atomic<uptr> address;  // 0: none. TAKEN: being written
    std::atomic<u32> site;
};
constexpr uptr TAKEN = 1;
constexpr u32 LEVELS = 20;
constexpr usize FIRST_LEVEL = 4096;  // entries
constexpr u32 PLACES = 16;           // of a level, where an address may stand
std::atomic<Live*> levels[LEVELS];

void* map_zeros(usize bytes) {
    const long at =
        sys::mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE);
    return sys::failed(at) ? nullptr : reinterpret_cast<void*>(at);
}

/// What is there, or `bytes` of zeros that are there from now on; null: no memory.
template <class T>
T* mapped_once(std::atomic<T*>& place, usize bytes) {
    T* there = place.load(std::memory_order_acquire);
    if (AEP_LIKELY(there != nullptr)) return there;
    auto* const mine = static_cast<T*>(map_zeros(bytes));
    if (mine == nullptr || place.compare_exchange_strong(there, mine, std::memory_order_acq_rel))
        return mine;
    sys::munmap(reinterpret_cast<uptr>(mine), bytes);  // another thread was faster
    return there;
}

u64 mix(u64 hash, u64 word) {
    hash = (hash ^ word) * 0x9e37'79b9'7f4a'7c15U;
    return hash ^ hash >> 32;
}

bool is_site_of(const SampleSite& site, usize size, const CallStack& stack) {
    return site.size == size && site.depth == stack.depth &&
           __builtin_memcmp(site.frames, stack.frames, stack.depth * sizeof(uptr)) == 0;
}

/// The number of the site, made if there is none yet; MOST_SITES: there is no room.
u32 site_of(usize size, const CallStack& stack) {
    Chains* const all = mapped_once(chains, sizeof(Chains));
    if (all == nullptr) return MOST_SITES;
    SampleSite* const sites = mapped_once(sample_tables.sites, sizeof(SampleSite) * MOST_SITES);
    if (sites == nullptr) return MOST_SITES;
    u64 hash = mix(0, size);
    for (u32 i = 0; i < stack.depth; ++i) hash = mix(hash, stack.frames[i]);
    std::atomic<u32>& chain = (*all)[hash % CHAINS];
    // Acquire: the sites of the chain are written.
    u32 first = chain.load(std::memory_order_acquire);
    for (u32 i = first; i != 0; i = sites[i - 1].next)
        if (is_site_of(sites[i - 1], size, stack)) return i - 1;
    const u32 number = sample_tables.count.load(std::memory_order_relaxed) >= MOST_SITES
                           ? MOST_SITES
                           : sample_tables.count.fetch_add(1, std::memory_order_relaxed);
    if (number >= MOST_SITES) return MOST_SITES;
    SampleSite& site = sites[number];
    site.size = size;
    site.depth = stack.depth;
    __builtin_memcpy(site.frames, stack.frames, stack.depth * sizeof(uptr));
    // Another thread may enter the same one meanwhile: two sites of one stack, which readers add up.
    do {
        site.next = first;
    } while (!chain.compare_exchange_weak(first, number + 1, std::memory_order_acq_rel));
    site.ready.store(1, std::memory_order_release);
    return number;
}

/// The PLACES of a level where an address may stand.
Live* places_of(Live* level, u32 number, uptr address) {
    const usize groups = (FIRST_LEVEL << number) / PLACES;
    return level + mix(0, address) % groups * PLACES;
}

bool enter(uptr address, u32 site) {
    for (u32 n = 0; n < LEVELS; ++n) {
        Live* const level = mapped_once(levels[n], (FIRST_LEVEL << n) * sizeof(Live));
        if (level == nullptr) return false;
        Live* const places = places_of(level, n, address);
        for (u32 i = 0; i < PLACES; ++i) {
            uptr nobody = 0;
            if (places[i].address.load(std::memory_order_relaxed) != 0 ||
                !places[i].address.compare_exchange_strong(nobody, TAKEN,
                                                           std::memory_order_acquire))
                continue;
            places[i].site.store(site, std::memory_order_relaxed);
            // Release: who finds the address finds its site.
            places[i].address.store(address, std::memory_order_release);
            return true;
        }
    }
    return false;
}

}  // namespace

void note_sample(uptr address, usize size, const CallStack& stack) {
    const u32 site = site_of(size, stack);
    if (site == MOST_SITES || !enter(address, site)) {
        sample_tables.omitted.fetch_add(1, std::memory_order_relaxed);
        return;
    }
    sample_tables.sites.load(std::memory_order_acquire)[site].made.fetch_add(
        1, std::memory_order_relaxed);
}

usize forget_sample(uptr address) {
    for (u32 n = 0; n < LEVELS; ++n) {
        Live* const level = levels[n].load(std::memory_order_acquire);
        if (level == nullptr) return 0;
        Live* const places = places_of(level, n, address);
        for (u32 i = 0; i < PLACES; ++i) {
            if (places[i].address.load(std::memory_order_acquire) != address) continue;
            const u32 number = places[i].site.load(std::memory_order_relaxed);
            // Of two that free the same block one finds it here.
            uptr expected = address;
            if (!places[i].address.compare_exchange_strong(expected, 0, std::memory_order_acq_rel))
                return 0;
            SampleSite& site = sample_tables.sites.load(std::memory_order_acquire)[number];
            site.freed.fetch_add(1, std::memory_order_relaxed);
            return site.size;
        }
    }
    return 0;
}

double weight_of_sample(u64 size, u64 rate) {
    const double x = static_cast<double>(size) / static_cast<double>(rate < 1 ? 1 : rate);
    if (rate <= 1 || x > 40) return static_cast<double>(size);
    // 1 - exp(-x), with exp(x) = (exp(x / 64))^64 and a series for the small argument: libc has no exp.
    const double small = -x / 64;
    double e =
        1 + small * (1 + small / 2 *
                             (1 + small / 3 * (1 + small / 4 * (1 + small / 5 * (1 + small / 6)))));
    for (int i = 0; i < 6; ++i) e *= e;
    const double chance = 1 - e;
    // For the smallest the difference has lost its digits, and is x.
    return static_cast<double>(size) / (x < 1e-6 ? x : chance);
}

}  // namespace aep
