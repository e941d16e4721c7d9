// Purpose: a node host for fuzz targets: a folder of its own, an image of one line, and silence.
// Who calls it: tests/fuzz/fuzz_*.cpp.
// Crash rule: what a finding leaves is in a folder that ci/fuzz.sh removes.
#pragma once

#include <fcntl.h>
#include <sanitizer/common_interface_defs.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>

#include <image_identity.hpp>
#include "node/host.hpp"

namespace aep::fuzz {

[[noreturn]] inline void broken(const char* what) {
    std::fprintf(stderr, "fuzz: %s\n", what);
    std::abort();
}

/// A folder on tmpfs that goes with its process.
class Folder {
  public:
    explicit Folder(const char* name) {
        const char* in = std::getenv("AEP_FUZZ_DIR");
        path_ = std::string(in != nullptr ? in : "/dev/shm") + "/aep-fuzz-" + name + "-" +
                std::to_string(getpid());
        std::filesystem::create_directory(path_);
        std::filesystem::permissions(path_, std::filesystem::perms::owner_all);
        FILE* image = std::fopen((path_ + "/image").c_str(), "w");
        if (image == nullptr ||
            std::fwrite(FUZZ_IMAGE, 1, sizeof FUZZ_IMAGE, image) != sizeof FUZZ_IMAGE)
            broken("cannot write the image");
        std::fclose(image);
    }
    ~Folder() { std::filesystem::remove_all(path_); }
    Folder(const Folder&) = delete;
    Folder& operator=(const Folder&) = delete;

    NodeOptions options(const std::string& name) const {
        NodeOptions options;
        options.paths = context_paths(name, path_ + "/" + name, path_ + "/" + name + ".socket");
        options.image = path_ + "/image";
        options.pool_bytes = 64 * MiB;
        options.max_clients = 8;
        options.max_slots = 16;
        return options;
    }
    const std::string& path() const { return path_; }

  private:
    std::string path_;
};

inline Log silent() {
    return [](LogLevel, const std::string&) {};
}

/// What the library says to fd 2 is lost as long as this exists; what a sanitizer says is not.
class Quiet {
  public:
    Quiet() : kept_(dup(2)) {
        const int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
        __sanitizer_set_report_fd(reinterpret_cast<void*>(static_cast<long>(kept_)));
        dup2(null, 2);
        close(null);
    }
    ~Quiet() {
        dup2(kept_, 2);
        __sanitizer_set_report_fd(reinterpret_cast<void*>(2L));
        close(kept_);
    }
    Quiet(const Quiet&) = delete;
    Quiet& operator=(const Quiet&) = delete;

  private:
    int kept_;
};

}  // namespace aep::fuzz
