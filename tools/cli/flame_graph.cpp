// Purpose: see flame_graph.hpp.
// Who calls it: see flame_graph.hpp.
// Crash rule: none needed.
#include "tools/cli/flame_graph.hpp"

#include <fmt/format.h>

#include <map>

#include "shim/watch/samples.hpp"
#include "tools/cli/show.hpp"
#include "tools/cli/symbols.hpp"

namespace aep {

namespace {

/// A function, called by those below it.
struct Flame {
    double bytes = 0;
    std::map<std::string, Flame> above;
};

constexpr double WIDTH = 1200, ROW = 17, MARGIN = 10;
constexpr double NARROWEST = 0.3;  // is not drawn any more
constexpr double LETTER = 7;

std::string escaped(const std::string& text) {
    std::string out;
    for (const char c : text) {
        switch (c) {
            case '<':
                out += "&lt;";
                break;
            case '>':
                out += "&gt;";
                break;
            case '&':
                out += "&amp;";
                break;
            case '"':
                out += "&quot;";
                break;
            default:
                out += static_cast<unsigned char>(c) < 32 ? '?' : c;
        }
    }
    return out;
}

/// Always the same for a function, from yellow to red.
std::string color_of(const std::string& name) {
    u32 hash = 2166136261;
    for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 16777619;
    return fmt::format("rgb({},{},{})", 205 + hash % 50, 90 + hash / 64 % 130, hash / 8192 % 55);
}

u32 height_of(const Flame& flame) {
    u32 most = 0;
    for (const auto& [name, above] : flame.above) most = std::max(most, height_of(above) + 1);
    return most;
}

class Drawing {
  public:
    Drawing(double all, u32 rows) : all_(all), bottom_(MARGIN + ROW * (rows + 1)) {}

    void draw(const std::string& name, const Flame& flame, double x, u32 row) {
        const double width = (WIDTH - 2 * MARGIN) * flame.bytes / all_;
        if (width < NARROWEST) return;
        const double y = bottom_ - ROW * row;
        const std::string told =
            fmt::format("{} ({}, {:.1f} %)", escaped(name),
                        bytes_text(static_cast<u64>(flame.bytes)), 100 * flame.bytes / all_);
        text_ += fmt::format(
            "<g><title>{}</title><rect x=\"{:.1f}\" y=\"{:.0f}\" width=\"{:.1f}\" "
            "height=\"{:.0f}\" fill=\"{}\" "
            "rx=\"2\"/>",
            told, x, y, width, ROW - 1, color_of(name));
        const auto letters = static_cast<size_t>((width - 6) / LETTER);
        if (width > 6 + 3 * LETTER)
            text_ += fmt::format(
                "<text x=\"{:.1f}\" y=\"{:.0f}\">{}</text>", x + 3, y + ROW - 5,
                escaped(name.size() <= letters ? name : name.substr(0, letters - 2) + ".."));
        text_ += "</g>\n";
        for (const auto& [callee, above] : flame.above) {
            draw(callee, above, x, row + 1);
            x += (WIDTH - 2 * MARGIN) * above.bytes / all_;
        }
    }

    std::string take() { return std::move(text_); }

  private:
    double all_, bottom_;
    std::string text_;
};

}  // namespace

std::string flame_graph(const ProfileData& profile, FlameBytes which) {
    Symbols symbols(profile.map);
    Flame root;
    for (const ProfileSite& site : profile.sites) {
        const u64 count = which == FlameBytes::live ? site.made - site.freed : site.made;
        const double bytes = weight_of_sample(site.size, profile.rate) * static_cast<double>(count);
        root.bytes += bytes;
        Flame* at = &root;
        for (size_t i = site.frames.size(); i != 0; --i) {
            at = &at->above[symbols.name_of(site.frames[i - 1] - 1)];
            at->bytes += bytes;
        }
    }
    const u32 rows = height_of(root);
    Drawing drawing(root.bytes > 0 ? root.bytes : 1, rows);
    drawing.draw(which == FlameBytes::live ? "live bytes" : "bytes allocated", root, MARGIN, 0);
    const double height = 2 * MARGIN + ROW * (rows + 2);
    return fmt::format(
               "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
               "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0:.0f}\" height=\"{1:.0f}\" "
               "viewBox=\"0 0 {0:.0f} "
               "{1:.0f}\" font-family=\"monospace\" font-size=\"11\">\n"
               "<rect width=\"100%\" height=\"100%\" fill=\"#fffdf5\"/>\n",
               WIDTH, height) +
           drawing.take() + "</svg>\n";
}

}  // namespace aep
