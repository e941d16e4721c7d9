// Purpose: a folder for sockets, short enough for their names, that goes with its owner.
// Who calls it: zeromq.hpp, redis.hpp.
// Crash rule: of a launcher that is killed it stays.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>

#include "apps/common/failure.hpp"

namespace aep::apps {

class TemporaryFolder {
  public:
    /// `what`: a part of its name.
    explicit TemporaryFolder(const std::string& what) : path_("/tmp/aep-" + what + "-XXXXXX") {
        expect(mkdtemp(path_.data()) != nullptr, "no folder for sockets");
    }
    TemporaryFolder(const TemporaryFolder&) = delete;
    TemporaryFolder& operator=(const TemporaryFolder&) = delete;
    ~TemporaryFolder() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    const std::string& path() const { return path_; }

  private:
    std::string path_;
};

}  // namespace aep::apps
