// Purpose: see careful.hpp.
// Who calls it: see careful.hpp.
// Crash rule: see careful.hpp.
#include "shim/sys/careful.hpp"

#include <signal.h>

#include <atomic>

namespace aep {

// Leaves that change nothing but registers and what they are asked to: from any instruction of them it can go on at the
// last line, as if they had answered 0.
extern "C" const u64* aep_careful_copy(void* to, const void* from, usize bytes);
extern "C" const u64* aep_careful_find(const u64* begin, const u64* end);
extern "C" const u64* aep_careful_clear(void* at, usize bytes);
extern "C" const u64* aep_careful_failed();
asm(".text\n.balign 16\n"
    ".hidden aep_careful_copy\n.type aep_careful_copy, @function\n"
    "aep_careful_copy:\n"
    "\txorl %eax, %eax\n"
    "1:\tcmpq %rdx, %rax\n"
    "\tje 2f\n"
    "\tmovb (%rsi,%rax), %cl\n"
    "\tmovb %cl, (%rdi,%rax)\n"
    "\tincq %rax\n"
    "\tjmp 1b\n"
    "2:\tmovq %rdi, %rax\n"
    "\tret\n"
    ".size aep_careful_copy, . - aep_careful_copy\n"
    ".hidden aep_careful_find\n.type aep_careful_find, @function\n"
    "aep_careful_find:\n"
    "\tmovq %rdi, %rax\n"
    "3:\tcmpq %rsi, %rax\n"
    "\tje 4f\n"
    "\tcmpq $0, (%rax)\n"
    "\tjne 4f\n"
    "\taddq $8, %rax\n"
    "\tjmp 3b\n"
    "4:\tret\n"
    ".size aep_careful_find, . - aep_careful_find\n"
    ".hidden aep_careful_clear\n.type aep_careful_clear, @function\n"
    "aep_careful_clear:\n"
    "\txorl %eax, %eax\n"
    "\taddq %rdi, %rsi\n"
    "5:\tcmpq %rsi, %rdi\n"
    "\tje 6f\n"
    "\tmovnti %rax, (%rdi)\n"
    "\taddq $8, %rdi\n"
    "\tjmp 5b\n"
    "6:\tsfence\n"
    "\tmovq %rdi, %rax\n"
    "\tret\n"
    ".size aep_careful_clear, . - aep_careful_clear\n"
    ".hidden aep_careful_failed\n.type aep_careful_failed, @function\n"
    "aep_careful_failed:\n"
    "\txorl %eax, %eax\n"
    "\tret\n"
    ".size aep_careful_failed, . - aep_careful_failed\n");

namespace {

std::atomic<uptr> failed_at{0};

}  // namespace

uptr way_out_of(const Fault& fault) {
    const auto begin = reinterpret_cast<uptr>(&aep_careful_copy);
    const auto end = reinterpret_cast<uptr>(&aep_careful_failed);
    // Of a page that nobody has touched: who touches it is told again.
    if (fault.code == BUS_MCEERR_AO) return fault.at;
    if (fault.at < begin || fault.at >= end) return 0;
    failed_at.store(fault.address, std::memory_order_relaxed);
    return end;
}

bool read_carefully(void* to, const void* from, usize bytes) {
    return aep_careful_copy(to, from, bytes) != nullptr;
}

const u64* first_used_word(const u64* begin, const u64* end) {
    return aep_careful_find(begin, end);
}

bool clear_carefully(void* at, usize bytes) { return aep_careful_clear(at, bytes) != nullptr; }

uptr failed_address() { return failed_at.load(std::memory_order_relaxed); }

}  // namespace aep
