// Purpose: the heap profile as text, which jeprof, google-pprof and `go tool pprof` read: a line of totals, one for each
//          site with what lives and what was ever made there, and the process's map.
// Who calls it: profile_file.cpp for its own process, tools/cli/profile.cpp for another one.
// Crash rule: no state.
#pragma once

#include "shim/watch/samples.hpp"

namespace aep {

/// Counts and bytes of samples, as they were noted: readers scale them by the rate, which the first line names.
struct SampleSum {
    u64 live_count = 0, live_bytes = 0, made_count = 0, made_bytes = 0;
    void add(u64 size, u64 made, u64 freed) {
        // Counted apart, and read one after the other.
        const u64 live = made > freed ? made - freed : 0;
        live_count += live;
        live_bytes += live * size;
        made_count += made;
        made_bytes += made * size;
    }
};

/// Text goes to `out`, which has add(const char*), add(u64) in decimal digits and add(Hex); add_map() adds the
/// lines of /proc/PID/maps. `for_each_site(f)` calls f(size, made, freed, frames, depth) for each site, twice the same.
template <class Out, class Sites, class Map>
void write_profile(Out& out, u64 rate, const Sites& for_each_site, const Map& add_map) {
    const auto add_sum = [&](const SampleSum& sum) {
        out.add(sum.live_count);
        out.add(": ");
        out.add(sum.live_bytes);
        out.add(" [");
        out.add(sum.made_count);
        out.add(": ");
        out.add(sum.made_bytes);
        out.add("] @");
    };
    SampleSum total;
    for_each_site(
        [&](u64 size, u64 made, u64 freed, const u64*, u32) { total.add(size, made, freed); });
    out.add("heap profile: ");
    add_sum(total);
    out.add(" heap_v2/");
    out.add(rate);
    out.add("\n");
    for_each_site([&](u64 size, u64 made, u64 freed, const u64* frames, u32 depth) {
        SampleSum site;
        site.add(size, made, freed);
        if (made == 0) return;
        add_sum(site);
        for (u32 i = 0; i < depth; ++i) {
            out.add(" ");
            out.add(Hex{frames[i]});
        }
        out.add("\n");
    });
    out.add("\nMAPPED_LIBRARIES:\n");
    add_map();
}

}  // namespace aep
