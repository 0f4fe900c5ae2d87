#include "tests/backend/cuda/step_bench.h"

#include <cmath>
#include <cstdio>
#include <numeric>

#include "backend/cuda/decode_ops.h"
#include "backend/cuda/event_timer.h"
#include "backend/cuda/linear.h"
#include "backend/cuda/prepare_input.h"
#include "tests/backend/cuda/bench_memory.h"

namespace halftone::testing {
namespace {

constexpr std::int64_t kHeadDim = 128, kKeys = 1104;

struct StepFormat {
  std::string_view name;
  QuantSpec spec;
  InputQuant input;
  DType scales = DType::kBF16;  // of groups
};
const StepFormat kFormats[] = {
    {"bf16", {Element::kBF16, Granularity::kNone, 0}, {}},
    {"int8", {Element::kInt8, Granularity::kChannel, 0}, {}},
    {"int8_x_int8", {Element::kInt8, Granularity::kChannel, 0}, {InputQuant::Kind::kStaticInt8, 0.02f}},
    {"e4m3_x_e4m3", {Element::kE4M3, Granularity::kTensor, 0}, {InputQuant::Kind::kStaticE4M3, 0.02f}},
    {"e4m3_x_e4m3_token", {Element::kE4M3, Granularity::kChannel, 0}, {InputQuant::Kind::kDynamicE4M3}},
    {"int4_group128", {Element::kInt4, Granularity::kGroup, 128}, {}},
    {"nf4_group64", {Element::kNF4, Granularity::kGroup, 64}, {}, DType::kF32},
};

struct Layer {
  cuda::LinearWeight qkv, o, gate_up, down;
};

class Step {
 public:
  Step(const StepModel& model, const StepFormat& format, std::int64_t batch)
      : model_(model), format_(format), batch_(batch), arena_("step", bytes()) {
    ones_ = arena_.allocate<float>(static_cast<std::size_t>(std::max(model.vocabulary, 2 * model.mlp)));
    fill_floats(ones_, std::max(model.vocabulary, 2 * model.mlp), 0.01f);
    const std::int64_t q = model.heads * kHeadDim, kv = model.kv_heads * kHeadDim;
    for (std::int64_t i = 0; i < model.layers; ++i) {
      layers_.push_back({weight(q + 2 * kv, model.hidden, format.spec, format.input),
                         weight(model.hidden, q, format.spec, format.input),
                         weight(2 * model.mlp, model.hidden, format.spec, format.input),
                         weight(model.hidden, model.mlp, format.spec, format.input)});
    }
    head_ = weight(model.vocabulary, model.hidden, kFormats[0].spec, {});
    make_cache();
    hidden_ = matrix(DType::kBF16, model.hidden);
    codes_ = matrix(DType::kBF16, std::max(model.hidden, model.mlp));
    qkv_ = matrix(DType::kBF16, q + 2 * kv);
    mixed_ = matrix(DType::kBF16, q);
    mlp_ = matrix(DType::kBF16, model.mlp);
    logits_ = matrix(DType::kF32, model.vocabulary);
    attention_memory_ =
        arena_.allocate<float>(static_cast<std::size_t>(cuda::attention_workspace(batch, model.heads, kHeadDim)));
    attention_counters_ = upload(std::vector<std::uint32_t>(static_cast<std::size_t>(batch * model.kv_heads)));
    gaps_ = arena_.allocate<float>(static_cast<std::size_t>(batch));
    token_scales_ = arena_.allocate<float>(static_cast<std::size_t>(batch));
    argmax_memory_ = arena_.allocate(static_cast<std::size_t>(cuda::argmax_workspace(batch)));
  }

  void print(double read_bytes_per_s) {
    const cuda::DeviceGraph graph(stream_, [this](const cuda::Launch& launch) { run(launch); });
    const double ms = cuda::median_milliseconds(stream_, 3, 15, [&] { graph.run(stream_); });
    const double rate = static_cast<double>(weight_bytes_) / (ms * 1e-3);
    std::printf("{\"op\":\"step\",\"model\":\"%s\",\"format\":\"%s\",\"batch\":%lld,\"ms\":%.3f,\"of_read\":%.3f}\n",
                model_.name.data(), format_.name.data(), static_cast<long long>(batch_), ms, rate / read_bytes_per_s);
    std::fflush(stdout);
  }

