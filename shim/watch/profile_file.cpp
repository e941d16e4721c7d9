// Purpose: see profile_file.hpp.
// Who calls it: see profile_file.hpp.
// Crash rule: see profile_file.hpp.
#include "shim/watch/profile_file.hpp"

#include <fcntl.h>

#include "shim/sys/syscall.hpp"
#include "shim/watch/meter.hpp"
#include "shim/watch/profile_text.hpp"

namespace aep {

namespace {

/// Text into a file.
class FileText {
  public:
    explicit FileText(int fd) : fd_(fd) {}
    void add(const char* text) {
        while (*text != '\0') add(*text++);
    }
    void add(char c) {
        text_[length_++] = c;
        if (length_ == sizeof text_) flush();
    }
    void add(u64 value) { add_digits(value, 10); }
    void add(Hex hex) {
        add("0x");
        add_digits(hex.value, 16);
    }
    void flush() {
        for (usize at = 0; at < length_ && error_ == 0;) {
            const long n = sys::write(fd_, text_ + at, length_ - at);
            if (n == -EINTR) continue;
            if (n <= 0)
                error_ = n == 0 ? -EIO : n;
            else
                at += static_cast<usize>(n);
        }
        length_ = 0;
    }
    /// 0, or -errno of the first write that failed.
    long error() const { return error_; }

  private:
    void add_digits(u64 value, u64 base) {
        char digits[20];
        usize n = 0;
        do {
            digits[n++] = "0123456789abcdef"[value % base];
            value /= base;
        } while (value != 0);
        while (n != 0) add(digits[--n]);
    }

    int fd_;
    long error_ = 0;
    usize length_ = 0;
    char text_[2048];
};

/// The sites, and how many there are.
u32 all_sites(const SampleSite*& sites) {
    sites = sample_tables.sites.load(std::memory_order_acquire);
    if (sites == nullptr) return 0;
    const u32 count = sample_tables.count.load(std::memory_order_acquire);
    return count < MOST_SITES ? count : MOST_SITES;
}

template <class F>
void for_each_site(F&& f) {
    const SampleSite* sites;
    for (u32 i = 0, count = all_sites(sites); i < count; ++i) {
        const SampleSite& site = sites[i];
        if (site.ready.load(std::memory_order_acquire) == 0) continue;
        // freed first: what is freed meanwhile was made before.
        const u64 freed = site.freed.load(std::memory_order_acquire);
        f(site.size, site.made.load(std::memory_order_relaxed), freed, site.frames, site.depth);
    }
}

void add_own_map(FileText& out) {
    const long fd = sys::open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    if (sys::failed(fd)) return;
    char text[1024];
    for (;;) {
        const long n = sys::read(static_cast<int>(fd), text, sizeof text);
        if (n == -EINTR) continue;
        if (n <= 0) break;
        for (long i = 0; i < n; ++i) out.add(text[i]);
    }
    sys::close(static_cast<int>(fd));
}

constexpr usize LONGEST_PATH = 4096;

/// PREFIX.PID.NUMBER.heap. False: too long.
bool name_file(char (&path)[LONGEST_PATH], const char* prefix, u32 number) {
    usize length = 0;
    const auto add = [&](const char* text) {
        while (*text != '\0' && length < LONGEST_PATH - 1) path[length++] = *text++;
    };
    const auto add_number = [&](u32 value) {
        char digits[11];
        usize n = sizeof digits;
        digits[--n] = '\0';
        do {
            digits[--n] = static_cast<char>('0' + value % 10);
            value /= 10;
        } while (value != 0);
        add(digits + n);
    };
    add(prefix);
    add(".");
    add_number(static_cast<u32>(sys::getpid()));
    add(".");
    add_number(number);
    add(".heap");
    path[length] = '\0';
    return length < LONGEST_PATH - 1;
}

/// A new file; -errno.
long create_file(char (&path)[LONGEST_PATH], const char* prefix) {
    constexpr u32 MOST_FILES = 100'000;
    for (u32 number = 0; number < MOST_FILES; ++number) {
        if (!name_file(path, prefix, number)) return -ENAMETOOLONG;
        const long fd = sys::open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd != -EEXIST) return fd;
    }
    return -EEXIST;
}

}  // namespace

bool write_profile_file(const char* prefix) {
    char path[LONGEST_PATH];
    const long fd = create_file(path, prefix);
    long error = fd;
    if (!sys::failed(fd)) {
        FileText out(static_cast<int>(fd));
        write_profile(
            out, watch.rate.load(std::memory_order_relaxed), [](auto&& f) { for_each_site(f); },
            [&] { add_own_map(out); });
        out.flush();
        error = out.error();
        sys::close(static_cast<int>(fd));
    }
    if (sys::failed(error)) {
        message("heap profile ", static_cast<const char*>(path), ": ", Errno{error});
        return false;
    }
    const u64 omitted = sample_tables.omitted.load(std::memory_order_relaxed);
    if (omitted != 0)
        message(
            "heap profile: ", omitted,
            " samples found no place (too many call stacks, or no memory): give AEP_PROFILE_RATE "
            "more");
    return true;
}

namespace {

/// How many stacks a report names.
constexpr u32 MOST_LEAKS = 20;

struct Leak {
    const SampleSite* site;
    u64 count;  // samples
    u64 bytes;  // that they stand for
};

/// The largest, sorted.
struct Leaks {
    Leak largest[MOST_LEAKS];
    u32 count = 0;
    void add(const Leak& leak) {
        u32 at = count < MOST_LEAKS ? count++ : MOST_LEAKS;
        for (; at != 0 && largest[at - 1].bytes < leak.bytes; --at)
            if (at < MOST_LEAKS) largest[at] = largest[at - 1];
        if (at < MOST_LEAKS) largest[at] = leak;
    }
};

}  // namespace

void report_leaks() {
    const u64 rate = watch.rate.load(std::memory_order_relaxed);
    Leaks leaks;
    u64 blocks = 0, bytes = 0, stacks = 0;
    const SampleSite* sites;
    for (u32 i = 0, count = all_sites(sites); i < count; ++i) {
        const SampleSite& site = sites[i];
        const u64 freed = site.freed.load(std::memory_order_acquire);
        const u64 made = site.made.load(std::memory_order_relaxed);
        if (site.ready.load(std::memory_order_acquire) == 0 || made <= freed) continue;
        const double each = weight_of_sample(site.size, rate);
        const Leak leak{&site, made - freed,
                        static_cast<u64>(each * static_cast<double>(made - freed))};
        leaks.add(leak);
        blocks += leak.count;
        bytes += leak.bytes;
        ++stacks;
    }
    const char* const about = rate <= 1 ? "" : "about ";
    message("at exit of process ", sys::getpid(), ": ", about, bytes, " bytes live, seen by ",
            blocks, " sampled blocks of ", stacks, " call stacks (one sample in ", rate, " bytes)");
    for (u32 i = 0; i < leaks.count; ++i) {
        const Leak& leak = leaks.largest[i];
        message("  ", about, leak.bytes, " bytes in blocks of ", leak.site->size, " (", leak.count,
                " sampled), from");
        CallStack stack;
        stack.depth = leak.site->depth;
        for (u32 f = 0; f < stack.depth; ++f) stack.frames[f] = leak.site->frames[f];
        print_call_stack(stack);
    }
    if (stacks > leaks.count) message("  and ", stacks - leaks.count, " more");
}

}  // namespace aep
