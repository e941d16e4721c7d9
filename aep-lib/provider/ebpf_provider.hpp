// Purpose: the provider `ebpf`: loads the capture programs, keeps them pinned, finds them again.
// Who calls it: the daemon (`aep up`, `aep down`, `aep doctor`), the provider's tests.
// Crash rule: see pins.hpp. Programs and maps live as long as they are pinned or a daemon has them
//             open.
#pragma once

#include <vector>

#include "aep-lib/provider/pins.hpp"

namespace aep {

/// What the programs must know of a context, and where they are pinned.
struct EbpfPlan {
    std::string directory;  // on a bpffs; made when missing. One for each context.
    u32 max_slots = 0;
    u32 max_members = 0;
    u64 slots_offset = 0;
    u64 text_begin = 0;
    u64 text_end = 0;
    u8 context_uuid[16] = {};  // captures of a former context are not found again
    std::string context_file;  // when it is gone, the pins are of no use; empty: never
    bool has_clients = false;  // of an earlier daemon: what is pinned is of use to them
};

/// The plan for a context whose clients run the image with this information.
EbpfPlan ebpf_plan(std::string directory, const ContextHeader& header, const ImageInfo& image,
                   std::string context_file = {});

/// What an image file says of itself. A failure: it is none.
Outcome<ImageInfo> read_image_info(int fd);

/// What is missing for eBPF on this system: one line each, with what to do. Empty: nothing known.
std::vector<std::string> missing_for_ebpf();

/// Finds the pinned programs and maps of this build and plan, or loads, attaches and pins them in
/// place of what is there. Captures of the same build and plan stay; members, too. Mounts a bpffs
/// at BPFFS when there is none. What counts processes as another pid namespace does is not replaced
/// while the context has clients.
Outcome<std::unique_ptr<CaptureProvider>> open_ebpf_provider(const EbpfPlan& plan);

}  // namespace aep
