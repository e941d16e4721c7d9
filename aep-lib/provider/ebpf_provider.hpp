// Purpose: the provider `ebpf`: loads the capture programs, keeps them pinned, finds them again.
// Who calls it: the daemon (`aep up`, `aep down`, `aep doctor`), the provider's tests.
// Crash rule: the pin of the map `identity` is made last and removed first: without it, or with
//             another value in it, what else is pinned is replaced.
#pragma once

#include <vector>

#include "aep-lib/provider/provider.hpp"

namespace aep {

inline constexpr const char* BPFFS = "/sys/fs/bpf";

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
};

/// The plan for a context whose clients run the image with this information.
EbpfPlan ebpf_plan(std::string directory, const ContextHeader& header, const ImageInfo& image,
                   std::string context_file = {});

/// What an image file says of itself. A failure: it is none.
Outcome<ImageInfo> read_image_info(int fd);

/// What is missing for eBPF on this system: one line each, with what to do. Empty: nothing known.
std::vector<std::string> missing_for_ebpf();

/// Mounts a bpffs at `path` unless one is there. An error's text; empty: done.
std::string ensure_bpffs(const char* path = BPFFS);

/// Finds the pinned programs and maps of this build and plan, or loads, attaches and pins them in
/// place of what is there. Captures of the same build and plan stay; members, too. Mounts a bpffs
/// at BPFFS when the directory is to be there.
Outcome<std::unique_ptr<CaptureProvider>> open_ebpf_provider(const EbpfPlan& plan);

/// Removes the pins in each folder of `parent` that belong to a context whose file is gone: its
/// daemon was killed, and then its files were removed. How many folders. Others' are left alone.
u32 remove_orphaned_pins(const std::string& parent);

/// Removes all that is pinned in the directory, and the directory: capturing ends. An error's text;
/// empty: done, or nothing was there.
std::string remove_pins(const std::string& directory);

}  // namespace aep
