// How E2M1 codes and their scales lie for Blackwell's products, and that both follow from inputs: on the host, and the kernels
// that pack them on any device. The products themselves need a Blackwell.
#include "backend/cuda/device/fp4_blocks.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <set>
#include <vector>

#include "backend/cuda/device/fp4_products.h"
#include "backend/cuda/linear_arguments.h"
#include "base/random.h"
#include "formats/block_scales.h"
#include "ops/linear.h"
#include "tests/backend/cuda/device_rows.h"
#include "tests/ops/linear_cases.h"

namespace halftone {
namespace {

namespace fp4 = cuda::fp4;

// cuBLAS 13: offset = (outer % 32) * 16 + (outer / 32) * 4 + inner in a tile of 128 x 4, and the tile at (outer, inner) begins
// at (inner + outer * count) * 128, outer in tiles.
TEST(Fp4Blocks, ScalesLieInTheLibrarysTiles) {
  for (const std::int64_t rows : {1, 128, 300}) {
    for (const std::int64_t count : {1, 4, 6, 96}) {
      const std::int64_t whole = (count + 3) / 4 * 4;
      std::set<std::int64_t> places;
      for (std::int64_t row = 0; row < rows; ++row) {
        for (std::int64_t scale = 0; scale < count; ++scale) {
          const std::int64_t outer = row % 128, inner = scale % 4;
          const std::int64_t wanted =
              (scale - inner + row / 128 * whole) * 128 + outer % 32 * 16 + outer / 32 * 4 + inner;
          EXPECT_EQ(fp4::scale_place(row, scale, count), wanted);
          places.insert(wanted);
        }
      }
      EXPECT_EQ(std::ssize(places), rows * count);
      EXPECT_LT(*places.rbegin(), fp4::scale_bytes(rows, count));
      EXPECT_EQ(fp4::scale_bytes(rows, count), (rows + 127) / 128 * 128 * whole);
    }
  }
}

TEST(Fp4Blocks, CodesOfTilesBecomeAscending) {
  Random random(1);
  for (int round = 0; round < 1000; ++round) {
    std::uint32_t word = 0, wanted = 0;
    for (int i = 0; i < 8; ++i) {
      const auto code = static_cast<std::uint32_t>(random.below(16));
      word |= code << (i / 2 * 4 + i % 2 * 16);
      wanted |= code << (4 * i);
    }
    EXPECT_EQ(fp4::ascending(word), wanted);
  }
}

// Every input that the quantization of inputs makes, by both rules, of all sizes of blocks, is a code times a scale again.
TEST(Fp4Blocks, CodesAndScalesFollowFromInputs) {
  using enum InputQuant::Kind;
  Random random(3);
  for (const InputQuant& input : {InputQuant{kDynamicNvfp4, 0.0011f}, InputQuant{kDynamicNvfp4, 900.0f, true},
                                  InputQuant{kDynamicMxfp4}, InputQuant{kDynamicMxfp4, 1.0f, true}}) {
    const bool mx = input.kind == kDynamicMxfp4;
    const int count = mx ? 32 : 16;
    for (int round = 0; round < 20000; ++round) {
      Tensor x(DType::kF32, {1, count}), values(DType::kF32, {1, count}), second(DType::kF32, {1});
      const auto size =
          static_cast<float>(std::exp2(-24 + 34 * random.uniform()));  // below NVFP4's least scale, above its most
      for (int i = 0; i < count; ++i) {
        x.data<float>()[i] = bf16::round(size * testing::random_value(random) * (random.below(4) ? 1.0f : 0.1f));
      }
      quantize_input_reference(x, input, values, second);
      const std::uint8_t scale = fp4::scale_of_block(values.data<float>(), count, mx);
      const float step = mx ? e8m0::decode(scale) : e4m3::decode(scale);
      for (int begin = 0; begin < count; begin += 8) {
        const std::uint32_t codes = fp4::codes_of_block(values.data<float>() + begin, scale, mx);
        for (int i = 0; i < 8; ++i) {
          const float value = e2m1::decode(static_cast<std::uint8_t>(codes >> (4 * i))) * step;
          ASSERT_EQ(value, values.data<float>()[begin + i])
              << "kind " << static_cast<int>(input.kind) << ", size " << size;
        }
      }
    }
  }
}

TEST(Fp4Blocks, BlocksThatAreNotFiniteHaveNoScale) {
  std::vector<float> x(32, 1.0f);
  x[17] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(fp4::scale_of_block(x.data(), 32, true), e8m0::kNan);
  EXPECT_EQ(fp4::codes_of_block(x.data() + 16, e8m0::kNan, true), 0u);
  std::fill(x.begin(), x.end(), 0.0f);
  EXPECT_EQ(fp4::scale_of_block(x.data(), 16, false), 0);
  EXPECT_EQ(fp4::codes_of_block(x.data(), 0, false), 0u);
}

// A warp's registers for one mma.m16n8k64, and what the PTX ISA says that they are: element i of A's 32 four-bit elements in a
// lane is row groupID, or groupID + 8 where i is in 8 .. 15 or 24 .. 31, and column (threadID_in_group * 8) + (i & 7), 32 more
// from i = 16 on; of B's 16 it is row (threadID_in_group * 8) + (i & 7), 32 more from i = 8 on, and column groupID; C's c0 and c1
// are row groupID, c2 and c3 eight rows on, column threadID_in_group * 2 + (i & 1). Scales of two blocks, selectors 0: row m of
// A's in lane 4 (m % 8) + m / 8, column n of B's in lane 4 n.
struct Warp {
  std::array<std::array<std::uint32_t, 4>, 32> a{};
  std::array<std::array<std::uint32_t, 2>, 32> b{};
  std::array<std::uint32_t, 32> a_scales{}, b_scales{};
};

std::vector<float> multiply_as_ptx_says(const Warp& warp) {
  std::vector<float> a(16 * 64), b(64 * 8), d(16 * 8);
  for (int lane = 0; lane < 32; ++lane) {
    const int group = lane >> 2, thread = lane % 4;
    const auto put = [&](std::uint32_t word, int i) {
      return e2m1::decode(static_cast<std::uint8_t>(word >> (i % 8 * 4)));
    };
    for (int i = 0; i < 32; ++i) {
      const bool upper = (i >= 8 && i < 16) || i >= 24;
      const int row = group + (upper ? 8 : 0), col = thread * 8 + (i & 7) + (i >= 16 ? 32 : 0);
      a[static_cast<std::size_t>(row * 64 + col)] =
          put(warp.a[static_cast<std::size_t>(lane)][static_cast<std::size_t>(i / 8)], i);
    }
    for (int i = 0; i < 16; ++i) {
      const int row = thread * 8 + (i & 7) + (i >= 8 ? 32 : 0);
      b[static_cast<std::size_t>(row * 8 + group)] =
          put(warp.b[static_cast<std::size_t>(lane)][static_cast<std::size_t>(i / 8)], i);
    }
  }
  for (int m = 0; m < 16; ++m) {
    for (int n = 0; n < 8; ++n) {
      for (int k = 0; k < 64; ++k) {
        const auto scale = [&](std::uint32_t word) {
          return e8m0::decode(static_cast<std::uint8_t>(word >> (k / 32 * 8)));
        };
        const auto a_lane = static_cast<std::size_t>(4 * (m % 8) + m / 8), b_lane = static_cast<std::size_t>(4 * n);
        d[static_cast<std::size_t>(m * 8 + n)] += a[static_cast<std::size_t>(m * 64 + k)] *
                                                  b[static_cast<std::size_t>(k * 8 + n)] *
                                                  scale(warp.a_scales[a_lane]) * scale(warp.b_scales[b_lane]);
      }
    }
  }
  return d;
}

TEST(Fp4Blocks, RegistersOfAWarpAreThoseOfTheInstruction) {
  Random random(5);
  std::vector<std::uint8_t> x(16 * 64), w(8 * 64), x_scales(16 * 2), w_scales(8 * 2);
  for (std::vector<std::uint8_t>* codes : {&x, &w}) {
    for (std::uint8_t& code : *codes) code = static_cast<std::uint8_t>(random.below(16));
  }
  for (std::vector<std::uint8_t>* scales : {&x_scales, &w_scales}) {
    for (std::uint8_t& scale : *scales) scale = static_cast<std::uint8_t>(125 + random.below(5));
  }
  const auto eight = [](const std::vector<std::uint8_t>& codes, int row, int first) {
    std::uint32_t word = 0;
    for (int i = 0; i < 8; ++i) word |= std::uint32_t{codes[static_cast<std::size_t>(row * 64 + first + i)]} << (4 * i);
    return word;
  };
  const auto two = [](const std::vector<std::uint8_t>& scales, int row) {
    return scales[static_cast<std::size_t>(2 * row)] | std::uint32_t{scales[static_cast<std::size_t>(2 * row + 1)]}
                                                           << 8;
  };
  Warp warp;
  for (int lane = 0; lane < 32; ++lane) {
    const auto l = static_cast<std::size_t>(lane);
    for (int i = 0; i < 4; ++i) {
      warp.a[l][static_cast<std::size_t>(i)] = eight(x, fp4::a_row(lane, i), fp4::a_first(lane, i));
    }
    for (int i = 0; i < 2; ++i) {
      warp.b[l][static_cast<std::size_t>(i)] = eight(w, fp4::b_col(lane), fp4::b_first(lane, i));
    }
    warp.a_scales[l] = two(x_scales, fp4::a_scale_row(lane));
    warp.b_scales[l] = two(w_scales, fp4::b_scale_col(lane));
  }
  const std::vector<float> d = multiply_as_ptx_says(warp);
  std::set<int> places;
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < 4; ++i) {
      const int m = fp4::d_row(lane, i), n = fp4::d_col(lane, i);
      // the ISA's formula
      EXPECT_EQ(m, (lane >> 2) + (i < 2 ? 0 : 8));
      EXPECT_EQ(n, (lane % 4) * 2 + (i & 1));
      places.insert(m * 8 + n);
      float wanted = 0;
      for (int k = 0; k < 64; ++k) {
        wanted += e2m1::decode(x[static_cast<std::size_t>(m * 64 + k)]) *
                  e2m1::decode(w[static_cast<std::size_t>(n * 64 + k)]) *
                  e8m0::decode(x_scales[static_cast<std::size_t>(2 * m + k / 32)]) *
                  e8m0::decode(w_scales[static_cast<std::size_t>(2 * n + k / 32)]);
      }
      EXPECT_EQ(d[static_cast<std::size_t>(m * 8 + n)], wanted) << m << ", " << n;  // sums that f32 holds
    }
  }
  EXPECT_EQ(places.size(), 128u);
}

