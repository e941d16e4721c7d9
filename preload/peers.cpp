// Purpose: peers that come and go, of the C API, aep/dsm.h: argument checks and errno, on shim/sharing.
// Who calls it: programs that link this library or run under its preload.
// Crash rule: that of the sharing operations; nothing is kept here.
#include <errno.h>

#include "include/aep/dsm.h"
#include "preload/errno_result.hpp"
#include "preload/export.hpp"
#include "preload/fill_info.hpp"
#include "shim/sharing/peer_events.hpp"

using namespace aep;

static_assert(static_cast<u32>(PeerChange::came) == DSM_PEER_CAME &&
              static_cast<u32>(PeerChange::left) == DSM_PEER_LEFT &&
              static_cast<u32>(PeerChange::died) == DSM_PEER_DIED &&
              static_cast<u32>(PeerChange::renamed) == DSM_PEER_RENAMED);
static_assert(DSM_NAME_MAX == SHARE_NAME_BYTES);

AEP_EXPORT int dsm_watch_peers(unsigned flags) noexcept {
    switch (flags) {
        case 0:
            return errno_result(watch_peers(Following::nobody));
        case DSM_WATCH:
            return errno_result(watch_peers(Following::events));
        case DSM_WATCH | DSM_END_WAITS:
            return errno_result(watch_peers(Following::ends_receives));
        default:
            return errno_result(-EINVAL);
    }
}

AEP_EXPORT int dsm_next_event(struct dsm_event* event, size_t size, int timeout_ms) noexcept {
    if (event == nullptr || size > MOST_INFO_BYTES) return errno_result(-EINVAL);
    PeerEvent next;
    if (errno_result(next_peer_event(timeout_ms, next)) != 0) return -1;
    struct dsm_event all {
        .kind = static_cast<uint32_t>(next.change), .missed = next.missed, .peer = next.peer.bits,
        .name = {}
    };
    // A name is a client's word.
    for (usize i = 0; i + 1 < sizeof all.name && next.name.text[i] != '\0'; ++i)
        all.name[i] = next.name.text[i];
    fill_info(event, size, all);
    return 0;
}
