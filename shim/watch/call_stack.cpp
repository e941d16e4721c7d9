// Purpose: see call_stack.hpp.
// Who calls it: see call_stack.hpp.
// Crash rule: see call_stack.hpp.
#include "shim/watch/call_stack.hpp"

#include <dlfcn.h>
#include <signal.h>

#include <atomic>

#include "dsm-core/base/layout.hpp"
#include "shim/sys/syscall.hpp"

namespace aep {

namespace {

std::atomic<Unwinder*> unwinder{nullptr};
uptr own_begin = 0;
uptr own_end = 0;

__thread int own_number __attribute__((tls_model("initial-exec"))) = 0;  // 0: not asked yet

bool is_own_code(uptr address) { return address - own_begin < own_end - own_begin; }

/// Frames of one stack lie no further apart.
constexpr uptr LARGEST_FRAME = 1 * MiB;

/// Whether 8 bytes there can be read, asked of the kernel: a frame pointer of code that uses the register for something
/// else may lead anywhere. The set is read first, then the unknown `how` is refused.
bool is_readable(uptr address) {
    return sys::call(__NR_rt_sigprocmask, -1, static_cast<long>(address), 0, 8) == -EINVAL;
}

/// What a frame pointer points at.
struct Frame {
    uptr caller;
    uptr return_address;
};

/// Adds the return addresses of `frame` and those above it.
void walk(CallStack& to, uptr frame) {
    uptr below = reinterpret_cast<uptr>(__builtin_frame_address(0));
    uptr known_page = round_down(below, OS_PAGE_SIZE);  // readable
    while (to.depth < MOST_FRAMES) {
        if (frame % sizeof(uptr) != 0 || frame < below || frame - below > LARGEST_FRAME) return;
        for (const uptr end : {frame, frame + sizeof(Frame) - 1}) {
            const uptr page = round_down(end, OS_PAGE_SIZE);
            if (page != known_page && !is_readable(page)) return;
            known_page = page;
        }
        const Frame& here = *reinterpret_cast<const Frame*>(frame);
        if (here.return_address < OS_PAGE_SIZE) return;
        to.frames[to.depth++] = here.return_address;
        below = frame + sizeof(Frame);
        frame = here.caller;
    }
}

/// Leaves the first `count` frames out.
void leave_out(CallStack& stack, u32 count) {
    for (u32 i = count; i < stack.depth; ++i) stack.frames[i - count] = stack.frames[i];
    stack.depth -= count;
}

}  // namespace

int thread_number() {
    if (own_number == 0) own_number = sys::gettid();
    return own_number;
}

void forget_thread_number() { own_number = 0; }

void use_unwinder(Unwinder* chosen) { unwinder.store(chosen, std::memory_order_relaxed); }

void own_code_lies_at(uptr begin, uptr end) {
    own_begin = begin;
    own_end = end;
}

[[gnu::noinline]] void capture_call_stack(CallStack& to) {
    to.depth = 0;
    if (Unwinder* const other = unwinder.load(std::memory_order_relaxed))
        to.depth = other(to.frames, MOST_FRAMES);
    else
        walk(to, reinterpret_cast<uptr>(__builtin_frame_address(0)));
    u32 own = 0;
    while (own < to.depth && is_own_code(to.frames[own])) ++own;
    leave_out(to, own);
}

[[gnu::noinline]] void capture_interrupted(CallStack& to, uptr at, uptr frame) {
    to.depth = 0;
    to.thread = thread_number();
    if (Unwinder* const other = unwinder.load(std::memory_order_relaxed)) {
        to.depth = other(to.frames, MOST_FRAMES);
        u32 handler = 0;
        while (handler < to.depth && to.frames[handler] != at) ++handler;
        if (handler != to.depth) return leave_out(to, handler);
        to.depth = 0;
    }
    to.frames[to.depth++] = at;
    // The stack may be another one than the handler's: any place will do to begin with.
    const uptr here = reinterpret_cast<uptr>(__builtin_frame_address(0));
    if (frame >= here && frame - here <= LARGEST_FRAME) return walk(to, frame);
    if (frame % sizeof(uptr) != 0 || !is_readable(frame) || !is_readable(frame + sizeof(uptr)))
        return;
    to.frames[to.depth++] = reinterpret_cast<const Frame*>(frame)->return_address;
}

void add_place(MessageLine& line, uptr address) {
    Dl_info found{};
    line.add(Hex{address});
    // A return address may be the next function's first: the call lies before it.
    if (dladdr(reinterpret_cast<void*>(address - 1), &found) == 0) return;
    if (found.dli_sname != nullptr) {
        line.add(" ");
        line.add(found.dli_sname);
        line.add("+");
        line.add(Hex{address - reinterpret_cast<uptr>(found.dli_saddr)});
    }
    if (found.dli_fname == nullptr) return;
    line.add(" (");
    line.add(found.dli_fname);
    line.add("+");
    line.add(Hex{address - reinterpret_cast<uptr>(found.dli_fbase)});
    line.add(")");
}

void print_call_stack(const CallStack& stack) {
    for (u32 i = 0; i < stack.depth; ++i) {
        MessageLine line;
        line.add("    #");
        line.add(i);
        line.add(" ");
        add_place(line, stack.frames[i]);
        line.send();
    }
    if (stack.depth == 0) message("    (no stack)");
}

}  // namespace aep
