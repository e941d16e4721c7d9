// Purpose: unit tests of dsm-core/heap/size_class.hpp: every size, every alignment.
// Who calls it: ctest.
// Crash rule: no state.
#include "dsm-core/heap/page.hpp"

#include <gtest/gtest.h>

namespace aep {
namespace {

TEST(SizeClass, EverySizeGetsTheSmallestClassThatHoldsIt) {
    for (usize size = 0; size <= MAX_CLASS_SIZE; ++size) {
        const u32 c = class_of(size);
        ASSERT_LT(c, CLASS_COUNT) << size;
        ASSERT_GE(class_size(c), size);
        ASSERT_TRUE(c == 0 || class_size(c - 1) < size) << size;
    }
}

TEST(SizeClass, AtMostAnEighthIsWaste) {
    for (usize size = 129; size <= MAX_CLASS_SIZE; ++size) {
        const usize block = class_size(class_of(size));
        ASSERT_LE((block - size) * 8, block) << size;
    }
    for (usize size = 1; size <= 128; ++size) ASSERT_LT(class_size(class_of(size)) - size, 16u);
}

TEST(SizeClass, ClassesGrowAndPowersOfTwoAreClasses) {
    for (u32 c = 1; c < CLASS_COUNT; ++c) ASSERT_GT(class_size(c), class_size(c - 1));
    for (usize size = 16; size <= MAX_CLASS_SIZE; size *= 2)
        EXPECT_EQ(class_size(class_of(size)), size);
}

TEST(SizeClass, EveryBlockHasTheAlignmentOfItsClass) {
    for (u32 c = 0; c < CLASS_COUNT; ++c) {
        const usize size = class_size(c);
        ASSERT_EQ(size % MIN_ALIGNMENT, 0u);
        const usize bytes = usize{page_slices(c)} << SLICE_SHIFT;
        ASSERT_LE(bytes / size, usize{MAX_BLOCKS}) << "the bitmap has a bit for each block";
        ASSERT_GE(bytes / size, 4u) << "a page holds at least four blocks";
        ASSERT_LE(bytes % size, bytes / 8) << "and is used well";
    }
}

TEST(SizeClass, EveryOffsetIsABlocksStartOrNot) {
    for (u32 c = 0; c < CLASS_COUNT; ++c) {
        const u32 size = static_cast<u32>(class_size(c));
        const u64 magic = class_magic(c);
        const u32 bytes = page_slices(c) << SLICE_SHIFT;
        u32 index = 0, within = 0;
        for (u32 offset = 0; offset <= bytes; ++offset) {
            ASSERT_EQ(block_index(offset, magic), within == 0 ? index : NO_BLOCK)
                << size << " + " << offset;
            ASSERT_EQ(blocks_in(offset, magic), index) << size << " + " << offset;
            if (++within == size) ++index, within = 0;
        }
    }
}

TEST(SizeClass, AlignedRequests) {
    for (usize alignment = 16; alignment <= SLICE_SIZE; alignment *= 2) {
        for (usize size = 0; size <= MAX_CLASS_SIZE; size += size < 2000 ? 1 : 61) {
            const u32 c = class_of_aligned(size, alignment);
            if (c == CLASS_COUNT) {
                ASSERT_GT(round_up(size, alignment), MAX_CLASS_SIZE);
                continue;
            }
            ASSERT_GE(class_size(c), size);
            ASSERT_EQ(class_size(c) % alignment, 0u) << size << " at " << alignment;
        }
    }
    EXPECT_EQ(class_size(class_of_aligned(1, 64)), 64u);
    EXPECT_EQ(class_size(class_of_aligned(65, 64)), 128u);
    EXPECT_EQ(class_of_aligned(MAX_CLASS_SIZE + 1, 16), CLASS_COUNT);
}

TEST(SizeClass, DirectIndexLeadsToTheClass) {
    for (usize size = 0; size <= MAX_DIRECT; ++size) {
        ASSERT_LT(direct_index(size), DIRECT_COUNT);
        ASSERT_EQ(class_of(usize{direct_index(size)} * MIN_ALIGNMENT), class_of(size)) << size;
    }
}

}  // namespace
}  // namespace aep
