// Purpose: fuzz target: any sequence of operations by several actors, on memory that may refuse,
// keeps every promise
//          and every invariant of the heap.
// Who calls it: ci/fuzz.sh; build/fuzz/tests/fuzz/fuzz_ops.
// Crash rule: a broken property is a message on fd 2 and an abort.
//
// The first bytes say how hostile the backing is, the rest are the choices of a session
// (tests/property/session.hpp), a byte each, two where there are more than 256. At the end of an
// input everything is freed and nothing may be left, so that inputs share a process.
#include "shim/driver/allocator.hpp"
#include "tests/property/hostile_backing.hpp"
#include "tests/property/session.hpp"

namespace {

using namespace aep;

/// The input as choices; at its end every choice is 0.
class Input : public test::Choices {
  public:
    Input(const u8* data, usize bytes) : at_(data), end_(data + bytes) {}
    u32 below(u32 n) override { return (n <= 256 ? next() : next() | next() << 8) % n; }
    u32 next() { return at_ == end_ ? 0 : *at_++; }
    bool empty() const { return at_ == end_; }

  private:
    const u8* at_;
    const u8* end_;
};

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
    process_configure(test::hostile_backing(), {.decay_ms = 0, .on_error = OnError::ignore});
    return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const u8* data, size_t bytes) {
    Input input(data, bytes);
    const u32 modes = input.next();
    test::hostility = {.max_chunks_held = 2 + input.next() % 64, .seed = 1 + u64{input.next()}};
    if ((modes & 1) != 0) test::hostility.refuse_chunks = 60;
    if ((modes & 2) != 0) test::hostility.refuse_commit = 40;
    if ((modes & 4) != 0) test::hostility.holes = 80;
    if ((modes & 8) != 0) test::hostility.dirty_chunks = 100;
    if ((modes & 16) != 0) test::hostility.fail_purge = 60;
    if ((modes & 32) != 0) test::hostility.fail_release = 60;
    test::Session session(input, {.may_fail = true,
                                  .bad_frees = false,
                                  .max_live = 8 * MiB,
                                  .check_every = 8,
                                  .name = "fuzz_ops"});
    while (!input.empty() && session.steps() < 400) session.step();
    test::hostility.refuse_chunks = test::hostility.refuse_commit = 0;
    session.finish();
    return 0;
}
