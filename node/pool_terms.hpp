// Purpose: what a pool's superblock says that all its nodes hold alike: whether it agrees with what
//          somebody asks for, and as people say it.
// Who calls it: whoever opens or makes a pool for a daemon or `aep pool`; their options.
// Crash rule: no state.
#pragma once

#include <string>

#include "dsm-core/pool/format.hpp"

namespace aep {

/// Throws NodeError (EINVAL) that says which term the pool at `path` has otherwise, and what to do.
/// What `wanted` does not say agrees with all.
void require_terms(const std::string& path, const PoolTerms& has, const PoolTerms& wanted);

/// As on a command line. Both throw NodeError (EINVAL): a name that a cluster cannot have; neither
/// yes nor no.
void set_cluster(PoolTerms& terms, const std::string& name);
void set_coherence(PoolTerms& terms, const std::string& word);

/// "lease 3000 ms, cluster shop, coherent"
std::string terms_text(const PoolTerms& terms);

}  // namespace aep
