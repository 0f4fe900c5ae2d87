// Tokens drawn on the device are those that the CPU draws.
#include "backend/cuda/token_chooser.h"

#include <cmath>

#include "backend/cuda/device/end_step.h"
#include "backend/cuda/upload.h"
#include "tests/backend/cuda/paged_cache.h"
#include "tests/ops/linear_cases.h"

namespace halftone {
namespace {

using testing::DeviceIntegers;
using testing::DeviceRows;

class CudaTokenChooser : public testing::DeviceOpsTest {};

// [rows, cols]: steep rows and flat ones, with equals.
Tensor some_logits(std::int64_t rows, std::int64_t cols) {
  Tensor logits = testing::random_input(rows, cols, 3);
  float* x = logits.data<float>();
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < cols; ++c, ++x) *x = r % 2 == 0 ? std::round(*x * 40) / 4 : *x * static_cast<float>(r);
  }
  return logits;
}

TEST_F(CudaTokenChooser, DrawsTheTokensOfTheCpu) {
  constexpr std::int64_t kRows = 7;
  for (const std::int64_t cols : {std::int64_t{5}, std::int64_t{20011}, std::int64_t{151936}}) {
    const Tensor logits = some_logits(kRows, cols);
    const DeviceRows device_logits(DType::kF32, logits, 3);
    std::vector<TokenDraw> draws = {{},
                                    {draw_keys_per_logit(1.0), 1, 0, 1},
                                    {draw_keys_per_logit(0.7), 1, 50, 2},
                                    {draw_keys_per_logit(2.0), 0.9, 0, 3},
                                    {draw_keys_per_logit(1.5), 0.95, 1000, 4},
                                    {draw_keys_per_logit(1e-9), 1, 0, 5},
                                    {draw_keys_per_logit(1e9), 0.5, cols, 6}};
    cuda::DeviceArena arena("test", cuda::TokenChooser::bytes(kRows));
    cuda::TokenChooser chooser(kRows, arena, *stream_);
    chooser.load(draws, *stream_);
    const DeviceIntegers tokens(std::vector<std::int32_t>(kRows, 7));
    DeviceRows gaps(DType::kF32, 1, kRows);
    for (int step = 0; step < 5; ++step) {
      chooser.start({device_logits.matrix(), tokens.data(), static_cast<float*>(gaps.matrix().data)}, launch());
      stream_->synchronize();
      const std::vector<std::int32_t> drawn = tokens.read(kRows);
      for (std::size_t r = 0; r < kRows; ++r) {
        const std::span row(logits.data<float>() + static_cast<std::int64_t>(r) * cols, static_cast<std::size_t>(cols));
        const auto best = static_cast<std::int32_t>(std::max_element(row.begin(), row.end()) - row.begin());
        EXPECT_EQ(drawn[r], draws[r].greedy() ? best : draw_token(row, best, draws[r])) << cols << " row " << r;
        draws[r] = draws[r].next();
      }
    }
  }
}

// Nothing is drawn from a row that is not finite, and the rows beside it are drawn.
TEST_F(CudaTokenChooser, ShowsWhatIsNotFinite) {
  Tensor logits = some_logits(2, 5000);
  logits.data<float>()[4321] = std::nanf("");
  const DeviceRows device_logits(DType::kF32, logits);
  const std::vector<TokenDraw> draws(2, TokenDraw{draw_keys_per_logit(1.0), 0.9, 100, 1});
  cuda::DeviceArena arena("test", cuda::TokenChooser::bytes(2));
  cuda::TokenChooser chooser(2, arena, *stream_);
  chooser.load(draws, *stream_);
  const DeviceIntegers tokens({7, 7});
  DeviceRows gaps(DType::kF32, 1, 2);
  chooser.start({device_logits.matrix(), tokens.data(), static_cast<float*>(gaps.matrix().data)}, launch());
  stream_->synchronize();
  const std::span row(logits.data<float>() + 5000, 5000);
  const auto best = static_cast<std::int32_t>(std::max_element(row.begin(), row.end()) - row.begin());
  EXPECT_EQ(tokens.read(2), (std::vector<std::int32_t>{-1, draw_token(row, best, draws[1])}));
}

// Sequences end on the device where TokenLimit says so, and stay ended.
TEST_F(CudaTokenChooser, EndsSequencesWhereTheHostDoes) {
  constexpr std::size_t kRows = 67, kSteps = 4;
  const std::vector<std::int32_t> stops = {5, 151643};
  std::vector<TokenLimit> limits;
  std::vector<std::int32_t> lengths, positions;
  for (std::size_t r = 0; r < kRows; ++r) {
    limits.push_back({static_cast<std::int32_t>(r % 5 + 1), r % 2 == 0});
    lengths.push_back(r % 11 == 10 ? 0 : static_cast<std::int32_t>(r + 1));
    positions.push_back(static_cast<std::int32_t>(2 * r));
  }
  std::vector<std::int32_t> ended(kRows, 7);
  const DeviceIntegers device_stops(stops), device_lengths(lengths), device_positions(positions), device_ended(ended);
  cuda::DeviceArena arena("test", kRows * sizeof(TokenLimit));
  auto* device_limits = arena.allocate<TokenLimit>(kRows);
  cuda::copy_to_device<TokenLimit>(device_limits, limits, *stream_, "test");
  for (std::size_t step = 0; step < kSteps; ++step) {
    std::vector<std::int32_t> tokens;
    for (std::size_t r = 0; r < kRows; ++r)
      tokens.push_back(r % 3 == step ? stops[r % 2] : static_cast<std::int32_t>(r + 6));
    const DeviceIntegers device_tokens(tokens);
    cuda::start_end_step({device_tokens.data(), device_stops.data(), device_limits, device_lengths.data(),
                          device_positions.data(), device_ended.data(), static_cast<int>(kRows), 2},
                         launch());
    stream_->synchronize();
    for (std::size_t r = 0; r < kRows; ++r) {
      if (lengths[r] == 0) continue;
      const bool ends = limits[r].ends_with(tokens[r], stops);
      limits[r] = limits[r].next();
      lengths[r] = ends ? 0 : lengths[r] + 1;
      positions[r] += ends ? 0 : 1;
      ended[r] = ends ? 1 : 0;
    }
    EXPECT_EQ(device_lengths.read(kRows), lengths) << step;
    EXPECT_EQ(device_positions.read(kRows), positions) << step;
    EXPECT_EQ(device_ended.read(kRows), ended) << step;
  }
  EXPECT_GT(std::ranges::count(ended, 0), 0);
  EXPECT_EQ(std::ranges::count(ended, 7), kRows / 11);
}

}  // namespace
}  // namespace halftone
