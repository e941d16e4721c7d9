// Purpose: see label_commands.hpp.
// Who calls it: see label_commands.hpp.
// Crash rule: see label_commands.hpp.
#include "tests/sharing/label_commands.hpp"

#include "include/aep/group.hpp"
#include "tests/sharing/interruptions.hpp"

namespace aep::test {
namespace {

struct Apple {
    static constexpr const char* dsm_type_name = "shop.Fruit";
    long weight;
};
/// The same, as a later program has it.
struct LaterApple {
    static constexpr const char* dsm_type_name = "shop.Fruit";
    static constexpr std::uint32_t dsm_version = 2;
    long weight;
};
struct Pear {
    long weight;
};

dsm_message heard;

std::string say(const Words& w) {
    const dsm_label label{.tag = w.number(2),
                          .type = w.number(3),
                          .version = w.number<std::uint32_t>(4),
                          .reserved = 0};
    return ok_or_error(dsm_send_message(w.number(0), w.pointer(1), &label, w.number<int>(5),
                                        w.number<unsigned>(6)));
}

/// "address sender tag type version".
std::string hear(const Words& w) {
    void* p = dsm_recv_message(w.number(0), w.number<int>(1), &heard, sizeof heard);
    if (p == nullptr) return strerrorname_np(errno);
    return address_text(p) + " " + std::to_string(heard.sender) + " " + std::to_string(heard.tag) +
           " " + std::to_string(heard.type) + " " + std::to_string(heard.version);
}

/// For a program that knows the first `size` bytes of it.
std::string hear_less(const Words& w) {
    dsm_message less;
    std::memset(static_cast<void*>(&less), 0x77, sizeof less);
    const std::size_t size = w.number(1);
    if (dsm_recv_message(w.number(0), -1, &less, size) == nullptr) return strerrorname_np(errno);
    const auto* bytes = reinterpret_cast<const unsigned char*>(&less);
    for (std::size_t i = size; i < sizeof less; ++i)
        if (bytes[i] != 0x77) return "wrote beyond the size";
    return std::to_string(less.sender);
}

/// What f() gives, or the name of the error that it throws.
template <class F>
std::string caught(F&& f) {
    try {
        return f();
    } catch (const std::system_error& error) {
        return strerrorname_np(error.code().value());
    }
}

template <class T>
std::string give(const Words& w) {
    return caught([&] {
        dsm::make<T>(T{w.number<long>(2)}).send(w.number(0), dsm::FOREVER, w.number(2));
        return std::string("ok");
    });
}

template <class T>
std::string take() {
    return caught([] {
        const auto got = dsm::receive<T>(DSM_ANY, dsm::AT_ONCE);
        if (!got) return std::string("none");
        return std::to_string(got->weight) + " " + std::to_string(got.tag());
    });
}

template <class T>
std::string take_group() {
    return caught([] {
        const auto got = dsm::receive_root<T>(DSM_ANY, dsm::AT_ONCE);
        return std::to_string(got->weight) + " " + std::to_string(got.tag());
    });
}

/// By kind: "apple", "later" or "pear".
template <template <class> class What>
std::string of_kind(const std::string& kind, const Words& w) {
    if (kind == "apple") return What<Apple>::call(w);
    if (kind == "later") return What<LaterApple>::call(w);
    return What<Pear>::call(w);
}
template <class T>
struct Give {
    static std::string call(const Words& w) { return give<T>(w); }
};
template <class T>
struct Take {
    static std::string call(const Words&) { return take<T>(); }
};
template <class T>
struct TakeGroup {
    static std::string call(const Words&) { return take_group<T>(); }
};

std::string give_group(const Words& w) {
    return caught([&] {
        const dsm::Group group = dsm::Group::create();
        group.set_root(group.make<Apple>(w.number<long>(1)));
        group.send(w.number(0), dsm::FOREVER, 7);
        return std::string("ok");
    });
}

/// While a signal handler runs again and again, much more often than the time limit: it ends all the same.
std::string wait_interrupted(dsm_id to, void* object) {
    const Interruptions often(std::chrono::milliseconds(5), [](int) {});
    const std::chrono::milliseconds limit(100);
    return caught([&] {
        if (object == nullptr)
            return std::string(dsm::receive<Apple>(DSM_ANY, limit) ? "some" : "none");
        dsm::Ref<Pear>(static_cast<Pear*>(object)).send(to, limit);
        return std::string("sent");
    });
}

/// Whether both languages make the same of a name, at compile time, too.
std::string agree() {
    constexpr std::uint64_t FRUIT = dsm::detail::label_of<Apple>(0).type;
    if (FRUIT != dsm_type("shop.Fruit")) return "shop.Fruit";
    if (dsm::detail::label_of<const LaterApple>(0).type != FRUIT) return "const";
    if (dsm::detail::label_of<Pear>(0).type == FRUIT) return "pear";
    if (dsm::detail::label_of<long>(0).type != dsm_type("i8")) return "long";
    if (dsm::detail::label_of<long long>(0).type != dsm_type("i8")) return "long long";
    if (dsm::detail::label_of<unsigned char>(0).type != dsm_type("u1")) return "unsigned char";
    if (dsm::detail::label_of<double>(0).type != dsm_type("f8")) return "double";
    return dsm_type("") == 0 ? "zero" : "ok";
}

}  // namespace

const Commands LABEL_COMMANDS = {
    {"say", say},
    {"hear", hear},
    {"hearless", hear_less},
    {"fits",
     [](const Words& w) {
         return ok_or_error(
             dsm_expect(&heard, w.number(0), w.number<std::uint32_t>(1), w.number(2)));
     }},
    {"typeof", [](const Words& w) { return std::to_string(dsm_type(w[0].c_str())); }},
    {"agree", [](const Words&) { return agree(); }},
    {"give", [](const Words& w) { return of_kind<Give>(w[1], w); }},
    {"take", [](const Words& w) { return of_kind<Take>(w[0], w); }},
    {"givegroup", give_group},
    {"takegroup", [](const Words& w) { return of_kind<TakeGroup>(w[0], w); }},
    {"interrupted",
     [](const Words& w) { return wait_interrupted(w[0].empty() ? 0 : w.number(0), w.pointer(1)); }},
};

}  // namespace aep::test
