// Statistics files as the oracles write them, and files that do not fit the checkpoint.
#include "quant/statistics_file.h"

#include <gmock/gmock.h>
#include <unistd.h>

#include "hf/safetensors_writer.h"

namespace halftone {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

const std::string kModule = "model.layers.0.mlp.up_proj";
constexpr std::int64_t kInputs = 40;

class StatisticsFile : public testing::Test {
 protected:
  StatisticsFile() : root_(fs::path(testing::TempDir()) / fmt::format("halftone_statistics_{}", ::getpid())) {
    fs::create_directories(root_);
    tensors_["input.absmax"] = filled({kInputs}, 2);
    tensors_["input.rows"] = filled({3, kInputs}, -1);
  }
  ~StatisticsFile() override { fs::remove_all(root_); }

  static Tensor filled(const Shape& shape, float value) {
    return Tensor::from(std::vector<float>(static_cast<std::size_t>(count_elements(shape)), value), shape);
  }
  Calibration read() {
    std::vector<TensorToWrite> list;
    for (const auto& [part, tensor] : tensors_) list.push_back(tensor_to_write(kModule + "." + part, tensor));
    fs::remove(root_ / "model.safetensors");
    write_safetensors(root_, list);
    return read_statistics(root_ / "model.safetensors",
                           Checkpoint::open(fs::path(HALFTONE_SOURCE_DIR) / "tests/golden/tiny_tied_f32"));
  }
  std::string error() {
    try {
      read();
    } catch (const Error& e) {
      return e.what();
    }
    return "no error";
  }

  fs::path root_;
  std::map<std::string, Tensor> tensors_;  // by part
};

TEST_F(StatisticsFile, HoldsWhatTheToolMeasuredAndChose) {
  tensors_["input.clip_rows"] = filled({3, kInputs}, -0.5f);
  tensors_["input.awq_scale"] = filled({kInputs}, 1.25f);
  const Calibration calibration = read();
  const InputStatistics& inputs = *calibration.inputs.at(kModule);
  EXPECT_EQ(inputs.absmax, std::vector<float>(kInputs, 2.0f));
  EXPECT_EQ(inputs.clip_rows.shape(), (Shape{3, kInputs}));
  EXPECT_EQ(inputs.clip_rows.data<float>()[0], -0.5f);
  EXPECT_EQ(calibration.awq_scale.at(kModule), std::vector<float>(kInputs, 1.25f));
}

TEST_F(StatisticsFile, NamesWhatDoesNotFit) {
  const auto with = [&](const std::string& part, const Tensor& tensor) {
    const auto before = tensors_;
    tensors_[part] = tensor;
    const std::string message = error();
    tensors_ = before;
    return message;
  };
  EXPECT_THAT(with("input.clip_rows", filled({2, kInputs}, 1)),
              HasSubstr("up_proj.input.clip_rows': expected the shape of '" + kModule + ".input.rows'"));
  EXPECT_THAT(with("input.clip_rows", filled({3, 7}, 1)), HasSubstr("expected shape [rows, 40], found [3, 7]"));
  EXPECT_THAT(with("input.awq_scale", filled({kInputs}, 0)),
              HasSubstr("up_proj.input.awq_scale': expected scales above 0, found 0"));
  EXPECT_THAT(with("input.awq_scale", filled({3}, 1)), HasSubstr("expected shape [40], found [3]"));
  EXPECT_THAT(with("input.absmax", filled({kInputs}, -1)), HasSubstr("expected finite numbers of 0 or more, found -1"));
  EXPECT_THAT(with("input.magic", filled({kInputs}, 1)), HasSubstr("found 'input.magic'"));
}

}  // namespace
}  // namespace halftone
