// Purpose: see environment.hpp.
// Who calls it: shim/driver/process.cpp.
// Crash rule: no shared state.
#include "shim/sys/environment.hpp"

#include <signal.h>
#include <sys/auxv.h>

#include "shim/sys/message.hpp"

/// Set by the dynamic linker: the address of argc on the initial stack.
extern "C" void* __libc_stack_end;

namespace aep {

namespace {

bool equal(const char* a, const char* b) {
    while (*a != '\0' && *a == *b) {
        ++a;
        ++b;
    }
    return *a == *b;
}

/// The value of `entry` ("NAME=value") if its name is `name`, else null.
const char* value_of(const char* entry, const char* name) {
    while (*name != '\0' && *entry == *name) {
        ++entry;
        ++name;
    }
    return *name == '\0' && *entry == '=' ? entry + 1 : nullptr;
}

void refuse(const char* name, const char* value, const char* expected) {
    message(name, "=", value, " is not understood (expected ", expected, "); the default is used");
}

bool parse_flag(const char* name, const char* value) {
    if (equal(value, "1")) return true;
    if (!equal(value, "0") && !equal(value, "")) refuse(name, value, "0 or 1");
    return false;
}

/// A number from 1 to `most`; false: it is none.
bool parse_count(const char* name, const char* value, usize most, usize& count) {
    usize n = 0;
    if (parse_size(value, n) && n != 0 && n <= most) {
        count = n;
        return true;
    }
    refuse(name, value, "a number, at least 1 and not too large");
    return false;
}

int parse_signal(const char* value) {
    constexpr struct {
        const char* name;
        int number;
    } NAMES[] = {{"USR1", SIGUSR1}, {"SIGUSR1", SIGUSR1}, {"USR2", SIGUSR2}, {"SIGUSR2", SIGUSR2}};
    for (const auto& known : NAMES)
        if (equal(value, known.name)) return known.number;
    constexpr usize MOST_SIGNALS = 64;
    usize number = 0;
    if (parse_size(value, number) && number != 0 && number <= MOST_SIGNALS)
        return static_cast<int>(number);
    refuse("AEP_PROFILE_SIGNAL", value, "USR1, USR2, or a signal's number");
    return 0;
}

/// What is watched. False: it is another setting.
bool apply_watching(Settings& s, const char* entry) {
    if (const char* profile = value_of(entry, "AEP_PROFILE")) {
        s.profile = *profile == '\0' ? nullptr : profile;
    } else if (const char* rate = value_of(entry, "AEP_PROFILE_RATE")) {
        parse_count("AEP_PROFILE_RATE", rate, TiB, s.profile_rate);
    } else if (const char* signal = value_of(entry, "AEP_PROFILE_SIGNAL")) {
        s.profile_signal = parse_signal(signal);
    } else if (const char* leaks = value_of(entry, "AEP_LEAKS")) {
        s.leaks = parse_flag("AEP_LEAKS", leaks);
    } else if (const char* guard = value_of(entry, "AEP_GUARD")) {
        usize count = 0;
        if (!equal(guard, "0") && !equal(guard, "") && parse_count("AEP_GUARD", guard, GiB, count))
            s.guard = static_cast<u32>(count);
    } else if (const char* stacks = value_of(entry, "AEP_STACKS")) {
        if (equal(stacks, "gcc"))
            s.stacks = Stacks::gcc;
        else if (equal(stacks, "libunwind"))
            s.stacks = Stacks::libunwind;
        else if (!equal(stacks, "frames"))
            refuse("AEP_STACKS", stacks, "frames, gcc or libunwind");
    } else {
        return false;
    }
    return true;
}

void apply(Settings& s, const char* entry) {
    if (apply_watching(s, entry)) return;
    const auto text = [](const char* value) { return *value == '\0' ? nullptr : value; };
    if (const char* v = value_of(entry, "AEP_POOL")) {
        s.pool = text(v);
    } else if (const char* context = value_of(entry, "AEP_CONTEXT")) {
        s.context = text(context);
    } else if (const char* socket = value_of(entry, "AEP_SOCKET")) {
        s.socket = text(socket);
    } else if (const char* runtime = value_of(entry, "XDG_RUNTIME_DIR")) {
        s.runtime_dir = text(runtime);
    } else if (const char* pure = value_of(entry, "AEP_PURE")) {
        s.pure = parse_flag("AEP_PURE", pure);
    } else if (const char* size = value_of(entry, "AEP_POOL_SIZE")) {
        if (!parse_size(size, s.pool_bytes))
            refuse("AEP_POOL_SIZE", size, "bytes, or with K, M, G");
    } else if (const char* decay = value_of(entry, "AEP_DECAY_MS")) {
        usize ms = 0;
        if (parse_size(decay, ms))
            s.decay_ms = ms;
        else
            refuse("AEP_DECAY_MS", decay, "milliseconds");
    } else if (const char* huge = value_of(entry, "AEP_HUGE")) {
        if (equal(huge, "never"))
            s.huge_from = ~usize{0};
        else if (!parse_size(huge, s.huge_from))
            refuse("AEP_HUGE", huge, "never, or bytes, or with K, M, G");
    } else if (const char* mode = value_of(entry, "AEP_ON_ERROR")) {
        if (equal(mode, "ignore"))
            s.on_error = OnError::ignore;
        else if (!equal(mode, "abort"))
            refuse("AEP_ON_ERROR", mode, "abort or ignore");
    } else if (const char* stats = value_of(entry, "AEP_STATS")) {
        s.stats = parse_flag("AEP_STATS", stats);
    } else if (const char* background = value_of(entry, "AEP_BACKGROUND")) {
        s.background = parse_flag("AEP_BACKGROUND", background);
    } else if (const char* require = value_of(entry, "AEP_REQUIRE")) {
        s.require = parse_flag("AEP_REQUIRE", require);
    }
}

}  // namespace

bool parse_size(const char* text, usize& bytes) {
    if (*text < '0' || *text > '9') return false;
    usize n = 0;
    for (; *text >= '0' && *text <= '9'; ++text) {
        if (__builtin_mul_overflow(n, usize{10}, &n)) return false;
        if (__builtin_add_overflow(n, static_cast<usize>(*text - '0'), &n)) return false;
    }
    usize unit = 1;
    switch (*text) {
        case 'k':
        case 'K':
            unit = KiB;
            break;
        case 'm':
        case 'M':
            unit = MiB;
            break;
        case 'g':
        case 'G':
            unit = GiB;
            break;
        case 't':
        case 'T':
            unit = TiB;
            break;
        case '\0':
            break;
        default:
            return false;
    }
    if (unit != 1 && text[1] != '\0') return false;
    if (__builtin_mul_overflow(n, unit, &n)) return false;
    bytes = n;
    return true;
}

Settings read_settings() {
    // Asked of the loader, not read behind the environment: for such programs the loader has
    // shortened that.
    if (getauxval(AT_SECURE) != 0) return {};
    // The initial stack: argc, argv..., null, environment..., null.
    const u64* at = static_cast<const u64*>(__libc_stack_end);
    const u64* environment = at + 1 + *at + 1;
    Settings s;
    for (; *environment != 0; ++environment) apply(s, reinterpret_cast<const char*>(*environment));
    const bool never = s.context != nullptr && equal(s.context, NO_CONTEXT);
    const bool named = s.context != nullptr || s.socket != nullptr;
    s.join = !never && (named || s.pool == nullptr);
    if (s.join && named && s.pool != nullptr) {
        message(
            "AEP_POOL is ignored: the context that is named has a pool of its own; unset one of "
            "them");
        s.pool = nullptr;
    }
    return s;
}

}  // namespace aep
