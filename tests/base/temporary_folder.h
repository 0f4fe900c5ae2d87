#pragma once
// A folder that vanishes.

#include <unistd.h>

#include <filesystem>
#include <string>

#include "base/error.h"

namespace halftone::testing {

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "halftone-XXXXXX").string();
    require(mkdtemp(name.data()) != nullptr, "test", "cannot make a folder");
    path_ = name;
  }
  ~TemporaryFolder() {
    std::error_code error;
    std::filesystem::remove_all(path_, error);
  }
  std::filesystem::path operator/(const char* name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

}  // namespace halftone::testing
