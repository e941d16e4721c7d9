// Purpose: what entry.S calls for each operation; and what the image says of itself.
// Who calls it: entry.S, with the slot's sequence odd.
// Crash rule: everything below runs to its end, here or in a completer's worker.
#include "dsm-core/dispatch.hpp"

#include "aep-lib/image/image_info.hpp"

extern "C" {
extern const char aep_text_begin[], aep_text_end[], aep_shadow_return[], aep_entered[];

/// One open operation; `slot` is the calling thread's.
void aep_dispatch(aep::Slot* slot) { aep::dispatch(*slot); }

__attribute__((section(".info"), used)) const aep::ImageInfo aep_image_info = {
    .magic = aep::IMAGE_MAGIC,
    .version = aep::IMAGE_VERSION,
    .info_bytes = sizeof(aep::ImageInfo),
    .layout_hash = aep::CONTEXT_LAYOUT_HASH,
    .text_begin = reinterpret_cast<aep::u64>(aep_text_begin),
    .text_end = reinterpret_cast<aep::u64>(aep_text_end),
    .shadow_return = reinterpret_cast<aep::u64>(aep_shadow_return),
    .entered = reinterpret_cast<aep::u64>(aep_entered),
};
}
