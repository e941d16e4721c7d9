// Purpose: which mutant a binary is: a number that the job writes into the built file, once for every copy of it.
// Who calls it: the copies of the product's sources that write_sources.py makes; C++, C and the BPF program.
// Crash rule: constant data; nothing is written.
//
// Each translation unit that holds a mutant has such a switch among its constants. run.py finds them by the three
// words of the mark, in programs, libraries, the image and in a BPF program that a daemon carries, and writes the
// fourth: 0, the product as it is; a mutant's number, that mutant; with the highest bit, a trap where it would be.
#pragma once

#define AEP_SWITCH_MARK 0x9d3a71c5u, 0x41b6e8f2u, 0xc87d0593u
#define AEP_SWITCH_TRAP 0x80000000u

#ifdef __bpf__
static const volatile unsigned aep_switch[4] = {AEP_SWITCH_MARK, 0};
// A program of the kernel has no trap: the verifier would refuse it.
#define aep_mutant(number) (aep_switch[3] == (number))
#else
__attribute__((used)) static const unsigned aep_switch[4] = {AEP_SWITCH_MARK, 0};

#ifdef __cplusplus
constexpr
#else
static inline
#endif
    __attribute__((always_inline)) int
    aep_mutant(unsigned number) {
#ifdef __cplusplus
    if (__builtin_is_constant_evaluated()) return 0;
#endif
    const unsigned* at = aep_switch;
    __asm__(""
            : "+r"(at));  // it does not know what is there: the file is changed after it is built
    if (at[3] == (number | AEP_SWITCH_TRAP)) __builtin_trap();
    return at[3] == number;
}
#endif