class CudaFp4Blocks : public testing::DeviceOpsTest {
 protected:
  // Codes [rows, k / 2] and scales of `count` blocks a row as a kernel leaves them.
  struct Packed {
    Packed(std::int64_t rows, std::int64_t k, std::int64_t count)
        : codes(DType::kU8, rows, k / 2), scales(DType::kU8, 1, fp4::scale_bytes(rows, count)) {}
    cuda::Fp4Codes place() const {
      return {static_cast<std::uint8_t*>(codes.matrix().data), static_cast<std::uint8_t*>(scales.matrix().data)};
    }
    testing::DeviceRows codes, scales;
  };
};

TEST_F(CudaFp4Blocks, WeightsArePacked) {
  using enum Granularity;
  for (const testing::LinearFormat& format :
       {testing::LinearFormat{"nvfp4", {Element::kE2M1, kGroup, 16}, DType::kF8E4M3, 0.0123f, {}},
        testing::LinearFormat{"mxfp4", {Element::kE2M1, kGroup, 32, true}, DType::kF8E8M0, 1.0f, {}}}) {
    const std::int64_t rows = 144, k = 192, count = k / format.spec.group;
    const QTensor source = testing::random_weight(format, rows, k, 1);
    const Tensor none;
    cuda::DeviceUploader uploader{*stream_, 1};
    cuda::DeviceArena arena = cuda::DeviceArena::growing("test", cuda::DeviceArena::kAlignment);
    const cuda::LinearWeight weight = cuda::upload_linear({{&source, 1}, {&none, 1}, {}}, arena, uploader);
    const Packed packed(rows, k, count);
    cuda::start_pack_fp4_weight(cuda::weight_arguments(weight), packed.place(), launch());
    stream_->synchronize();
    const std::vector<std::uint8_t> codes = packed.codes.stored(), scales = packed.scales.stored();
    EXPECT_EQ(std::memcmp(codes.data(), source.payload.raw(), codes.size()), 0) << format.name;
    std::vector<std::uint8_t> wanted(scales.size());
    for (std::int64_t i = 0; i < rows * count; ++i) {
      wanted[static_cast<std::size_t>(fp4::scale_place(i / count, i % count, count))] =
          source.scales.bits<std::uint8_t>()[i];
    }
    EXPECT_TRUE(scales == wanted) << format.name;
    EXPECT_TRUE(packed.codes.padding_intact() && packed.scales.padding_intact()) << format.name;
  }
}

