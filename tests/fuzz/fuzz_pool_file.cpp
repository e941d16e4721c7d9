// Purpose: fuzz target: a damaged pool file is refused with a message or works; it never crashes
//          who opens it.
// Who calls it: ci/fuzz.sh; build/fuzz/tests/fuzz/fuzz_pool_file.
// Crash rule: the file is removed at the end; attaching happens in a child.
//
// An input is a list of edits to a sound pool of 32 MiB, 6 bytes each: 3 bytes of offset into the
// tables, an operation, and 2 bytes of value. Operation bit 7: the last edit also sets the size of
// the file. Bit 6: the checksum is made right afterwards, so that single fields are judged and not
// only the sum.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "dsm-core/pool/check.hpp"
#include "dsm-core/pool/tables.hpp"
#include "shim/backing/backing.hpp"
#include "shim/backing/pool_backing.hpp"

namespace {

using namespace aep;

constexpr usize SOUND_BYTES = 32 * MiB;
constexpr usize EDIT = 6;

[[noreturn]] void broken(const char* what) {
    std::fprintf(stderr, "fuzz_pool_file: %s\n", what);
    std::abort();
}

/// The file that all inputs damage in turn.
struct Image {
    char path[256];
    u8* bytes;
    usize size = SOUND_BYTES;
    Superblock sound;

    Image() {
        // A finding ends the process: what then remains is in a folder that ci/fuzz.sh removes.
        const char* folder = std::getenv("AEP_FUZZ_DIR");
        std::snprintf(path, sizeof path, "%s/aep-fuzz-pool-%d", folder ? folder : "/dev/shm",
                      getpid());
        const int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd < 0 || ftruncate(fd, SOUND_BYTES) != 0) broken("cannot create the file");
        void* at = mmap(nullptr, SOUND_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (at == MAP_FAILED) broken("cannot map the file");
        close(fd);
        bytes = static_cast<u8*>(at);
        const u8 uuid[16] = {42};
        make_superblock(sound, SOUND_BYTES, uuid);
    }
    ~Image() { unlink(path); }

    void restore() {
        resize(SOUND_BYTES);
        std::memset(bytes, 0, tables_end(sound));
        std::memcpy(bytes, &sound, sizeof sound);
    }
    void resize(usize to) {
        if (size != to && truncate(path, static_cast<off_t>(to)) != 0)
            broken("cannot resize the file");
        size = to;
    }
    /// Whether the superblock says that the tables lie where they do. What nodes share is judged elsewhere. How large the pool was when it was made
    /// may be anything that the file has: it may have grown since.
    bool has_its_shape() const {
        Superblock s;
        std::memcpy(&s, bytes, sizeof s);
        s.era = sound.era;
        if (s.file_bytes > sound.file_bytes) return false;
        s.file_bytes = sound.file_bytes;
        return s.era_bytes != sound.era_bytes || shape_of(s) == shape_of(sound);
    }
    void fix_checksum() {
        Superblock s;
        std::memcpy(&s, bytes, sizeof s);
        s.checksum = fnv1a(bytes, offsetof(Superblock, checksum));
        std::memcpy(bytes, &s, sizeof s);
    }
};

/// Where an edit goes: most into the few bytes that are looked at.
usize target(const Superblock& s, usize place, int region) {
    switch (region) {
        case 0:
            return place % offsetof(Superblock, reserved);
        case 1:
            return s.nodes_offset + place % s.node_count * sizeof(PoolNodeEntry) +
                   (place >> 16) % 8;
        case 2:
            return s.chunk_words_offset + place % (s.chunk_count * sizeof(u64) - 1);
        default:
            return place % (tables_end(s) - 1);
    }
}

/// Applies the edits; the size the file shall have afterwards.
usize damage(Image& image, const u8* data, usize count) {
    usize size = SOUND_BYTES;
    bool fix = false;
    for (; count >= EDIT; data += EDIT, count -= EDIT) {
        const usize place = data[0] | usize{data[1]} << 8 | usize{data[2]} << 16;
        const u8 operation = data[3];
        const u16 value = static_cast<u16>(data[4] | data[5] << 8);
        const usize offset = target(image.sound, place, operation >> 2 & 3);
        switch (operation & 3) {
            case 0:
                image.bytes[offset] = data[4];
                break;
            case 1:
                std::memcpy(image.bytes + offset, &value, sizeof value);
                break;
            case 2:
                image.bytes[offset] ^= static_cast<u8>(1 << (value & 7));
                break;
            default:
                std::memset(image.bytes + offset, data[4], sizeof value);
                break;
        }
        fix = fix || (operation & 0x40) != 0;
        if ((operation & 0x80) != 0) {
            // Sizes around every boundary: none, the superblock's, a chunk's, the sound one.
            constexpr usize SIZES[] = {0, SUPERBLOCK_BYTES, CHUNK_SIZE, SOUND_BYTES};
            size =
                SIZES[value & 3] + (value >> 2) % 64 * ((value & 0x8000) != 0 ? 1 : OS_PAGE_SIZE);
        }
    }
    if (fix) image.fix_checksum();
    return size;
}

/// Attaches in a child, takes all chunks and uses them: any signal is a finding.
void attach(const Image& image) {
    const pid_t child = fork();
    if (child == 0) {
        const int null = open("/dev/null", O_WRONLY);
        dup2(null, 2);
        const Backing* b = pool_backing(image.path, 0);
        if (b == nullptr) _exit(0);
        for (u32 i = 0; i < 9; ++i) {
            const ChunkRun run = b->provide(1 + i % 2, 1, NO_CHUNK);
            if (!run) break;
            if (b->commit(chunk_address(run.first), SLICE_SIZE)) {
                if (*reinterpret_cast<u8*>(chunk_address(run.first)) != 0) _exit(3);
                *reinterpret_cast<u8*>(chunk_address(run.first)) = 1;
            }
            if (i % 3 == 0) b->release(run.first, run.count);
        }
        _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    if (WIFSIGNALED(status)) broken("a process that opened the file died by a signal");
    if (WEXITSTATUS(status) == 3) broken("a chunk was not zero");
    if (WEXITSTATUS(status) != 0) broken("a process that opened the file ended badly");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8* data, size_t count) {
    static Image image;
    image.restore();
    const usize size = damage(image, data, count);
    PoolReport report;
    const bool sound = pool_check(image.bytes, SOUND_BYTES, report);
    if (sound == static_cast<bool>(report.fault)) broken("a verdict and a fault that disagree");
    if (sound && !image.has_its_shape()) broken("a shape that the file does not have is believed");
    const u32 chunks =
        report.free_chunks + report.owned_chunks + report.kept_chunks + report.retired_chunks;
    if (sound && chunks != report.chunks) broken("chunks that do not add up");
    image.resize(size);
    // Read through a mapping that is longer than the file it would be a signal: then only opening
    // must cope.
    if (size >= SOUND_BYTES) pool_check(image.bytes, size, report);
    // A process for each input would make it slow: those that get past the checks, and a share of
    // the others. The chunks that it used, as it may in a file that only pool_check finds fault
    // with, are emptied again.
    if (sound || (count != 0 && data[count - 1] % 16 == 0)) {
        attach(image);
        image.resize(image.sound.chunks_offset);
    }
    return 0;
}
