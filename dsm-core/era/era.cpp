// Purpose: the protocol compiled for both kinds of memory, so that the library has it and the
//          compiler sees it freestanding.
// Who calls it: nobody; the linker.
// Crash rule: see transaction.hpp and recovery.hpp.
#include "dsm-core/era/chunks.hpp"
#include "dsm-core/era/mailbox.hpp"
#include "dsm-core/era/recovery.hpp"

namespace aep::era {

template class Lane<LocalMemory>;
template class Lane<CxlMemory>;
template class Recovery<LocalMemory>;
template class Recovery<CxlMemory>;

template Status send(Lane<LocalMemory>&, u32, u32, Envelope);
template Status send(Lane<CxlMemory>&, u32, u32, Envelope);
template Status receive(Lane<LocalMemory>&, u32, u32, u32&);
template Status receive(Lane<CxlMemory>&, u32, u32, u32&);
template Status recover_former(LocalMemory&, const Tables&, u32, const Disposal&);
template Status recover_former(CxlMemory&, const Tables&, u32, const Disposal&);
template NodeWord join(LocalMemory&, const Tables&, u32);
template NodeWord join(CxlMemory&, const Tables&, u32);
template Status claim_chunk(LocalMemory&, const Tables&, u32, NodeWord, u32);
template Status claim_chunk(CxlMemory&, const Tables&, u32, NodeWord, u32);
template Status return_chunk(LocalMemory&, const Tables&, u32, NodeWord, u32);
template Status return_chunk(CxlMemory&, const Tables&, u32, NodeWord, u32);

}  // namespace aep::era
