// Purpose: see node_ops.hpp.
// Who calls it: the image's dispatcher, recovery.
// Crash rule: see node_ops.hpp. The order of the two words is the same everywhere: a chunk is
//             marked in the context before the pool's table says that it is the node's, and
//             unmarked after the pool's table says that it is free.
#include "dsm-core/context/node_ops.hpp"

#include "dsm-core/context/crash_points.hpp"

namespace aep {
namespace {

PoolTables pool_tables() {
    return tables_of(reinterpret_cast<void*>(context().pool_address), context().pool);
}

Owner node() {
    const ContextHeader& ctx = context();
    return {ctx.node.load(std::memory_order_relaxed),
            ctx.node_generation.load(std::memory_order_relaxed)};
}

bool change(std::atomic<u32>& owner, u32 from, u32 to) {
    // acq_rel: what the former owner left of the chunk's metadata is seen by the next one.
    return owner.load(std::memory_order_relaxed) == from &&
           owner.compare_exchange_strong(from, to, std::memory_order_acq_rel);
}

enum class Taken { no, clean, dirty };

/// Takes one chunk for the client, from the cache or from the pool.
Taken take_one(const PoolTables& pool, u32 client, u32 chunk) {
    std::atomic<u32>& owner = chunk_owner(chunk);
    if (!pool.chunk(chunk).has_failed() && change(owner, OWNER_CACHED, client)) {
        AEP_NODE_CRASH_POINT("node: taken from the cache");
        taken_from_cache();
        return Taken::dirty;
    }
    if (!change(owner, OWNER_NOBODY, client | OWNER_CLAIMING)) return Taken::no;
    AEP_NODE_CRASH_POINT("node: marked as claiming");
    if (claim_chunk(pool, node(), chunk)) {
        AEP_NODE_CRASH_POINT("node: claimed in the pool");
        owner.store(client, std::memory_order_release);
        AEP_NODE_CRASH_POINT("node: the client's");
        return Taken::clean;
    }
    owner.store(OWNER_NOBODY, std::memory_order_release);  // another node's
    return Taken::no;
}

/// To the cache: always possible, and right for clean chunks, too. The word first: a count that is
/// too small costs a later look, one that was too large would cost a search in vain each time.
void to_cache(std::atomic<u32>& owner) {
    owner.store(OWNER_CACHED, std::memory_order_release);
    context().chunks_cached.fetch_add(1, std::memory_order_relaxed);
}

/// Takes [first, first+count) or nothing; `next`: where a run may begin after this one failed.
bool take_all(const PoolTables& pool, u32 client, u32 first, u32 count, bool& clean, u32& next) {
    clean = true;
    for (u32 i = first; i < first + count; ++i) {
        const Taken taken = take_one(pool, client, i);
        if (taken != Taken::no) {
            clean = clean && taken == Taken::clean;
            continue;
        }
        next = i + 1;
        while (i-- > first) to_cache(chunk_owner(i));
        return false;
    }
    return true;
}

/// A chunk that may be taken, without taking it.
bool looks_free(const PoolTables& pool, u32 chunk) {
    const u32 owner = chunk_owner(chunk).load(std::memory_order_relaxed);
    const ChunkWord word = pool.chunk(chunk);
    return (owner == OWNER_CACHED && !word.has_failed()) ||
           (owner == OWNER_NOBODY && word.bits == FREE_CHUNK.bits);
}

/// Takes a run that begins in [from, to); NO_CHUNK: there is none.
u32 take_run_in(const PoolTables& pool, u32 client, u32 count, u32 align, u32 from, u32 to,
                bool& clean) {
    const u32 there = pool.chunks_there();
    usize first = round_up(from, align);
    while (first < to && first + count <= there) {
        const u32 candidate = static_cast<u32>(first);
        u32 next = candidate;
        while (next < candidate + count && looks_free(pool, next)) ++next;
        if (next == candidate + count) {
            if (take_all(pool, client, candidate, count, clean, next)) return candidate;
        } else {
            ++next;
        }
        first = round_up(next, align);
    }
    return raw(NO_CHUNK);
}

/// One chunk that is the node's already: its memory is there, and no other node need be asked.
u32 take_cached(const PoolTables& pool, u32 client) {
    for (u32 c = 0; c < pool.chunk_count; ++c) {
        if (chunks_in_cache() == 0) break;
        std::atomic<u32>& owner = chunk_owner(c);
        if (owner.load(std::memory_order_relaxed) == OWNER_CACHED && !pool.chunk(c).has_failed() &&
            change(owner, OWNER_CACHED, client)) {
            AEP_NODE_CRASH_POINT("node: taken from the cache");
            taken_from_cache();
            return c;
        }
    }
    return raw(NO_CHUNK);
}

bool within_limit(u64 bytes, u64 limit) { return limit == 0 || bytes <= limit; }

/// Takes what is asked for, at its place or where there is room; NO_CHUNK: nothing is.
u32 take_run(const PoolTables& pool, u32 client, const op::ClaimChunks& o, bool& clean) {
    const ContextHeader& ctx = context();
    const u32 count = o.count;
    const u32 align = o.alignment;
    if (o.at != NO_CHUNK) {
        const u32 exact = raw(o.at);
        u32 ignored = 0;
        const bool taken = usize{exact} + count <= pool.chunks_there() &&
                           take_all(pool, client, exact, count, clean, ignored);
        return taken ? exact : raw(NO_CHUNK);
    }
    const u32 hint = ctx.next_chunk.load(std::memory_order_relaxed);
    u32 first = raw(NO_CHUNK);
    if (count == 1 && align == 1) first = take_cached(pool, client);
    // Cached chunks have their memory: a run of them comes before one of fresh chunks.
    const bool reuse = chunks_in_cache() >= count;
    for (const bool below : {reuse, !reuse}) {
        if (first != raw(NO_CHUNK)) break;
        first = below ? take_run_in(pool, client, count, align, 0, hint, clean)
                      : take_run_in(pool, client, count, align, hint, pool.chunk_count, clean);
    }
    return first;
}

/// A claim in vain: an event, but for a run at one certain place, which is often asked for so.
op::ClaimChunks::Reply missed(u32 client, const op::ClaimChunks& o) {
    if (o.at == NO_CHUNK) log_ring().write(Event::no_run, client, o.count, 0);
    return {.status = Status::miss};
}

}  // namespace

op::ClaimChunks::Reply perform(u32 client, const op::ClaimChunks& o) {
    ContextHeader& ctx = context();
    ClientEntry& entry = client_at(client);
    const PoolTables pool = pool_tables();
    const u32 count = o.count;
    const u32 align = o.alignment;
    if (count == 0 || count > pool.chunk_count || !is_power_of_two(align) ||
        (o.at != NO_CHUNK && raw(o.at) % align != 0)) {
        log_ring().write(Event::no_run, client, count, 0);
        return {.status = Status::miss};
    }
    const u64 held = entry.chunks.fetch_add(count, std::memory_order_relaxed) + count;
    const u64 own_limit = entry.limit.load(std::memory_order_relaxed);
    const u64 all_limit = ctx.context_limit.load(std::memory_order_relaxed);
    const bool own_allows = within_limit(held * CHUNK_SIZE, own_limit);
    const bool allowed =
        own_allows && (all_limit == 0 || within_limit(bytes_of_clients(), all_limit));
    bool clean = false;
    const u32 first = allowed ? take_run(pool, client, o, clean) : raw(NO_CHUNK);
    if (first == raw(NO_CHUNK)) {
        entry.chunks.fetch_sub(count, std::memory_order_relaxed);
        if (allowed) return missed(client, o);
        log_ring().write(own_allows ? Event::context_limit : Event::client_limit, client, count,
                         own_allows ? all_limit : own_limit);
        return {.status = Status::limit};
    }
    AEP_NODE_CRASH_POINT("node: run complete");
    if (clean) ctx.next_chunk.store(first + count, std::memory_order_relaxed);
    if (held > entry.peak.load(std::memory_order_relaxed))
        entry.peak.store(held, std::memory_order_relaxed);
    return {.first = ChunkIndex{first}, .clean = clean};
}

op::ReturnChunk::Reply perform(u32 client, const op::ReturnChunk& o) {
    const u32 chunk = raw(o.chunk);
    if (chunk >= context().chunk_count ||
        chunk_owner(chunk).load(std::memory_order_acquire) != client) {
        log_ring().write(Event::not_its_chunk, client, chunk, 0);
        return {.status = Status::miss};
    }
    client_at(client).chunks.fetch_sub(1, std::memory_order_relaxed);
    if (o.clean) {
        free_chunk(pool_tables(), node(), chunk);
        AEP_NODE_CRASH_POINT("node: returned to the pool");
        chunk_owner(chunk).store(OWNER_NOBODY, std::memory_order_release);
        AEP_NODE_CRASH_POINT("node: nobody's");
    } else {
        to_cache(chunk_owner(chunk));
    }
    return {};
}

void taken_from_cache() { context().chunks_cached.fetch_sub(1, std::memory_order_relaxed); }

u64 bytes_of_clients() {
    u64 chunks = 0;
    for (u32 i = 1; i <= context().max_clients; ++i)
        chunks += client_at(i).chunks.load(std::memory_order_relaxed);
    return chunks * CHUNK_SIZE;
}

bool reclaim_chunk(u32 client, u32 chunk) {
    std::atomic<u32>& owner = chunk_owner(chunk);
    const u32 now = owner.load(std::memory_order_acquire);
    const bool claiming = now == (client | OWNER_CLAIMING);
    if (!claiming && now != client) return false;
    // Nobody else claims for our node what is marked so: if the pool says that it is ours, it is
    // the client's. It may be free there: before a claim, and after a return that was not
    // completed.
    const ChunkWord word = pool_tables().chunk(chunk);
    const Owner us = node();
    if (word.unmarked().bits != ChunkWord::owned(us.node, us.generation).bits) {
        owner.store(OWNER_NOBODY, std::memory_order_release);
        return false;
    }
    to_cache(owner);
    return true;
}

bool keep_chunk(u32 client, u32 chunk) { return change(chunk_owner(chunk), client, OWNER_KEPT); }

void give_kept_chunk(u32 chunk) {
    std::atomic<u32>& owner = chunk_owner(chunk);
    if (owner.load(std::memory_order_seq_cst) != OWNER_KEPT) return;
    if (change(owner, OWNER_KEPT, OWNER_CACHED))
        context().chunks_cached.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace aep
