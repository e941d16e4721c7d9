// Purpose: how long the torture waits before it says that somebody hangs, as a multiple of what is
//          enough on a machine of its own: emulated ones are slow.
// Who calls it: the driver, from its command line; whoever waits.
// Crash rule: no state but the setting.
#pragma once

namespace aep::torture {

inline int patience = 1;

}  // namespace aep::torture
