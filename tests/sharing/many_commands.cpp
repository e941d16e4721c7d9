// Purpose: see many_commands.hpp.
// Who calls it: see many_commands.hpp.
// Crash rule: see many_commands.hpp.
#include "tests/sharing/many_commands.hpp"

#include "include/aep/dsm.hpp"

namespace aep::test {
namespace {

/// How many, or errno's name.
std::string count_or_error(int count) {
    return count < 0 ? strerrorname_np(errno) : std::to_string(count);
}

/// To, tag, time, flags, then the objects.
std::string say_many(const Words& w) {
    const dsm_label label{.tag = w.number(1), .type = 0, .version = 0, .reserved = 0};
    std::vector<void*> objects;
    for (std::size_t i = 4; !w[i].empty(); ++i) objects.push_back(w.pointer(i));
    return count_or_error(dsm_send_many(w.number(0), objects.data(), objects.size(), &label,
                                        w.number<int>(2), w.number<unsigned>(3)));
}

/// From, time, how many at most: "address:sender:tag" of each.
std::string hear_many(const Words& w) {
    std::vector<void*> objects(w.number(2));
    std::vector<dsm_message> heard(objects.size());
    const int count = dsm_recv_many(w.number(0), w.number<int>(1), objects.data(), heard.data(),
                                    sizeof(dsm_message), objects.size());
    if (count < 0) return strerrorname_np(errno);
    std::string all;
    for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i)
        all += address_text(objects[i]) + ":" + std::to_string(heard[i].sender) + ":" +
               std::to_string(heard[i].tag) + " ";
    return all;
}

/// Without what is said of them.
std::string take_many(const Words& w) {
    std::vector<void*> objects(w.number(2));
    const int count =
        dsm_recv_many(w.number(0), w.number<int>(1), objects.data(), nullptr, 0, objects.size());
    if (count > 0 && dsm_free_many(objects.data(), static_cast<std::size_t>(count)) != count)
        return "what was received cannot be freed";
    return count_or_error(count);
}

/// Objects.
std::string drop_many(const Words& w) {
    std::vector<void*> objects;
    for (std::size_t i = 0; !w[i].empty(); ++i) objects.push_back(w.pointer(i));
    return count_or_error(dsm_free_many(objects.data(), objects.size()));
}

/// To, how many: numbers from 0 on, each an object; how many are left to who sent them.
std::string give_numbers(const Words& w) {
    std::vector<dsm::Ref<long>> numbers;
    for (long i = 0; i < w.number<long>(1); ++i) numbers.push_back(dsm::make<long>(i));
    const std::size_t sent = dsm::send_many(w.number(0), std::span(numbers), dsm::AT_ONCE, 7);
    std::size_t left = 0;
    for (const auto& number : numbers) left += static_cast<bool>(number);
    return std::to_string(sent) + " " + std::to_string(left);
}

/// How many at most: their sum, how many there were, and what their tags come to.
std::string sum_numbers(const Words& w) {
    long sum = 0;
    std::uint64_t tags = 0;
    std::vector<dsm::Ref<long>> numbers;
    dsm::receive_many(numbers, w.number(0), DSM_ANY, dsm::AT_ONCE);
    for (const auto& number : numbers) sum += *number, tags += number.tag();
    dsm::reset_many(std::span(numbers));
    for (const auto& number : numbers)
        if (number) return "one is not empty";
    return std::to_string(sum) + " " + std::to_string(numbers.size()) + " " + std::to_string(tags);
}

/// How many there were in all of those that are no numbers, and the error that says so.
std::string sum_others(const Words& w) {
    std::vector<dsm::Ref<long>> numbers;
    try {
        dsm::receive_many(numbers, w.number(0), DSM_ANY, dsm::AT_ONCE);
    } catch (const std::system_error& error) {
        return std::to_string(numbers.size()) + " " + strerrorname_np(error.code().value());
    }
    return "all are numbers";
}

std::string odd_many(const Words&) {
    void* one = dsm_malloc(10);
    dsm_message message;
    const auto is = [](int result, int error) { return result < 0 && errno == error; };
    const dsm_id self = dsm_self();
    if (!is(dsm_send_many(self, nullptr, 1, nullptr, 0, 0), EINVAL)) return "no array";
    if (!is(dsm_send_many(self, &one, 0, nullptr, 0, 0), EINVAL)) return "nothing to send";
    if (!is(dsm_send_many(self, &one, 1, nullptr, 0, ~0u), EINVAL)) return "flags";
    if (!is(dsm_recv_many(DSM_ANY, 0, nullptr, nullptr, 0, 1), EINVAL)) return "no room";
    if (!is(dsm_recv_many(DSM_ANY, 0, &one, nullptr, 0, 0), EINVAL)) return "no count";
    if (!is(dsm_recv_many(DSM_ANY, 0, &one, &message, 5000, 1), EINVAL)) return "a large size";
    if (!is(dsm_free_many(nullptr, 1), EINVAL)) return "nothing to free";
    if (!is(dsm_free_many(&one, 0), EINVAL)) return "none to free";
    void* none = nullptr;
    if (dsm_free_many(&none, 1) != 1) return "null is passed over";
    if (!is(dsm_send_many(self, &none, 1, nullptr, 0, 0), EINVAL)) return "no object";
    return dsm_free(one) == 0 ? "ok" : "free";
}

}  // namespace

const Commands MANY_COMMANDS = {
    {"saymany", say_many},         {"hearmany", hear_many},     {"takemany", take_many},
    {"givenumbers", give_numbers}, {"sumnumbers", sum_numbers}, {"oddmany", odd_many},
    {"sumothers", sum_others},     {"dropmany", drop_many},
};

}  // namespace aep::test
