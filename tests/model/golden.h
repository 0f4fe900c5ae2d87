#pragma once
// Outputs of transformers, layer by layer, as tests/golden/make_engine_golden.py keeps them.

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>
#include <string>

#include "base/json.h"
#include "model/model.h"

namespace halftone::testing {

inline std::filesystem::path golden_folder() { return std::filesystem::path(HALFTONE_SOURCE_DIR) / "tests/golden"; }

inline std::vector<PictureGrid> grids_of(const Json& golden) {
  std::vector<PictureGrid> grids;
  for (const Json& grid : golden["grids"]) grids.push_back({grid[0], grid[1], grid[2]});
  return grids;
}

// Compares each output of a running model with the golden's: shape, largest magnitude, and values at k * n / count, all
// within `tolerance` of the largest magnitude.
class GoldenObserver final : public ModelObserver {
 public:
  GoldenObserver(const Json& outputs, double tolerance) : outputs_(outputs), tolerance_(tolerance) {}

  void on_output(std::string_view module, const Tensor& y) override {
    if (module == "model.embed_tokens") return;  // the rows that the decoder starts from: no layer of its own
    const std::string name(module);
    ASSERT_TRUE(outputs_.contains(name)) << name;
    seen_.insert(name);
    const Json& golden = outputs_[name];
    ASSERT_EQ(golden["shape"].get<Shape>(), y.shape()) << name;
    const auto values = golden["values"].get<std::vector<double>>();
    const double largest = golden["largest"], limit = tolerance_ * largest;
    double found = 0;
    for (std::int64_t i = 0; i < y.numel(); ++i)
      found = std::max(found, std::fabs(static_cast<double>(y.data<float>()[i])));
    EXPECT_NEAR(found, largest, limit) << name << ": largest magnitude";
    const auto count = static_cast<std::int64_t>(values.size());
    for (std::int64_t k = 0; k < count; ++k) {
      const std::int64_t place = k * y.numel() / count;
      EXPECT_NEAR(y.data<float>()[place], values[static_cast<std::size_t>(k)], limit) << name << " at " << place;
      worst_ = std::max(worst_, std::fabs(y.data<float>()[place] - values[static_cast<std::size_t>(k)]) / largest);
    }
  }

  void expect_all_seen() const {
    for (const auto& [name, value] : outputs_.items()) EXPECT_TRUE(seen_.contains(name)) << name;
    EXPECT_FALSE(seen_.empty());
  }
  // Largest difference so far, as a share of its tensor's largest magnitude.
  double worst() const { return worst_; }

 private:
  const Json& outputs_;
  double tolerance_, worst_ = 0;
  std::set<std::string> seen_;
};

// Runs one golden case from its patches on and checks every layer.
inline void check_case(const Model& model, const Json& golden, const Tensor& patches, double tolerance) {
  const ModelConfig& config = model.config();
  const auto tokens = golden["tokens"].get<std::vector<std::int32_t>>();
  const std::vector<PictureGrid> grids = grids_of(golden);
  Workspace workspace;
  GoldenObserver observer(golden["outputs"], tolerance);
  const RunContext run{default_stream(), workspace, &observer};
  const Tensor pictures = grids.empty() ? Tensor() : model.encode_pictures(patches, grids, run);
  const Positions positions = mrope_positions(tokens, config.picture_token, grids, config.vision.merge_size);
  ASSERT_EQ(positions.values.size(), golden["positions"].size());
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const Json& expected = golden["positions"][i];
    EXPECT_EQ(positions.values[i], (Position{expected[0], expected[1], expected[2]})) << i;
  }
  EXPECT_EQ(positions.next, golden["next_position"].get<std::int32_t>());
  PlainKvCache cache(config.decoder.layers, config.decoder.kv_heads, config.decoder.head_dim);
  const SequenceSlice slice{&cache, positions.values};
  Tensor hidden = model.embed(tokens, pictures);
  model.forward({&slice, 1}, hidden, run);
  model.logits(hidden, run);
  observer.expect_all_seen();
  ::testing::Test::RecordProperty("worst_share", std::to_string(observer.worst()));
}

}  // namespace halftone::testing
