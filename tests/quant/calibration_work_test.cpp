#include "quant/calibration_work.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/file.h"
#include "tests/base/temporary_folder.h"

namespace halftone {
namespace {
namespace fs = std::filesystem;

const fs::path kModel = fs::path(HALFTONE_SOURCE_DIR) / "demo/model";

class CalibrationWorkTest : public ::testing::Test {
 protected:
  CalibrationWork work(std::uint64_t seed = 0) const {
    CalibrateOptions options;
    options.seed = seed;
    return CalibrationWork(folder_ / "w", Checkpoint::open(model_), CalibrationData{}, options);
  }
  std::string error() const {
    try {
      work();
    } catch (const Error& e) {
      return e.what();
    }
    return "no error";
  }
  static std::vector<Tensor> hidden() { return {Tensor::from({1, 2}, {1, 2})}; }

  testing::TemporaryFolder folder_;
  fs::path model_ = kModel;
};

TEST_F(CalibrationWorkTest, GoesOnWhereItWas) {
  work().save_boundary(2, hidden());
  work().save_boundary(3, hidden());
  EXPECT_EQ(work().finished_layers(4), 3);
  EXPECT_FALSE(fs::exists(folder_ / "w" / "boundary-002"));
  const std::vector<Tensor> found = work().load_boundary(3, {{1, 2}});
  EXPECT_EQ(found.at(0).data<float>()[1], 2);
}

TEST_F(CalibrationWorkTest, OtherOptionsStartAnewWhateverWasThere) {
  work(0).save_boundary(2, hidden());
  EXPECT_EQ(work(1).finished_layers(4), std::nullopt);
  EXPECT_EQ(work(0).finished_layers(4), std::nullopt);
}

TEST_F(CalibrationWorkTest, EveryFileThatDecidesWhatTheModelSeesCounts) {
  model_ = folder_ / "model";
  fs::create_directories(model_);
  for (const auto& entry : fs::directory_iterator(kModel)) {
    fs::create_symlink(entry.path(), model_ / entry.path().filename());
  }
  work().save_boundary(2, hidden());
  const std::string preprocessor = read_file(kModel / "preprocessor_config.json");
  fs::remove(model_ / "preprocessor_config.json");
  write_file_atomically(model_ / "preprocessor_config.json", preprocessor + " ");
  EXPECT_EQ(work().finished_layers(4), std::nullopt);
}

TEST_F(CalibrationWorkTest, OneAtATime) {
  const CalibrationWork first = work();
  EXPECT_THAT(error(), ::testing::HasSubstr("another calibration works here"));
}

TEST_F(CalibrationWorkTest, RefusesAFolderOfSomethingElse) {
  fs::create_directories(folder_ / "w");
  write_file_atomically(folder_ / "w" / "thesis.tex", "");
  EXPECT_THAT(error(), ::testing::HasSubstr("found 'thesis.tex' in it"));
}

}  // namespace
}  // namespace halftone
