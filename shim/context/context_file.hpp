// Purpose: the context as a file and as mappings: made whole, verified, and mapped part by part at
//          its fixed addresses. And the image, mapped beside it.
// Who calls it: the daemon and its tools, the completer (everything), a client (its own parts).
// Crash rule: the header is written before the file has a name; mappings die with the process.
//
// Functions return 0 or a value >= 0, or -errno. They make system calls only: no libc state, no
// allocation, so a client may use them before any constructor.
#pragma once

#include "aep-lib/image/image_info.hpp"
#include "dsm-core/era/region.hpp"

namespace aep {

/// What is chosen when a context is made.
struct ContextPlan {
    const char* name = "";
    u64 image_hash = 0;
    u32 uid = 0;
    u32 max_clients = 1023;  // at most MAX_DOMAINS - 2: the last heap id is nobody's
    u32 max_slots = 8192;    // for the clients; the host's comes on top
    u64 pool_address = 0;    // of its superblock in every process
    u8 pool_uuid[16] = {};
    PoolShape pool{};             // of its verified superblock
    u32 era_node = era::NO_NODE;  // of the pool's nodes
    u32 era_objects = 0;          // of the pool; 0: without a node
    u64 context_limit = 0;        // bytes; 0: none
    u64 client_limit = 0;
};

/// Writes a fresh, empty context into the empty file `fd` (0600, on tmpfs) and makes its control
/// area present, so that no store to it can fail. 0 or -errno.
long format_context(int fd, const ContextPlan& plan);

/// What is wrong with the context in a file; `field` null: nothing.
struct ContextFault {
    const char* field = nullptr;
    u64 found = 0;
    u64 expected = 0;
    const char* advice = "";
    explicit operator bool() const { return field != nullptr; }
};

/// Verifies constants in the caller's memory: magic, version, layout, checksum, limits; and that
/// every part lies where the limits put it, for a client can write a checksum, too.
ContextFault verify_constants(const ContextConstants& constants);

/// Reads the constants of a context file, once, into the caller's memory, and verifies them there;
/// and the file's size, and whether the context's state is one. What the constants say of the pool
/// is for whoever has opened it to compare.
ContextFault verify_context(int fd, ContextConstants& constants);

/// Maps the control area (read/write, shared, not inherited by fork). In the place of its constants
/// lies a private copy of `constants`, which are verified, read-only: nobody reads them in the file
/// again.
long map_control(int fd, const ContextConstants& constants);
/// Makes the records of sharing accessible, or not, where the control area is mapped: a client that
/// does not share has no use for them. 0 or -errno.
long protect_records(bool accessible);
/// Makes the undo logs of all slots inaccessible where the control area is mapped: a client opens those of its own
/// slots (open_stack), and whoever reads all of its memory makes nobody's present. 0 or -errno.
long close_logs(const ContextConstants& constants);
/// Maps the AEP stacks: all of them accessible (completer), or none (client: see open_stack).
long map_stacks(int fd, const ContextConstants& header, bool accessible);
/// Makes the stack and the undo log of one slot accessible, the stack's top and the log present. A client's own slots only.
long open_stack(u32 slot);
/// Makes both inaccessible again, whoever's memory they are next. Not of a member: what members see is one for all.
void close_stack(u32 slot);
/// As above, of one that is accessible.
long commit_stack(u32 slot);
/// Maps the metadata arrays of the pool's chunks: all accessible, or none (client: as far as its
/// chunks need it).
long map_heap_metadata(int fd, const ContextConstants& header, bool accessible = true);
/// Maps one domain, all of it accessible or (client) what an empty one uses. That part must have
/// been made present by whoever created it.
long map_domain(int fd, u32 index, bool all = true);
/// Makes an empty domain of a mapped, zeroed one: the arena initialised, memory for it and for one
/// heap present. Needs the control area.
long open_domain(u32 index);

/// What the image is mapped for.
enum class ImageUse {
    enter,     // a client: the shadow entry is the image's
    complete,  // a completer: in its place lies an OS page that traps, so that operations end there
};

/// Whether the calling process, which an AEP kernel has made a member of a context, sees the image
/// of this build there, and the context that has this header. 0 or -errno.
long check_membership(const ContextConstants& header);

/// Whether an image file holds what this build's does: size and hash. 0 or -ENOEXEC. Reads all of
/// it: who made the sealed copy has done that, and a client that it admitted for its image's hash
/// need not (a tenth of a millisecond).
long check_image_hash(int fd, u64 expected_hash, u64 expected_bytes);

/// Maps an image file after checking that it is one that fits: its size, its segments where they
/// must be, the formats that it knows. -ENOEXEC: it is not.
long map_image(int fd, u64 expected_bytes, ImageUse use);

}  // namespace aep
