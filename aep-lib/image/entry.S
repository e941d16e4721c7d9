# Purpose: the way in and out of the image.
# Who calls it: clients, with the address of their slot in rdi (image_info.hpp: enter_image).
# Crash rule: the sequence is odd exactly while an operation is open, and changes on the slot's
#             stack, in image text: a thread killed elsewhere has no open operation. What follows the
#             second increment may be lost.
#
# Slot: user_rsp at 0, stack_top at 8, sequence at 16 (format.hpp asserts it). The word at stack_top
# holds the slot's address. Callee-saved registers are kept by the C++ code, as in any call.

        .section .shadow, "ax", @progbits
        .globl  aep_shadow_entry, aep_shadow_return
        .type   aep_shadow_entry, @function
aep_shadow_entry:
        .cfi_startproc
        mov     %rsp, (%rdi)
        mov     8(%rdi), %rsp
        call    aep_enter
aep_shadow_return:
        mov     (%rsp), %rdi
        mov     (%rdi), %rsp
        ret
        .cfi_endproc
        .size   aep_shadow_entry, . - aep_shadow_entry

        .text
        .globl  aep_enter, aep_entered
        .type   aep_enter, @function
aep_enter:
        push    %rdi                    # also aligns the stack for the call
        incl    16(%rdi)
aep_entered:                            # rdi: the slot; nothing else is needed from here
        call    aep_dispatch
        mov     (%rsp), %rdi
        incl    16(%rdi)
        pop     %rdi
        ret
        .size   aep_enter, . - aep_enter

        .section .note.GNU-stack, "", @progbits
