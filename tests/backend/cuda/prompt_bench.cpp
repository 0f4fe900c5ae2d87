#include "tests/backend/cuda/prompt_bench.h"

#include <cstdio>

#include "backend/cuda/cuda_error.h"
#include "backend/cuda/event_timer.h"
#include "backend/cuda/linear_prompt.h"
#include "backend/cuda/prepare_input.h"
#include "backend/cuda/upload.h"
#include "tests/ops/linear_cases.h"

namespace halftone::testing {
namespace {

constexpr std::int64_t kTokens = 1089;

struct PromptShape {
  std::string_view name;
  std::int64_t n, k;
  bool bias, residual, spare_rows;
};
constexpr PromptShape kPromptShapes[] = {{"2b_qkv", 2048, 1536, true, false, true},
                                         {"2b_o", 1536, 1536, false, true, false},
                                         {"2b_gate_up", 17920, 1536, false, false, true},
                                         {"2b_down", 1536, 8960, false, true, false}};

std::vector<LinearFormat> prompt_formats() {
  using enum Granularity;
  using Kind = InputQuant::Kind;
  const InputQuant none{}, token{Kind::kDynamicE4M3}, fixed{Kind::kStaticE4M3, 0.01f}, group{Kind::kDynamicE4M3Group};
  return {{"bf16", {Element::kBF16, kNone, 0}, DType::kF32, 1.0f, none},
          {"e4m3_channel_x_token", {Element::kE4M3, kChannel, 0}, DType::kF32, 1.0f, token},
          {"e4m3_tiles", {Element::kE4M3, kTile, 128}, DType::kF32, 1.0f, none},
          {"e4m3_tiles_x_group128", {Element::kE4M3, kTile, 128}, DType::kF32, 1.0f, group},
          {"int4_group128", {Element::kInt4, kGroup, 128}, DType::kBF16, 1.0f, none},
          {"int4_group128_x_e4m3", {Element::kInt4, kGroup, 128}, DType::kBF16, 1.0f, fixed},
          {"int4_group128_x_token", {Element::kInt4, kGroup, 128}, DType::kBF16, 1.0f, token}};
}

// A product and its buffers.
class PromptProduct {
 public:
  PromptProduct(const LinearFormat& format, const PromptShape& shape)
      : arena_(cuda::DeviceArena::growing("bench", cuda::DeviceArena::kAlignment)), shape_(shape) {
    const QTensor weight = random_weight(format, shape.n, shape.k, 1);
    Tensor bias;
    if (shape.bias) bias = to_f32(from_f32(random_input(1, shape.n, 3), DType::kBF16)).reshape({shape.n});
    weight_ = cuda::upload_linear({{&weight, 1}, {&bias, 1}, format.input}, arena_, uploader_);
    constexpr std::int64_t kRows = kTokens + 3;
    const Tensor values = from_f32(random_input(kTokens, shape.k, 2), DType::kBF16);
    x_ = matrix(DType::kBF16, shape.k);
    cuda::copy_to_device(x_.data, values.raw(), static_cast<std::size_t>(values.nbytes()), stream_, "bench");
    call_.x = matrix(cuda::linear_prompt_input(weight_), shape.k);
    call_.y = matrix(DType::kBF16, shape.n);
    if (shape.residual) call_.residual = call_.y;
    call_.prompt = true;
    call_.spare_rows = shape.spare_rows;
    const InputQuant::Kind kind = format.input.kind;
    if (scales_tokens(kind) || (cuda::scales_groups(kind) && call_.x.dtype == DType::kF8E4M3)) {
      scales_ = arena_.allocate<float>(static_cast<std::size_t>(kRows * cuda::input_scale_count(kind, shape.k)));
    }
    call_.x_scales = scales_;
    call_.workspace_bytes = cuda::linear_prompt_workspace(weight_, kTokens, shape.residual, shape.spare_rows);
    call_.workspace = arena_.allocate(call_.workspace_bytes);
  }

  void print(const LinearFormat& format) {
    const double input_us = microseconds([&] {
      cuda::prepare_input({x_, nullptr, 0, weight_.input, call_.x, scales_}, stream_.launch());
    });
    const double us = microseconds([&] { cuda::linear(weight_, call_, stream_.launch(), "cublas"); });
    std::printf(
        "{\"op\":\"prompt\",\"format\":\"%s\",\"shape\":\"%s\",\"m\":%lld,\"us\":%.1f,\"tflops\":%.0f,\"input_us\":%.1f}\n",
        format.name.c_str(), shape_.name.data(), static_cast<long long>(kTokens), us,
        2e-6 * static_cast<double>(kTokens * shape_.n * shape_.k) / us, input_us);
    std::fflush(stdout);
  }

 private:
  cuda::DeviceMatrix matrix(DType dtype, std::int64_t cols) {
    const auto elements = static_cast<std::size_t>((kTokens + 3) * cols);
    return {arena_.allocate(elements * dtype_size(dtype)), dtype, kTokens, cols, cols};
  }
  // Of one of ten one after another.
  double microseconds(const std::function<void()>& work) const {
    constexpr int kRuns = 10;
    const double ms = cuda::median_milliseconds(stream_, 2, 7, [&] {
      for (int i = 0; i < kRuns; ++i) work();
    });
    return ms * 1e3 / kRuns;
  }

  cuda::DeviceStream stream_;
  cuda::DeviceUploader uploader_{stream_, 1};
  cuda::DeviceArena arena_;
  PromptShape shape_;
  cuda::LinearWeight weight_;
  cuda::DeviceMatrix x_;
  cuda::LinearCall call_;
  float* scales_ = nullptr;
};

}  // namespace

void bench_prompts(const std::function<bool(const std::string&)>& wanted) {
  for (const LinearFormat& format : prompt_formats()) {
    for (const PromptShape& shape : kPromptShapes) {
      if (!wanted("prompt/" + format.name + "/" + std::string(shape.name))) continue;
      PromptProduct(format, shape).print(format);
    }
  }
}

}  // namespace halftone::testing
