// Other sizes, types and layouts of the same architecture against transformers in f32: uneven heads, an untied head,
// f16 in shards under re-saved names, a tied head stored alone, a sliding window. 1e-4 of each tensor's largest
// magnitude is the project's bound for parity.

#include "tests/model/golden.h"

namespace halftone {
namespace {

using testing::check_case;
using testing::golden_folder;

// (i * 2654435761 mod 2^32) / 2^31 - 1
Tensor synthetic_patches(std::int64_t rows, std::int64_t columns) {
  Tensor patches(DType::kF32, {rows, columns});
  for (std::int64_t i = 0; i < rows * columns; ++i) {
    const auto hashed = static_cast<std::uint32_t>(static_cast<std::uint64_t>(i) * 2654435761u);
    patches.data<float>()[i] = static_cast<float>(hashed / 2147483648.0 - 1);
  }
  return patches;
}

class TinyGolden : public ::testing::TestWithParam<const char*> {};

TEST_P(TinyGolden, EveryLayerMatchesTransformers) {
  const Json goldens = read_json(golden_folder() / "engine_tiny.json");
  for (const Json& golden : goldens["cases"]) {
    if (golden["folder"] != GetParam()) continue;
    const Checkpoint checkpoint = Checkpoint::open(golden_folder() / GetParam());
    const Model model = Model::load(checkpoint, {}, default_stream());
    std::int64_t rows = 0;
    for (const PictureGrid& grid : testing::grids_of(golden)) rows += grid.patches();
    check_case(model, golden, synthetic_patches(rows, model.config().vision.columns()), 1e-4);
    return;
  }
  FAIL() << "no golden of " << GetParam();
}

INSTANTIATE_TEST_SUITE_P(Folders, TinyGolden, ::testing::Values("tiny_untied_f16", "tiny_tied_f32", "tiny_mha_bf16"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace halftone
