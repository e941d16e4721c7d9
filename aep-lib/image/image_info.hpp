// Purpose: what an image says of itself, at its first address, so that whoever maps it can check
// it. Who calls it: the loader (shim), the daemon, the completer. Crash rule: constant.
#pragma once

#include "dsm-core/context/format.hpp"

namespace aep {

inline constexpr u64 IMAGE_MAGIC = 0x0047'4d49'5045'4100;  // "\0AEPIMG\0"
inline constexpr u32 IMAGE_VERSION = 2;

/// At CONTEXT_BASE.
struct ImageInfo {
    u64 magic;
    u32 version;
    u32 info_bytes;
    u64 layout_hash;  // CONTEXT_LAYOUT_HASH of its sources
    u64 text_begin;   // [text_begin, text_end): where an instruction pointer is "inside"
    u64 text_end;
    u64 shadow_return;  // where every operation returns to, in the shadow entry
    u64 entered;        // right after the sequence became odd: an operation that has done nothing
};

inline const ImageInfo& image_info() { return *reinterpret_cast<const ImageInfo*>(CONTEXT_BASE); }

/// Enters the image: performs slot->op with slot->request and leaves slot->reply. The shadow
/// entry's first instruction. The slot must be the calling thread's and its sequence even.
using EnterImage = void(Slot*);
#if defined(AEP_HOSTED)
void enter_hosted(Slot* slot);  // hosted_entry.cpp
inline EnterImage* enter_image() { return enter_hosted; }
#else
inline EnterImage* enter_image() { return reinterpret_cast<EnterImage*>(SHADOW_ENTRY); }
#endif

}  // namespace aep