 private:
  std::int64_t parameters() const {
    const std::int64_t q = model_.heads * kHeadDim, kv = model_.kv_heads * kHeadDim;
    return model_.layers * model_.hidden * (2 * q + 2 * kv + 3 * model_.mlp);
  }
  std::size_t bytes() const {
    const std::int64_t kv = 2 * model_.layers * batch_ * (kKeys + cuda::kPageTokens) * model_.kv_heads * kHeadDim * 2;
    const std::int64_t head = model_.vocabulary * model_.hidden * 2;
    return static_cast<std::size_t>(parameters() * 2 + head + kv) + (std::size_t{512} << 20);
  }

  static void fill_floats(float* target, std::int64_t count, float value) {
    const std::vector<float> values(static_cast<std::size_t>(count), value);
    cuda::check(cudaMemcpy(target, values.data(), values.size() * sizeof(float), cudaMemcpyHostToDevice), "bench");
  }
  template <typename T>
  T* upload(const std::vector<T>& values) {
    T* target = arena_.allocate<T>(values.size());
    cuda::check(cudaMemcpy(target, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice), "bench");
    return target;
  }

  cuda::DeviceMatrix matrix(DType dtype, std::int64_t cols) {
    void* data = arena_.allocate(static_cast<std::size_t>(batch_ * cols) * dtype_size(dtype));
    fill_with_codes(data, static_cast<std::size_t>(batch_ * cols) * dtype_size(dtype));
    return {data, dtype, batch_, cols, cols};
  }

  cuda::LinearWeight weight(std::int64_t n, std::int64_t k, const QuantSpec& spec, const InputQuant& input) {
    cuda::LinearWeight weight;
    weight.spec = spec;
    weight.input = input;
    weight.rows = n;
    weight.cols = k;
    weight.group = spec.granularity == Granularity::kGroup ? spec.group : k;
    const bool tiles = bits_of(spec.element) == 4;
    weight.row_bytes = tiles ? k / 128 * 512 : k * static_cast<std::int64_t>(dtype_size(payload_dtype(spec.element)));
    const auto code_bytes = static_cast<std::size_t>((tiles ? n / 8 : n) * weight.row_bytes);
    void* codes = arena_.allocate(code_bytes);
    fill_with_codes(codes, code_bytes);
    weight.codes = codes;
    weight.row_factors = ones_;
    weight.nbytes = static_cast<std::int64_t>(code_bytes) + n * 4;
    if (spec.granularity == Granularity::kGroup) {
      const auto scale_bytes = static_cast<std::size_t>(n * weight.groups()) * dtype_size(format_.scales);
      void* scales = arena_.allocate(scale_bytes);
      fill_with_codes(scales, scale_bytes);
      weight.group_scales = scales;
      weight.group_scale_type = format_.scales;
      weight.nbytes += static_cast<std::int64_t>(scale_bytes);
    } else if (spec.granularity != Granularity::kNone) {
      weight.row_scales = ones_;
      weight.nbytes += n * 4;
    }
    weight_bytes_ += weight.nbytes;
    return weight;
  }

  void make_cache() {
    const std::int64_t pages = (kKeys + cuda::kPageTokens - 1) / cuda::kPageTokens;
    std::vector<std::int32_t> numbers(static_cast<std::size_t>(batch_ * pages)),
        sequences(static_cast<std::size_t>(batch_));
    std::iota(numbers.begin(), numbers.end(), 0);
    std::iota(sequences.begin(), sequences.end(), 0);
    const std::int32_t* page_table = upload(numbers);
    sequences_ = upload(sequences);
    lengths_ = upload(std::vector<std::int32_t>(static_cast<std::size_t>(batch_), kKeys));
    tokens_ = upload(std::vector<std::int32_t>(static_cast<std::size_t>(batch_), 1));
    rotation_ = upload(std::vector<float>(static_cast<std::size_t>(batch_ * kHeadDim / 2), 0.7f));
    const auto bytes = static_cast<std::size_t>(batch_ * pages * cuda::kPageTokens * model_.kv_heads * kHeadDim * 2);
    for (std::int64_t i = 0; i < model_.layers; ++i) {
      auto* k = static_cast<std::uint16_t*>(arena_.allocate(bytes));
      auto* v = static_cast<std::uint16_t*>(arena_.allocate(bytes));
      fill_with_codes(k, bytes);
      fill_with_codes(v, bytes);
      kv_.push_back(
          {k, v, page_table, static_cast<int>(pages), static_cast<int>(model_.kv_heads), static_cast<int>(kHeadDim)});
    }
  }

