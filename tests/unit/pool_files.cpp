// Purpose: unit tests of the pool file: creation (whole or not at all, by many at once), opening,
//          every refusal.
// Who calls it: ctest.
// Crash rule: pools live in a directory that each test removes.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <functional>

#include "tests/unit/capabilities.hpp"
#include "tests/unit/pool_fixture.hpp"

namespace aep {
namespace {

using namespace test;

constexpr usize SMALL = 32 * MiB;  // 7 chunks

/// Creates a sound pool for a test to damage.
void make_pool(const std::string& path, usize bytes = SMALL) {
    in_child([&] { attach(path, bytes); });
}

/// What attaching says on fd 2; it must refuse without a signal.
std::string refusal(const std::string& path, usize bytes = 0) {
    const Output out = stderr_of([&] { EXPECT_EQ(pool_backing(path.c_str(), bytes), nullptr); });
    EXPECT_EQ(out.status, 0);
    EXPECT_EQ(out.text.substr(0, 5), "aep: ") << out.text;
    EXPECT_EQ(std::count(out.text.begin(), out.text.end(), '\n'), 1) << out.text;
    return out.text;
}

void expect_refused(const std::string& path, const std::string& why) {
    const std::string text = refusal(path);
    EXPECT_NE(text.find(why), std::string::npos) << "wanted: " << why << "\ngot: " << text;
    EXPECT_NE(text.find(path), std::string::npos) << text;
}

void overwrite(const std::string& path, usize offset, const void* bytes, usize count) {
    const int fd = open(path.c_str(), O_RDWR | O_CLOEXEC);
    ASSERT_GE(fd, 0);
    EXPECT_EQ(pwrite(fd, bytes, count, static_cast<off_t>(offset)), static_cast<ssize_t>(count));
    close(fd);
}

/// Changes the superblock; with a right checksum, so that the field itself must be noticed.
void change_superblock(const std::string& path, const std::function<void(Superblock&)>& change) {
    Superblock s = MappedFile(path).superblock();
    change(s);
    s.checksum = fnv1a(reinterpret_cast<const u8*>(&s), offsetof(Superblock, checksum));
    overwrite(path, 0, &s, sizeof s);
}

TEST(PoolFile, IsCreatedWholeAndPrivateWhateverTheUmask) {
    for (const mode_t mask : {0, 022, 0777}) {
        const Directory directory;
        const std::string path = directory.file();
        in_child([&] {
            umask(mask);
            attach(path, SMALL + 12345);
        });
        struct stat st {};
        ASSERT_EQ(stat(path.c_str(), &st), 0);
        EXPECT_EQ(st.st_mode & 07777, 0600u);
        EXPECT_EQ(static_cast<usize>(st.st_size), SMALL);
        const PoolReport report = check(path);
        EXPECT_EQ(report.chunks, SMALL / CHUNK_SIZE - 1);
        EXPECT_EQ(report.free_chunks, report.chunks);
        EXPECT_EQ(report.live_nodes, 0u) << "a process that needs no chunk is no node";
        EXPECT_EQ(directory.names().size(), 1u);
    }
}

TEST(PoolFile, HasTheDefaultSize) {
    const Directory directory;
    make_pool(directory.file(), 0);
    EXPECT_EQ(MappedFile(directory.file()).bytes(), DEFAULT_POOL_BYTES);
    EXPECT_EQ(check(directory.file()).chunks, 250u);  // and 24 MiB of tables
}

TEST(PoolFile, OpeningKeepsItsSize) {
    const Directory directory;
    make_pool(directory.file());
    in_child([&] {
        attach(directory.file(), 2 * SMALL);
        EXPECT_EQ(pool_here().tables.chunk_count, 7u);
    });
    EXPECT_EQ(MappedFile(directory.file()).bytes(), SMALL);
}

TEST(PoolFile, RelativePathSurvivesChdir) {
    const Directory directory;
    in_child([&] {
        ASSERT_EQ(chdir(directory.path().c_str()), 0);
        const Backing* b = attach("here", SMALL);
        ASSERT_EQ(chdir("/"), 0);
        EXPECT_TRUE(b->provide(1, 1, NO_CHUNK));
    });
    EXPECT_EQ(check(directory.file("here")).owned_chunks, 1u);
}

TEST(PoolFile, ManyProcessesCreateItAtOnce) {
    for (int round = 0; round < 10; ++round) {
        const Directory directory;
        const Signal go;
        std::array<pid_t, 12> children{};
        for (pid_t& child : children) {
            child = start_child([&] {
                go.wait();
                const Backing* b = attach(directory.file(), SMALL);
                const ChunkRun run = b->provide(1, 1, NO_CHUNK);
                if (run && b->commit(chunk_address(run.first), SLICE_SIZE)) {
                    EXPECT_EQ(bytes_at(run.first)[0], 0);
                    bytes_at(run.first)[0] = 1;
                }
            });
        }
        for (size_t i = 0; i < children.size(); ++i) go.say();
        for (const pid_t child : children) EXPECT_EQ(wait_for(child), 0);
        check(directory.file());
        EXPECT_EQ(directory.names(), std::vector<std::string>{"pool"});
    }
}

TEST(PoolFile, KeepsNoDescriptorOpen) {
    const Directory directory;
    in_child([&] {
        const auto open_files = [] {
            size_t count = 0;
            for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd"))
                count += entry.exists() ? 1 : 1;
            return count;
        };
        const size_t before = open_files();
        const Backing* b = attach(directory.file(), SMALL);
        EXPECT_TRUE(b->provide(1, 1, NO_CHUNK));
        EXPECT_EQ(open_files(), before);
    });
}

TEST(PoolFile, NeverUsesTheStandardDescriptors) {
    const Directory directory;
    in_child([&] {
        close(0);
        const int kept = fcntl(2, F_DUPFD, 10);
        close(2);
        close(1);
        const Backing* b = pool_backing(directory.file().c_str(), SMALL);
        const bool ok = b != nullptr && b->provide(1, 1, NO_CHUNK);
        const bool closed = fcntl(0, F_GETFD) < 0 && fcntl(1, F_GETFD) < 0 && fcntl(2, F_GETFD) < 0;
        dup2(kept, 2);
        dup2(kept, 1);
        EXPECT_TRUE(ok);
        EXPECT_TRUE(closed);
    });
}

TEST(PoolFile, RefusesWhatIsNoRegularFile) {
    const Directory directory;
    expect_refused(directory.path(), "cannot open it: EISDIR");
    const std::string fifo = directory.file("fifo");
    ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
    expect_refused(fifo, "is a FIFO, expected a regular file");
    expect_refused("/dev/null", "is a character device, expected a regular file");
    const std::string target = directory.file("target");
    make_pool(target);
    const std::string link = directory.file("link");
    ASSERT_EQ(symlink(target.c_str(), link.c_str()), 0);
    expect_refused(link, "is a symbolic link");
    expect_refused(directory.file("no/such/directory"), "cannot create it: ");
    expect_refused(target + "/below-a-file", "ENOTDIR");
}

TEST(PoolFile, RefusesPathsThatAreNone) {
    EXPECT_NE(refusal("").find("AEP_POOL is empty"), std::string::npos);
    EXPECT_NE(refusal(std::string(5000, 'x')).find("too long a path"), std::string::npos);
}

TEST(PoolFile, RefusesOtherPeoplesFiles) {
    const Directory directory;
    make_pool(directory.file());
    ASSERT_EQ(chmod(directory.file().c_str(), 0640), 0);
    expect_refused(directory.file(), "mode is 0640, expected 0600");
    ASSERT_EQ(chmod(directory.file().c_str(), 0600), 0);
    if (has_capability(CAP_CHOWN)) {
        ASSERT_EQ(chown(directory.file().c_str(), 12345, -1), 0);
        expect_refused(directory.file(), "belongs to user 12345, expected 0");
    } else {
        // Every system has a file of root's that we may open for writing and that is no pool of
        // ours.
        expect_refused("/dev/full", "is a character device");
    }
}

TEST(PoolFile, RefusesWrongSizes) {
    const Directory directory;
    const std::string path = directory.file();
    make_pool(path);
    const auto cut_to = [&](usize bytes) {
        ASSERT_EQ(truncate(path.c_str(), static_cast<off_t>(bytes)), 0);
    };
    cut_to(SMALL + CHUNK_SIZE);
    expect_refused(path,
                   "file size at offset 0 is 0x2400000, expected 0x2000000: the file was cut");
    cut_to(SMALL - 1);
    expect_refused(path, "the file was cut or extended");
    cut_to(SUPERBLOCK_BYTES);
    expect_refused(path, "the file was cut or extended");
    cut_to(SUPERBLOCK_BYTES - 1);
    expect_refused(path, "size is 4095 bytes, expected at least");
    cut_to(0);
    expect_refused(path, "size is 0 bytes, expected at least");
    cut_to(SMALL);
    expect_refused(path, "magic at offset 0 is 0x0, expected 0x4c4f4f50504541");
}

TEST(PoolFile, RefusesEachDamagedField) {
    const Directory directory;
    const std::string path = directory.file();
    make_pool(path);
    const Superblock sound = MappedFile(path).superblock();
    struct Case {
        const char* field;
        std::function<void(Superblock&)> change;
    };
    const Case cases[] = {
        {"magic at offset 0", [](Superblock& s) { s.magic ^= 1; }},
        {"version at offset 8 is 0x63, expected 0x6", [](Superblock& s) { s.version = 0x63; }},
        {"era_bytes at offset", [](Superblock& s) { s.era_bytes = OS_PAGE_SIZE; }},
        {"superblock_bytes at offset 12", [](Superblock& s) { s.superblock_bytes = 512; }},
        {"layout_hash at offset 16", [](Superblock& s) { s.layout_hash ^= 1; }},
        {"file_bytes at offset 40", [](Superblock& s) { s.file_bytes = 0; }},
        {"file_bytes at offset 40", [](Superblock& s) { s.file_bytes += 1; }},
        {"file_bytes at offset 40", [](Superblock& s) { s.file_bytes = ~u64{0}; }},
        {"file size at offset 0", [](Superblock& s) { s.room_bytes = s.file_bytes += CHUNK_SIZE; }},
        {"room_bytes at offset 176", [](Superblock& s) { s.room_bytes -= CHUNK_SIZE; }},
        {"room_bytes at offset 176", [](Superblock& s) { s.room_bytes += 1; }},
        {"room_bytes at offset 176", [](Superblock& s) { s.room_bytes = ~u64{0}; }},
        {"chunk_bytes at offset 48", [](Superblock& s) { s.chunk_bytes = 2 * MiB; }},
        {"chunk_count at offset 56", [](Superblock& s) { s.chunk_count = ~0u; }},
        {"node_count at offset 60", [](Superblock& s) { s.node_count = 0; }},
        {"nodes_offset at offset 64", [](Superblock& s) { s.nodes_offset = 8; }},
        {"chunk_words_offset at offset 72", [](Superblock& s) { s.chunk_words_offset = ~u64{0}; }},
        {"chunks_offset at offset 80", [](Superblock& s) { s.chunks_offset += OS_PAGE_SIZE; }},
        {"heap_base at offset 88", [](Superblock& s) { s.heap_base = 0; }},
        {"terms.lease_ms at offset 136", [](Superblock& s) { s.terms.lease_ms = 1; }},
        {"terms.coherent at offset 140",
         [](Superblock& s) { s.terms.coherent = Coherence::unsaid; }},
        {"terms.cluster at offset 144", [](Superblock& s) { s.terms.cluster[0] = ' '; }},
        {"reserved at offset 185", [](Superblock& s) { s.reserved[1] = 1; }},
    };
    for (const Case& c : cases) {
        overwrite(path, 0, &sound, sizeof sound);
        change_superblock(path, c.change);
        expect_refused(path, c.field);
    }
    overwrite(path, 0, &sound, sizeof sound);
    overwrite(path, 24, "damaged", 7);
    expect_refused(path, "checksum at offset 4088");
}

TEST(PoolFile, RefusesDamagedTables) {
    const Directory directory;
    const std::string path = directory.file();
    make_pool(path);
    const u64 nonsense = 0x77;
    const usize third_word = MappedFile(path).superblock().chunk_words_offset + 2 * sizeof(u64);
    overwrite(path, third_word, &nonsense, sizeof nonsense);
    expect_refused(path, "chunk word at offset " + std::to_string(third_word) + " is 0x77");
    const u64 no_such_node = ChunkWord::owned(64, 1).bits;
    overwrite(path, third_word, &no_such_node, sizeof no_such_node);
    expect_refused(path, "chunk word at offset " + std::to_string(third_word));
    const u64 zero = 0;
    overwrite(path, third_word, &zero, sizeof zero);
    overwrite(path, SUPERBLOCK_BYTES + sizeof(PoolNodeEntry), &nonsense, sizeof nonsense);
    expect_refused(path, "node entry at offset 4160 is 0x77");
}

TEST(PoolFile, RefusesSizesThatCannotBe) {
    const Directory directory;
    const auto why = [&](usize bytes) { return refusal(directory.file(), bytes); };
    EXPECT_NE(why(MIN_POOL_BYTES - 1).find("expected 8 MiB to 8 TiB"), std::string::npos);
    EXPECT_NE(why(MAX_POOL_BYTES + 1).find("expected 8 MiB to 8 TiB"), std::string::npos);
    EXPECT_TRUE(directory.names().empty());
}

TEST(PoolFile, RespectsTheFileSizeLimit) {
    const Directory directory;
    const Output out = stderr_of([&] {
        const rlimit limit{4 * MiB, 4 * MiB};
        setrlimit(RLIMIT_FSIZE, &limit);
        EXPECT_EQ(pool_backing(directory.file().c_str(), SMALL), nullptr);
    });
    EXPECT_EQ(out.status, 0) << "no SIGXFSZ";
    EXPECT_NE(out.text.find("raise ulimit -f"), std::string::npos) << out.text;
    EXPECT_TRUE(directory.names().empty());
}

TEST(PoolFile, RefusesATooSmallAddressSpace) {
    const Directory directory;
    const Output out = stderr_of([&] {
        limit_address_space(512 * MiB);
        EXPECT_EQ(pool_backing(directory.file().c_str(), GiB), nullptr);
        limit_address_space(3 * GiB);
        EXPECT_NE(pool_backing(directory.file().c_str(), GiB), nullptr) << "nothing of it was left";
    });
    EXPECT_EQ(out.status, 0);
    EXPECT_NE(out.text.find("raise ulimit -v or use a smaller pool"), std::string::npos)
        << out.text;
}

TEST(PoolFile, RefusesAWindowThatSomebodyElseUses) {
    const Directory directory;
    const Output out = stderr_of([&] {
        void* middle = bytes_at(ChunkIndex{3});
        ASSERT_EQ(
            mmap(middle, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0),
            middle);
        EXPECT_EQ(pool_backing(directory.file().c_str(), SMALL), nullptr);
        unsigned char present;
        EXPECT_EQ(mincore(middle, 4096, &present), 0) << "the other's mapping is still there";
        EXPECT_NE(mincore(bytes_at(ChunkIndex{0}), 4096, &present), 0);
    });
    EXPECT_EQ(out.status, 0);
    EXPECT_NE(out.text.find("another mapping of this process is in the way"), std::string::npos)
        << out.text;
}

}  // namespace
}  // namespace aep
