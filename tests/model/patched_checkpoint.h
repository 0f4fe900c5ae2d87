#pragma once
// A checkpoint folder for a test: the files of another one, with config.json changed.

#include <unistd.h>

#include <filesystem>
#include <functional>
#include <string>

#include "base/file.h"
#include "base/json.h"

namespace halftone::testing {

class PatchedCheckpoint {
 public:
  PatchedCheckpoint(const std::filesystem::path& source, const std::function<void(OrderedJson&)>& edit) {
    static int count = 0;
    folder_ = std::filesystem::temp_directory_path() / fmt::format("halftone_test_{}_{}", getpid(), count++);
    std::filesystem::create_directories(folder_);
    for (const auto& entry : std::filesystem::directory_iterator(source)) {
      if (entry.path().filename() == "config.json") continue;
      std::filesystem::create_symlink(std::filesystem::absolute(entry.path()), folder_ / entry.path().filename());
    }
    OrderedJson config = read_ordered_json(source / "config.json");
    edit(config);
    write_file_atomically(folder_ / "config.json", config.dump(1));
  }
  ~PatchedCheckpoint() {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  PatchedCheckpoint(const PatchedCheckpoint&) = delete;
  PatchedCheckpoint& operator=(const PatchedCheckpoint&) = delete;

  const std::filesystem::path& path() const { return folder_; }

 private:
  std::filesystem::path folder_;
};

}  // namespace halftone::testing
