// Purpose: what a process remembers of groups, when their addresses and records are used again.
// Who calls it: CTest (client_groups).
// Crash rule: fixture.hpp.
#include "shim/sharing/group.hpp"
#include "shim/sharing/group_readers.hpp"

#include "tests/client/fixture.hpp"

namespace aep::test {
namespace {

constexpr int MANY = 300;

/// A group with a root.
void* make_group() {
    void *group = nullptr, *root = nullptr;
    EXPECT_EQ(group_create(0, group), 0);
    EXPECT_EQ(group_allocate(group, 100, 16, root), 0);
    EXPECT_EQ(group_set_root(group, root), 0);
    return group;
}

/// As a thread does that is stopped between the operation and what the process does afterwards.
void drop_unnoticed(void* group) {
    perform_in_image(op::Drop{.object = reinterpret_cast<uptr>(group)});
    share_collect();
}

/// A block that was sent, so to speak: it has a record.
void* exported() {
    void* p = allocate(100);
    EXPECT_NE(mark_shared(p), 0u);
    EXPECT_EQ(share_reference(p, 100), 0);
    return p;
}

TEST(Groups, OneAtTheAddressOfAFormerOneIsAnother) {
    const Host host;
    host.in_client([] {
        ASSERT_EQ(share_attach("one"), 0);
        std::vector<void*> plain;
        for (int i = 0; i < MANY; ++i) plain.push_back(exported());
        void* const former = make_group();
        drop_unnoticed(former);
        // Their records are used before that of the former group, which says what it said.
        for (void* p : plain) {
            EXPECT_EQ(share_drop(p), Dropped::kept);
            deallocate(p);
        }
        std::vector<void*> groups;
        while (groups.size() < MANY && (groups.empty() || groups.back() != former))
            groups.push_back(make_group());
        ASSERT_EQ(groups.back(), former) << "its memory is not used again";
        for (void* group : groups) {
            void* root = nullptr;
            EXPECT_EQ(group_root(group, root), 0);
            EXPECT_EQ(group_close(group), 0);
        }
    });
}

/// Who rested when it died says nothing of who has its place now.
TEST(Groups, AReaderIsOfOneLifeOfItsClient) {
    const Host host;
    host.in_client([] {
        ASSERT_EQ(share_attach("one"), 0);
        const u32 client = this_client.index;
        const u32 generation = share_client(client).inbox.generation.load();
        u64 words[GROUP_READERS] = {};
        GroupReaders readers(words);
        const u32 place = readers.enter(client, generation);
        EXPECT_EQ(readers.look(0, 0, 1).question.known[place], client);
        words[place] = GroupReader::make(client, generation - 1, NOT_LOOKING).bits;
        EXPECT_EQ(readers.look(0, 0, 1).question.known[place], 0u);
    });
}

}  // namespace
}  // namespace aep::test
