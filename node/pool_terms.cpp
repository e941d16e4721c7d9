// Purpose: see pool_terms.hpp.
// Who calls it: see pool_terms.hpp.
// Crash rule: no state.
#include "node/pool_terms.hpp"

#include <errno.h>
#include <fmt/format.h>

#include "dsm-core/pool/superblock.hpp"
#include "node/node_error.hpp"

namespace aep {
namespace {

[[noreturn]] void disagree(const std::string& path, const std::string& has,
                           const std::string& wanted) {
    throw NodeError(EINVAL,
                    fmt::format("pool {}: {}, and not {}: all its nodes hold that alike; "
                                "leave the option out, or make a new pool (aep pool create)",
                                path, has, wanted));
}

const char* word_of(Coherence coherence) { return coherence == Coherence::no ? "no" : "yes"; }

}  // namespace

void require_terms(const std::string& path, const PoolTerms& has, const PoolTerms& wanted) {
    if (wanted.lease_ms != 0 && wanted.lease_ms != has.lease_ms) {
        disagree(path, fmt::format("its lease is {} ms", has.lease_ms),
                 fmt::format("--lease-ms {}", wanted.lease_ms));
    }
    const std::string cluster = has.cluster, other = wanted.cluster;
    if (!other.empty() && other != cluster) {
        disagree(path, cluster.empty() ? "it is of no cluster" : "it is of cluster " + cluster,
                 "--cluster " + other);
    }
    if (wanted.coherent != Coherence::unsaid && wanted.coherent != has.coherent) {
        disagree(path, fmt::format("it was made with --coherent {}", word_of(has.coherent)),
                 fmt::format("--coherent {}", word_of(wanted.coherent)));
    }
}

void set_cluster(PoolTerms& terms, const std::string& name) {
    if (!name.empty() && name_cluster(terms, name.c_str())) return;
    throw NodeError(EINVAL,
                    fmt::format("--cluster '{}': expected 1 to {} letters, digits, '.', '_' "
                                "or '-'",
                                name, sizeof terms.cluster - 1));
}

void set_coherence(PoolTerms& terms, const std::string& word) {
    if (word != "yes" && word != "no")
        throw NodeError(EINVAL, fmt::format("--coherent '{}': expected yes or no", word));
    terms.coherent = word == "yes" ? Coherence::yes : Coherence::no;
}

std::string terms_text(const PoolTerms& terms) {
    const std::string cluster = terms.cluster;
    return fmt::format("lease {} ms, {}, caches {}coherent", terms.lease_ms,
                       cluster.empty() ? "no cluster" : "cluster " + cluster,
                       terms.coherent == Coherence::no ? "not " : "");
}

}  // namespace aep
