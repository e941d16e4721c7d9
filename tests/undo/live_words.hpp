// Purpose: what the tables of sharing say, and nothing else: every word that an operation or a walk
//          may read, by its address. Two contexts with the same words are the same to everybody.
// Who calls it: tests/undo.
// Crash rule: reads only.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "dsm-core/sharing/records.hpp"

namespace aep::test {

/// In the order of their addresses.
using Words = std::vector<std::pair<uptr, u64>>;

/// All live words of the context's sharing, of the owners of chunks, and (`pool`) of the tables
/// between nodes without hints and records of lanes that are at rest.
Words live_words(bool pool);

/// The words of records that are nobody's: which client has them at hand is no difference to anybody, so they are none of
/// the above; but they are changed as those are.
Words supply_words();

/// What is different; empty: nothing.
std::string difference(const Words& a, const Words& b);

/// Where an address lies, for people.
std::string place_of(uptr address);

}  // namespace aep::test