  // y = the product of x, normalized and quantized first as the weight wants it.
  void multiply(const cuda::LinearWeight& weight, cuda::DeviceMatrix x, bool norm, const cuda::DeviceMatrix& y,
                bool residual, const cuda::Launch& launch, bool silu_mul = false) {
    cuda::LinearCall call;
    call.x = x;
    if (norm || weight.input.kind != InputQuant::Kind::kNone) {
      if (cuda::linear_prepares(weight, x)) {
        call.prepares = true;
        call.norm = norm ? ones_ : nullptr;
        call.eps = 1e-6f;
      } else {
        cuda::DeviceMatrix prepared = codes_;
        prepared.dtype = cuda::linear_decode_input(weight);
        prepared.cols = prepared.stride = x.cols;
        float* scales = scales_tokens(weight.input.kind) ? token_scales_ : nullptr;
        cuda::prepare_input({x, norm ? ones_ : nullptr, 1e-6f, weight.input, prepared, scales}, launch);
        call.x = prepared;
        call.x_scales = scales;
      }
    }
    call.y = y;
    if (residual) call.residual = y;
    call.silu_mul = silu_mul;
    cuda::linear(weight, call, launch);
  }

  void run(const cuda::Launch& launch) {
    cuda::embedding({{const_cast<void*>(head_.codes), DType::kBF16, model_.vocabulary, model_.hidden, model_.hidden},
                     tokens_,
                     hidden_,
                     {},
                     nullptr},
                    launch);
    for (std::size_t i = 0; i < layers_.size(); ++i) {
      const Layer& layer = layers_[i];
      multiply(layer.qkv, hidden_, true, qkv_, false, launch);
      cuda::attention_decode({qkv_, rotation_, rotation_, nullptr, sequences_, lengths_, kKeys,
                              1.0f / std::sqrt(static_cast<float>(kHeadDim)), model_.heads, attention_memory_,
                              attention_counters_, mixed_},
                             kv_[i], launch);
      multiply(layer.o, mixed_, false, hidden_, true, launch);
      multiply(layer.gate_up, hidden_, true, mlp_, false, launch, true);
      multiply(layer.down, mlp_, false, hidden_, true, launch);
    }
    multiply(head_, hidden_, true, logits_, false, launch);
    cuda::argmax({logits_, argmax_memory_, tokens_, gaps_}, launch);
  }

  const StepModel& model_;
  const StepFormat& format_;
  std::int64_t batch_;
  cuda::DeviceStream stream_;
  cuda::DeviceArena arena_;
  std::int64_t weight_bytes_ = 0;
  float *ones_ = nullptr, *rotation_ = nullptr, *gaps_ = nullptr, *token_scales_ = nullptr,
        *attention_memory_ = nullptr;
  std::uint32_t* attention_counters_ = nullptr;
  void* argmax_memory_ = nullptr;
  std::int32_t *sequences_ = nullptr, *lengths_ = nullptr, *tokens_ = nullptr;
  std::vector<Layer> layers_;
  cuda::LinearWeight head_;
  std::vector<cuda::PagedKv> kv_;
  cuda::DeviceMatrix hidden_, codes_, qkv_, mixed_, mlp_, logits_;
};

}  // namespace

std::vector<StepModel> step_models() {
  return {{"2b", 1536, 8960, 28, 12, 2, 151936}, {"7b", 3584, 18944, 28, 28, 4, 152064}};
}

void bench_step(const StepModel& model, double read_bytes_per_s,
                const std::function<bool(const std::string&)>& wanted) {
  for (const StepFormat& format : kFormats) {
    for (const std::int64_t batch : {1, 8, 32, 64}) {
      if (wanted(fmt::format("step/{}/{}/{}", model.name, format.name, batch))) {
        Step(model, format, batch).print(read_bytes_per_s);
      }
    }
  }
}

}  // namespace halftone::testing
