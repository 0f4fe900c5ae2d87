#pragma once
// Small data sets in a temporary folder.

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "base/error.h"

namespace halftone {

class DataTest : public testing::Test {
 protected:
  DataTest() {
    const auto* info = testing::UnitTest::GetInstance()->current_test_info();
    root_ = std::filesystem::temp_directory_path() / ("halftone_data_" + std::string(info->test_suite_name()) + "_" +
                                                      info->name() + "_" + std::to_string(getpid()));
    std::filesystem::create_directories(root_);
  }
  ~DataTest() override { std::filesystem::remove_all(root_); }

  // Readers only look whether a picture exists.
  void write(const std::string& name, const std::string& content = "picture") {
    std::filesystem::create_directories((root_ / name).parent_path());
    std::ofstream(root_ / name, std::ios::binary) << content;
  }

  std::filesystem::path root_;
};

template <typename Call>
std::string error_of(Call call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  ADD_FAILURE() << "expected an Error";
  return "";
}

}  // namespace halftone
