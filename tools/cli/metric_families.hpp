// Purpose: what the daemon says, as families of metrics: names, help, types, labels.
// Who calls it: cli/metrics.cpp.
// Crash rule: none needed.
#pragma once

#include <prometheus/metric_family.h>

#include <string>
#include <vector>

#include "tools/cli/daemon_client.hpp"

namespace aep {

/// Of the daemon's answer to `top`; null: it does not answer, and that alone is told (aep_up 0). Each has the label
/// `context`.
std::vector<prometheus::MetricFamily> metric_families(const std::string& context,
                                                      const Json& answer);

}  // namespace aep
