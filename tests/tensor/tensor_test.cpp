#include "tensor/tensor.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace halftone {
namespace {

TEST(DType, NamesAndSizesAreInverse) {
  for (int i = 0; i <= static_cast<int>(DType::kBool); ++i) {
    const auto dtype = static_cast<DType>(i);
    EXPECT_EQ(dtype_from_name(dtype_name(dtype)), dtype);
    EXPECT_GE(dtype_size(dtype), 1u);
  }
  EXPECT_FALSE(dtype_from_name("bf16"));
  EXPECT_EQ(dtype_size(DType::kF8E4M3), 1u);
  EXPECT_EQ(dtype_size(DType::kU64), 8u);
}

TEST(Shape, CountsWithoutOverflow) {
  EXPECT_EQ(count_elements({}), 1);
  EXPECT_EQ(count_elements({3, 0, 5}), 0);
  EXPECT_EQ(count_elements({std::int64_t{1} << 31, std::int64_t{1} << 31}), std::int64_t{1} << 62);
  EXPECT_THROW(count_elements({std::int64_t{1} << 32, std::int64_t{1} << 31}), Error);
  EXPECT_THROW(count_elements({-1}), Error);
  EXPECT_THROW(count_elements({INT64_MAX, INT64_MAX}), Error);
}

TEST(Tensor, TypedAccessIsChecked) {
  Tensor tensor = Tensor::zeros(DType::kBF16, {2, 3});
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(tensor.raw()) % 64, 0u);
  EXPECT_EQ(tensor.nbytes(), 12);
  EXPECT_EQ(tensor.bits<std::uint16_t>()[5], 0);
  EXPECT_THROW(tensor.data<float>(), Error);
  EXPECT_THROW(tensor.bits<std::uint8_t>(), Error);
}

TEST(Tensor, ViewsShareTheStorage) {
  const Tensor tensor = Tensor::from({0, 1, 2, 3, 4, 5}, {3, 2});
  const Tensor rows = tensor.rows(1, 3);
  EXPECT_EQ(rows.shape(), (Shape{2, 2}));
  EXPECT_EQ(rows.data<float>(), tensor.data<float>() + 2);
  EXPECT_EQ(tensor.reshape({6}).data<float>(), tensor.data<float>());
  EXPECT_NE(tensor.clone().data<float>(), tensor.data<float>());
  EXPECT_EQ(tensor.rows(3, 3).numel(), 0);
  EXPECT_THROW(tensor.rows(2, 4), Error);
  EXPECT_THROW(tensor.reshape({7}), Error);
  EXPECT_THROW(Tensor::from({1, 2}, {3}), Error);
}

TEST(Tensor, BorrowKeepsTheOwnerAlive) {
  auto owner = std::make_shared<std::vector<float>>(std::vector<float>{1, 2});
  const std::weak_ptr<std::vector<float>> watch = owner;
  Tensor tensor = Tensor::borrow(DType::kF32, {2}, owner->data(), owner);
  owner.reset();
  EXPECT_FALSE(watch.expired());
  EXPECT_EQ(tensor.data<float>()[1], 2.0f);
  tensor = {};
  EXPECT_TRUE(watch.expired());
}

TEST(Tensor, ConvertsEveryBf16AndF16CodeThereAndBack) {
  for (const DType dtype : {DType::kBF16, DType::kF16}) {
    Tensor codes(dtype, {65536});
    for (int i = 0; i < 65536; ++i) codes.bits<std::uint16_t>()[i] = static_cast<std::uint16_t>(i);
    const Tensor values = to_f32(codes);
    const Tensor back = from_f32(values, dtype);
    for (int i = 0; i < 65536; ++i) {
      if (std::isnan(values.data<float>()[i])) continue;
      ASSERT_EQ(back.bits<std::uint16_t>()[i], i);
    }
  }
}

TEST(Tensor, ConvertsOtherFloats) {
  Tensor doubles(DType::kF64, {2});
  doubles.data<double>()[0] = 0.1;
  doubles.data<double>()[1] = 1e300;
  const Tensor values = to_f32(doubles);
  EXPECT_EQ(values.data<float>()[0], 0.1f);
  EXPECT_EQ(values.data<float>()[1], std::numeric_limits<float>::infinity());
  Tensor bytes(DType::kF8E5M2, {1});
  bytes.bits<std::uint8_t>()[0] = 0x3c;
  EXPECT_EQ(to_f32(bytes).data<float>()[0], 1.0f);
  EXPECT_THROW(to_f32(Tensor::zeros(DType::kI32, {1})), Error);
  EXPECT_THROW(from_f32(Tensor::from({1}, {1}), DType::kI8), Error);
}

}  // namespace
}  // namespace halftone
