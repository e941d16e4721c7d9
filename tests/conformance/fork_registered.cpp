// Buffers in heap memory that are registered with io_uring, and a fork: what the ring reads
// arrives, if the buffer was kept from children before it was registered, or is registered again
// afterwards (docs/reference/limits.md says what happens otherwise on a pool). Run by CTest through
// run.sh. Crash rule: check.hpp.
#include <liburing.h>

#include "tests/conformance/check.hpp"

namespace {

constexpr size_t BYTES = 256 << 10;

/// A file with z in it, a ring, and a buffer of the heap.
struct Reader {
    io_uring ring;
    int file = -1;
    iovec buffer{nullptr, BYTES};

    bool begin() {
        const int error = io_uring_queue_init(4, &ring, 0);
        if (error != 0) return false;
        file = memfd_create("z", MFD_CLOEXEC);
        REQUIRE(file >= 0);
        char z[4096];
        memset(z, 'z', sizeof z);
        for (size_t i = 0; i < BYTES / sizeof z; ++i) REQUIRE(write(file, z, sizeof z) > 0);
        buffer.iov_base = aligned_alloc(4096, BYTES);
        REQUIRE(buffer.iov_base != nullptr);
        return true;
    }
    void hold() {
        const int error = io_uring_register_buffers(&ring, &buffer, 1);
        REQUIRE(error == 0, "%s", strerror(-error));
    }
    /// Fills the buffer with x, lets the ring read into it, and counts what arrived.
    bool arrives() {
        char* bytes = static_cast<char*>(buffer.iov_base);
        memset(bytes, 'x', BYTES);
        io_uring_sqe* wanted = io_uring_get_sqe(&ring);
        io_uring_prep_read_fixed(wanted, file, bytes, BYTES, 0, 0);
        io_uring_submit(&ring);
        io_uring_cqe* done = nullptr;
        REQUIRE(io_uring_wait_cqe(&ring, &done) == 0);
        const bool all = done->res == static_cast<int>(BYTES);
        io_uring_cqe_seen(&ring, done);
        return all && bytes[0] == 'z' && memcmp(bytes, bytes + 1, BYTES - 1) == 0;
    }
    void end() {
        io_uring_queue_exit(&ring);
        close(file);
        free(buffer.iov_base);
    }
};

void fork_once() {
    CHECK_CHILD(check::run_in_child([] { free(malloc(100)); }));
}

}  // namespace

int main() {
    check::begin();
    Reader reader;
    CANNOT_RUN_UNLESS(reader.begin(), "io_uring is forbidden here");

    check::begin_case("kept from children, then registered");
    REQUIRE(madvise(reader.buffer.iov_base, BYTES, MADV_DONTFORK) == 0);
    reader.hold();
    CHECK(reader.arrives());
    fork_once();
    CHECK(reader.arrives());
    reader.end();

    check::begin_case("registered again");
    REQUIRE(reader.begin());
    reader.hold();
    CHECK(reader.arrives());
    fork_once();
    REQUIRE(io_uring_unregister_buffers(&reader.ring) == 0);
    reader.hold();
    CHECK(reader.arrives());
    reader.end();
    return check::result();
}
