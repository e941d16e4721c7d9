// Purpose: see call_commands.hpp.
// Who calls it: see call_commands.hpp.
// Crash rule: see call_commands.hpp.
#include "tests/sharing/call_commands.hpp"

#include "include/aep/call.hpp"

namespace aep::test {
namespace {

struct Wish {
    static constexpr const char* dsm_type_name = "test.Wish";
    std::uint64_t number;
};
struct Grant {
    static constexpr const char* dsm_type_name = "test.Grant";
    std::uint64_t number;
};
/// As a grant, of another name.
struct Denial {
    static constexpr const char* dsm_type_name = "test.Denial";
    std::uint64_t number;
};

/// The number, "none" or the error's name.
template <class T>
std::string told(const dsm::Result<dsm::Handle<T>>& result) {
    return result ? std::to_string((*result)->number) : strerrorname_np(result.error());
}

template <class Answer>
std::string call(const Words& w) {
    auto caller = dsm::Caller::open();
    if (!caller) return strerrorname_np(caller.error());
    const auto limit = std::chrono::milliseconds(w.number<int>(2));
    return told(caller->call<Answer>(w.number(0), *dsm::try_make<Wish>(Wish{w.number(1)}), limit));
}

dsm::Job ask(dsm::Caller& caller, dsm::Id to, std::uint64_t number, int limit_ms,
             std::string& told_all) {
    const auto answer = co_await caller.ask<Grant>(to, *dsm::try_make<Wish>(Wish{number}),
                                                   std::chrono::milliseconds(limit_ms));
    if (!told_all.empty()) told_all += ' ';
    told_all += told(answer);
}

/// Asks the first peer for 1 and 2 and the second for 3, with those times, all at once: what came, in that order.
std::string ask_two(const Words& w) {
    auto caller = dsm::Caller::open();
    if (!caller) return strerrorname_np(caller.error());
    std::string told_all;
    ask(*caller, w.number(0), 1, w.number<int>(2), told_all);
    ask(*caller, w.number(0), 2, w.number<int>(2), told_all);
    ask(*caller, w.number(1), 3, w.number<int>(3), told_all);
    if (caller->waiting() > 3) return "more";
    const int error = caller->run();
    return error == 0 ? told_all : strerrorname_np(error);
}

/// Serves so many, with the number ten times as large; of 0 it fails.
std::string grant(const Words& w) {
    std::string served;
    for (unsigned i = 0; i < w.number<unsigned>(0); ++i) {
        const auto one = dsm::serve<Wish>([](const Wish& wish) {
            using Made = dsm::Result<dsm::Handle<Grant>>;
            return wish.number == 0 ? Made::failure(EBUSY)
                                    : dsm::try_make<Grant>(Grant{wish.number * 10});
        });
        if (!one) return strerrorname_np(one.error());
        served += *one ? "y" : "n";
    }
    return served;
}

}  // namespace

const Commands CALL_COMMANDS = {
    {"callgrant", call<Grant>},
    {"calldenial", call<Denial>},
    {"asktwo", ask_two},
    {"grant", grant},
};

}  // namespace aep::test
