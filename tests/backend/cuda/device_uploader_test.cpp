// What goes to the device by pieces lies there as it was.
#include "backend/cuda/device_uploader.h"

#include <cstring>
#include <numeric>

#include "backend/cuda/linear_weight.h"
#include "tests/backend/cuda/device_rows.h"
#include "tests/ops/linear_cases.h"

namespace halftone {
namespace {

constexpr std::size_t kPiece = 4096;

class CudaUploader : public testing::DeviceOpsTest {
 protected:
  static std::vector<std::uint8_t> some_bytes(std::size_t count) {
    std::vector<std::uint8_t> bytes(count);
    for (std::size_t i = 0; i < count; ++i) bytes[i] = static_cast<std::uint8_t>(i * 37 + i / 251 + 1);
    return bytes;
  }

  // What lies at `data` once the stream has passed.
  std::vector<std::uint8_t> read(const void* data, std::size_t bytes) const {
    std::vector<std::uint8_t> out(bytes);
    stream_->synchronize();
    cuda::check(cudaMemcpy(out.data(), data, bytes, cudaMemcpyDeviceToHost), "test");
    return out;
  }

  // `bytes` bytes of 0xff and the arena that holds them.
  char* take(std::size_t bytes) {
    arena_.emplace("test", bytes);
    auto* data = static_cast<char*>(arena_->allocate(bytes));
    cuda::check(cudaMemset(data, 0xff, bytes), "test");
    testing::finish_filling();
    return data;
  }

  std::optional<cuda::DeviceArena> arena_;
};

TEST_F(CudaUploader, CopiesWhateverFitsIntoPieces) {
  for (const int threads : {1, 3}) {
    cuda::DeviceUploader uploader(*stream_, threads, kPiece);
    std::int64_t sum = 0;
    // the last is many times what the pinned memory holds
    for (const std::size_t size :
         {std::size_t{0}, std::size_t{1}, kPiece - 1, kPiece, 3 * kPiece + 5, 64 * kPiece + 17}) {
      const std::vector<std::uint8_t> bytes = some_bytes(size);
      char* target = take(size + 1);
      uploader.copy(target, bytes.data(), size);
      std::vector<std::uint8_t> expected = bytes;
      expected.push_back(0xff);
      EXPECT_EQ(read(target, size + 1), expected) << size << " bytes, " << threads << " threads";
      sum += static_cast<std::int64_t>(size);
    }
    EXPECT_EQ(uploader.bytes(), sum);
  }
}

TEST_F(CudaUploader, FillsRowsWithZeros) {
  struct Case {
    std::size_t width, pitch;
    std::int64_t rows;
  };
  for (const Case& shape : {Case{7, 16, 1000}, Case{16, 16, 999}, Case{kPiece + 3, kPiece + 16, 5}, Case{0, 16, 3}}) {
    cuda::DeviceUploader uploader(*stream_, 3, kPiece);
    const auto rows = static_cast<std::size_t>(shape.rows);
    const std::vector<std::uint8_t> bytes = some_bytes(shape.width * rows);
    char* target = take(shape.pitch * rows);
    uploader.copy_rows(target, shape.pitch, bytes.data(), shape.width, shape.rows);
    std::vector<std::uint8_t> expected(shape.pitch * rows);
    for (std::size_t row = 0; row < rows && shape.width > 0; ++row) {
      std::memcpy(&expected[row * shape.pitch], &bytes[row * shape.width], shape.width);
    }
    EXPECT_EQ(read(target, expected.size()), expected) << shape.width << " of " << shape.pitch;
  }
}

TEST_F(CudaUploader, ShowsEveryByteToWhoInspects) {
  cuda::DeviceUploader uploader(*stream_, 3, kPiece);
  const std::vector<std::uint8_t> bytes = some_bytes(20 * kPiece + 1);
  char* target = take(bytes.size());
  std::atomic<std::int64_t> sum{0};
  uploader.copy(target, bytes.data(), bytes.size(), [&](std::span<const std::uint8_t> piece) {
    sum += std::accumulate(piece.begin(), piece.end(), std::int64_t{0});
  });
  EXPECT_EQ(sum, std::accumulate(bytes.begin(), bytes.end(), std::int64_t{0}));
  EXPECT_THROW(
      uploader.copy(target, bytes.data(), bytes.size(), [](std::span<const std::uint8_t>) { fail("test", "refused"); }),
      Error);
  // and goes on
  uploader.copy(target, bytes.data(), bytes.size());
  EXPECT_EQ(read(target, bytes.size()), bytes);
}

TEST_F(CudaUploader, TakesTensorsAndKeepsScratchMemory) {
  cuda::DeviceUploader uploader(*stream_, 2, kPiece);
  cuda::DeviceArena arena = cuda::DeviceArena::growing("test", cuda::DeviceArena::kAlignment);
  EXPECT_EQ(uploader.upload(Tensor(), arena), nullptr);
  const Tensor values = Tensor::from({1, 2, 3}, {3});
  const auto expected = read(uploader.upload_floats(values, arena), 12);
  EXPECT_EQ(std::memcmp(expected.data(), values.raw(), 12), 0);
  EXPECT_THROW(uploader.upload_floats(from_f32(values, DType::kBF16), arena), Error);
  void* scratch = uploader.scratch(1000);
  EXPECT_EQ(uploader.scratch(10), scratch);
  EXPECT_NE(uploader.scratch(std::size_t{1} << 20), nullptr);
}

TEST_F(CudaUploader, NamesTheWeightThatHoldsANaN) {
  const testing::LinearFormat e4m3{"e4m3", {Element::kE4M3, Granularity::kTensor, 0}, DType::kF32, 1.0f, {}};
  std::vector<QTensor> parts = {testing::random_weight(e4m3, 8, 16, 1), testing::random_weight(e4m3, 24, 16, 2)};
  const std::vector<Tensor> biases(2);
  const std::vector<std::string> names = {"q_proj", "k_proj"};
  parts[1].payload.bits<std::uint8_t>()[300] = 0xff;
  cuda::DeviceUploader uploader(*stream_, 2, kPiece);
  cuda::DeviceArena arena = cuda::DeviceArena::growing("test", cuda::DeviceArena::kAlignment);
  const auto error_of = [&](std::span<const std::string> given) -> std::string {
    try {
      cuda::upload_linear({parts, biases, {}}, arena, uploader, nullptr, given);
    } catch (const Error& error) {
      return error.what();
    }
    return "none";
  };
  EXPECT_EQ(error_of(names), "[k_proj] expected finite weights, found NaN");
  EXPECT_EQ(error_of({}), "[cuda linear] expected finite weights, found NaN");
}

}  // namespace
}  // namespace halftone
