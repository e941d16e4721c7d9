// Purpose: see share_operation.hpp.
// Who calls it: see share_operation.hpp.
// Crash rule: see share_operation.hpp.
#include "shim/sharing/share_operation.hpp"

#include <errno.h>

#include "shim/backing/populate.hpp"

namespace aep {

std::atomic<bool> sharing_open{false};

ShareId share_self() {
    if (!takes_part()) return {};
    return id_of(this_client.index, this_client.generation);
}

u32 own_inbox(ShareId id) {
    if (id.bits == 0) return this_client.index;
    if (!is_inbox(id.inbox())) return 0;
    const Inbox& in = inbox_at(id.inbox());
    const bool own = in.client.load() == this_client.index && in.open.load() != 0;
    return own && id_of(id.inbox(), in.generation.load()) == id ? id.inbox() : 0;
}

long error_of(Status status) {
    switch (status) {
        case Status::ok:
            return 0;
        case Status::gone:
            return -ESRCH;
        case Status::full:
        case Status::miss:
            return -EAGAIN;
        case Status::exists:
            return -EEXIST;
        case Status::poisoned:
            return -ENOTRECOVERABLE;
        case Status::fenced:
            return -ESTALE;
        case Status::apart:
            return -ENETUNREACH;
        case Status::nested:
            return -EDEADLK;
        case Status::limit:
        case Status::need_records:
            return -ENOMEM;
        case Status::not_writer:
            return -EPERM;
        case Status::busy:
            return -EBUSY;
        case Status::elsewhere:
            return -EXDEV;
        default:
            return -EINVAL;
    }
}

namespace {

/// How many whole records lie in the first `bytes` of a table.
template <class T>
u32 records_in(usize bytes, u32 limit) {
    const usize count = bytes / sizeof(T);
    return count < limit ? static_cast<u32>(count) : limit;
}

/// Makes the next part of a table present. `present`: of it so far. False: no memory, or it is
/// full.
template <class T>
bool extend_table(T* table, u32 limit, u32& present) {
    const usize have = round_up(usize{present} * sizeof(T), OS_PAGE_SIZE);
    const u32 more = records_in<T>(have + RECORDS_STEP, limit);
    if (more == present) return false;
    if (!populate(reinterpret_cast<uptr>(table) + have, RECORDS_STEP)) return false;
    present = more;
    return true;
}

/// An export has a record in two tables.
bool extend_exports(u32& present) {
    u32 more = present;
    if (!extend_table(&export_at(0), MAX_EXPORTS, more)) return false;
    const usize have = round_down(usize{present} * sizeof(ExportSide), OS_PAGE_SIZE);
    const usize need = round_up(usize{more} * sizeof(ExportSide), OS_PAGE_SIZE);
    if (!populate(reinterpret_cast<uptr>(&side_at(0)) + have, need - have)) return false;
    present = more;
    return true;
}

}  // namespace

bool add_records() {
    u32 exports = sharing().exports_present.load(std::memory_order_relaxed);
    u32 holders = sharing().holders_present.load(std::memory_order_relaxed);
    // Either may be what is missing; one that is full stops nobody who needs the other.
    const bool more_exports = extend_exports(exports);
    const bool more_holders = extend_table(&holder_at(0), MAX_HOLDERS, holders);
    if (!more_exports && !more_holders) return false;
    return share_operation(op::AddRecords{exports, holders}).status == Status::ok;
}

}  // namespace aep