TEST_F(CudaFp4Blocks, InputsArePacked) {
  using enum InputQuant::Kind;
  for (const InputQuant& input : {InputQuant{kDynamicNvfp4, 0.0011f}, InputQuant{kDynamicMxfp4}}) {
    const bool mx = input.kind == kDynamicMxfp4;
    const std::int64_t rows = 131, k = 192, block = mx ? 32 : 16, count = k / block;
    const Tensor x = to_f32(from_f32(testing::random_input(rows, k, 2), DType::kBF16));
    Tensor values(DType::kF32, x.shape()), second(DType::kF32, {rows});
    quantize_input_reference(x, input, values, second);
    const testing::DeviceRows device_x(DType::kBF16, values, 8);
    const Packed packed(rows, k, count);
    cuda::start_pack_fp4_inputs({static_cast<const std::uint16_t*>(device_x.matrix().data), device_x.matrix().stride,
                                 static_cast<int>(rows), static_cast<int>(k), mx, packed.place()},
                                launch());
    stream_->synchronize();
    std::vector<std::uint8_t> codes(static_cast<std::size_t>(rows * k / 2)), scales(packed.scales.stored().size());
    for (std::int64_t i = 0; i < rows * count; ++i) {
      const float* begin = values.data<float>() + i * block;
      const std::uint8_t scale = fp4::scale_of_block(begin, static_cast<int>(block), mx);
      scales[static_cast<std::size_t>(fp4::scale_place(i / count, i % count, count))] = scale;
      for (std::int64_t j = 0; j < block; j += 8) {
        const std::uint32_t word = fp4::codes_of_block(begin + j, scale, mx);
        std::memcpy(codes.data() + (i * block + j) / 2, &word, sizeof(word));
      }
    }
    EXPECT_TRUE(packed.codes.stored() == codes && packed.scales.stored() == scales) << mx;
    EXPECT_TRUE(packed.codes.padding_intact() && packed.scales.padding_intact()) << mx;
  }
}

}  // namespace
}  // namespace halftone
