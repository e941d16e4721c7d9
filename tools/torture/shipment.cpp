// Purpose: see shipment.hpp.
// Who calls it: see shipment.hpp.
// Crash rule: see shipment.hpp.
#include "tools/torture/shipment.hpp"

#include <aep/group.hpp>

#include <exception>
#include <functional>
#include <map>
#include <scoped_allocator>
#include <string>
#include <string_view>
#include <vector>

namespace aep::torture {
namespace {

constexpr std::uint64_t MAGIC = 0x7368'6970'6d65'6e74;

template <class T>
using In = dsm::group_allocator<T>;
using Text = std::basic_string<char, std::char_traits<char>, In<char>>;
using Texts = std::vector<Text, std::scoped_allocator_adaptor<In<Text>>>;
using Index = std::map<std::uint64_t, Texts, std::less<>,
                       std::scoped_allocator_adaptor<In<std::pair<const std::uint64_t, Texts>>>>;

struct Link {
    std::uint64_t value;
    Link* next;
};
struct Branch {
    std::uint64_t value;
    Branch* left;
    Branch* right;
};

struct Shipment {
    std::uint64_t magic;
    std::uint64_t seed;
    unsigned links, height;
    Link* list;
    Branch* tree;
    Index index;
};

/// The values that both sides derive from the seed.
std::uint64_t value_of(std::uint64_t seed, std::uint64_t n) {
    std::uint64_t x = seed + n * 0x9e37'79b9'7f4a'7c15;
    x = (x ^ (x >> 31)) * 0xbf58'476d'1ce4'e5b9;
    return x ^ (x >> 29);
}

unsigned keys_of(std::uint64_t seed) { return static_cast<unsigned>(seed >> 16 & 15); }
std::size_t length_of(std::uint64_t value) { return value % 100; }

Branch* grow(const dsm::Group& group, std::uint64_t seed, std::uint64_t place, unsigned height) {
    if (height == 0) return nullptr;
    Branch* left = grow(group, seed, 2 * place, height - 1);
    Branch* right = grow(group, seed, 2 * place + 1, height - 1);
    return group.make<Branch>(value_of(seed, place), left, right);
}

bool same_tree(const Branch* branch, std::uint64_t seed, std::uint64_t place, unsigned height) {
    if (height == 0) return branch == nullptr;
    return branch != nullptr && branch->value == value_of(seed, place) &&
           same_tree(branch->left, seed, 2 * place, height - 1) &&
           same_tree(branch->right, seed, 2 * place + 1, height - 1);
}

void load(const dsm::Group& group, Shipment& s) {
    for (unsigned i = 0; i < s.links; ++i) s.list = group.make<Link>(value_of(s.seed, i), s.list);
    s.tree = grow(group, s.seed, 1, s.height);
    for (unsigned key = 0; key < keys_of(s.seed); ++key) {
        Texts& texts = s.index[key];
        for (unsigned i = 0; i <= key; ++i)
            texts.emplace_back(length_of(value_of(s.seed, key)), static_cast<char>('a' + i));
    }
}

}  // namespace

void send_shipment(std::uint64_t seed, const dsm_id (&peers)[2]) {
    dsm::Group group(dsm_group_create(seed % 3 * 4096));
    if (!group) return;
    try {
        auto* s =
            group.make<Shipment>(MAGIC, seed, 10 + static_cast<unsigned>(seed % 100),
                                 static_cast<unsigned>(seed >> 8 & 3) + 3, nullptr, nullptr,
                                 Index(group.allocator<std::pair<const std::uint64_t, Texts>>()));
        load(group, *s);
        group.set_root(s);
    } catch (const std::exception&) {
        return;
    }
    for (const dsm_id peer : peers)
        if (peer != 0) dsm_send(peer, group.get());
}

bool is_shipment(const void* root, std::size_t bytes) {
    return bytes >= sizeof(Shipment) && static_cast<const Shipment*>(root)->magic == MAGIC;
}

const char* verify_shipment(const void* root) {
    const Shipment& s = *static_cast<const Shipment*>(root);
    unsigned left = s.links;
    for (const Link* link = s.list; link != nullptr; link = link->next)
        if (left == 0 || link->value != value_of(s.seed, --left)) return "a list is not as it was";
    if (left != 0) return "a list is shorter than it was";
    if (!same_tree(s.tree, s.seed, 1, s.height)) return "a tree is not as it was";
    if (s.index.size() != keys_of(s.seed)) return "a map has lost keys";
    for (const auto& [key, texts] : s.index) {
        if (texts.size() != key + 1) return "a vector has lost elements";
        for (std::size_t i = 0; i < texts.size(); ++i) {
            const std::string_view text(texts[i]);
            if (text.size() != length_of(value_of(s.seed, key)) ||
                text.find_first_not_of(static_cast<char>('a' + i)) != text.npos)
                return "a string is not as it was";
        }
    }
    return nullptr;
}

}  // namespace aep::torture
