// Purpose: see process.hpp.
// Who calls it: see process.hpp.
// Crash rule: see process.hpp.
#include "shim/driver/process.hpp"

#include "shim/backing/anonymous_backing.hpp"
#include "shim/backing/domain_memory.hpp"
#include "shim/backing/huge_pages.hpp"
#include "shim/context/join.hpp"
#include "shim/context/joined_backing.hpp"
#include "shim/driver/aside.hpp"
#include "shim/driver/background.hpp"
#include "shim/sys/message.hpp"
#include "shim/sys/signals_blocked.hpp"

namespace aep {

std::atomic<usize> window_slices{0};
constinit bool pure_mode = false;
constinit uptr domain_address = DOMAINS_BASE;
constinit u32 own_domain_heaps = 0;
constinit ProcessLock start_lock{LockName::start};

namespace {

Settings process_settings;
const Backing* process_backing = nullptr;
bool configured = false;
bool said_unmapped = false;
std::atomic<bool> started{false};

/// After a message that said why.
void go_on_privately(const char* what) {
    if (process_settings.require) fatal("AEP_REQUIRE=1 and ", what, " cannot be used: giving up");
    message("continuing in private mode: nothing is shared (AEP_REQUIRE=1 makes this fatal)");
}

void choose_backing() {
    if (process_backing != nullptr) return;  // configured
    if (!configured) process_settings = read_settings();
    switch (join_context(process_settings)) {
        case Join::joined:
            process_backing = joined_backing();
            break;
        case Join::failed:
            go_on_privately("the context");
            break;
        case Join::absent:
            break;
    }
    if (process_backing == nullptr && process_settings.pool != nullptr) {
        process_backing = pool_backing(process_settings.pool, process_settings.pool_bytes);
        if (process_backing == nullptr) go_on_privately("the pool");
    }
    if (process_backing == nullptr) process_backing = anonymous_backing();
    use_huge_pages(process_settings.huge_from);
}

/// Memory for the domain, unless it is the context's.
bool map_domain_memory() {
    if (process_backing->commit_domain != nullptr) {
        domain_address = reinterpret_cast<uptr>(&domain_at(this_client.index));
        arena_is_open(context().chunk_count);
        return true;
    }
    if (!open_own_domain(domain(), HEAPS_PER_STEP)) {
        if (!said_unmapped) {  // each request tries again
            said_unmapped = true;
            message("cannot map the allocator's metadata at ", Hex{domain_address},
                    ": the address space is limited (ulimit -v) or in use, or all memory is locked "
                    "(mlockall) and the limit of that is low (ulimit -l)");
        }
        return false;
    }
    domain_init(domain(), index_of(domain()));
    domain().heaps_mapped.store(HEAPS_PER_STEP, std::memory_order_relaxed);
    return true;
}

}  // namespace

bool process_start() {
    if (AEP_LIKELY(started.load(std::memory_order_acquire))) return true;
    if (stays_on_libc()) return false;
    // A handler that jumped out of the middle would leave mappings and descriptors that nobody
    // knows of, in the way of the next try.
    const SignalsBlocked undisturbed;
    const ProcessLockScope scope(start_lock);
    if (started.load(std::memory_order_relaxed)) return true;
    choose_backing();
    pure_mode = process_settings.pure;
    background_enable(process_settings.background);
    if (!map_domain_memory()) return false;
    own_domain_heaps = index_of(domain()) * HEAP_IDS;
    started.store(true, std::memory_order_release);
    return true;
}

void process_configure(const Backing* backing, const Settings& settings) {
    process_settings = settings;
    process_backing = backing;
    configured = true;
}

void process_start_early() {
    if (started.load(std::memory_order_acquire) || configured) return;
    process_configure(nullptr, read_settings());
    if (process_settings.names_context() || process_settings.pool != nullptr) process_start();
}

const Settings& settings() { return process_settings; }
const Backing& backing() { return *process_backing; }

}  // namespace aep
