// Purpose: see proc_file.hpp.
// Who calls it: see proc_file.hpp.
// Crash rule: no state.
#include "shim/sys/proc_file.hpp"

#include <fcntl.h>

#include "shim/sys/syscall.hpp"

namespace aep {

usize read_small_file(const char* path, char* to, usize room) {
    const long fd = sys::open(path, O_RDONLY | O_CLOEXEC);
    if (sys::failed(fd)) return 0;
    const long got = sys::read(static_cast<int>(fd), to, room - 1);
    sys::close(static_cast<int>(fd));
    const usize length = got > 0 ? static_cast<usize>(got) : 0;
    to[length] = '\0';
    return length;
}

void read_boot_id(u8 (&id)[16]) {
    char text[64];
    __builtin_memset(id, 0, sizeof id);
    const usize length = read_small_file("/proc/sys/kernel/random/boot_id", text, sizeof text);
    usize nibble = 0;
    for (usize i = 0; i < length && nibble < 32; ++i) {
        const char c = text[i];
        const int value = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
        if (value >= 0) {
            id[nibble / 2] = static_cast<u8>(id[nibble / 2] << 4 | value);
            ++nibble;
        }
    }
}

}  // namespace aep
