#pragma once
// A fixture of tests that need a GPU: skipped with a line where there is none, failed where one is demanded.

#include <gtest/gtest.h>

#include <cstdlib>

#include "base/error.h"
#include "ops/cuda_devices.h"

namespace halftone::testing {

class DeviceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    try {
      list_cuda_devices();
    } catch (const Error& error) {
      if (std::getenv("HALFTONE_REQUIRE_GPU") != nullptr) FAIL() << error.what();
      GTEST_SKIP() << "needs a GPU: " << error.what();
    }
  }
};

}  // namespace halftone::testing
