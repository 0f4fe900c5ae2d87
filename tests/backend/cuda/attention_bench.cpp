#include "tests/backend/cuda/attention_bench.h"

#include <cmath>
#include <cstdio>
#include <numeric>

#include "backend/cuda/decode_ops.h"
#include "backend/cuda/device_arena.h"
#include "backend/cuda/event_timer.h"
#include "tests/backend/cuda/bench_memory.h"
#include "tests/backend/cuda/step_bench.h"

namespace halftone::testing {
namespace {

constexpr std::int64_t kHeadDim = 128, kKeys = 1104, kPages = (kKeys + cuda::kPageTokens - 1) / cuda::kPageTokens;

class NewestAttention {
 public:
  NewestAttention(const StepModel& model, std::int64_t batch, bool codes)
      : model_(model),
        batch_(batch),
        codes_(codes),
        // enough to fill the second cache some times over
        layers_(std::max<std::int64_t>(model.layers, (std::int64_t{300} << 20) / kv_bytes())),
        arena_("attention", static_cast<std::size_t>(2 * layers_ * kv_bytes()) + (std::size_t{64} << 20)) {
    std::vector<std::int32_t> pages(static_cast<std::size_t>(batch * kPages));
    std::iota(pages.begin(), pages.end(), 0);
    call_.cos = call_.sin = upload(std::vector<float>(static_cast<std::size_t>(batch * kHeadDim / 2), 0.7f));
    call_.lengths = upload(std::vector<std::int32_t>(static_cast<std::size_t>(batch), kKeys));
    call_.longest = kKeys;
    call_.scale = 1.0f / std::sqrt(static_cast<float>(kHeadDim));
    call_.heads = model.heads;
    call_.workspace =
        arena_.allocate<float>(static_cast<std::size_t>(cuda::attention_workspace(batch, model.heads, kHeadDim)));
    call_.counters = upload(std::vector<std::uint32_t>(static_cast<std::size_t>(batch * model.kv_heads)));
    call_.qkv = matrix(model.heads + 2 * model.kv_heads);
    call_.out = matrix(model.heads);
    const std::int32_t* page_table = upload(pages);
    const float* scales = upload(std::vector<float>(static_cast<std::size_t>(model.kv_heads), 0.5f));
    for (std::int64_t i = 0; i < layers_; ++i) {
      cuda::PagedKv kv{cache(),
                       cache(),
                       page_table,
                       static_cast<int>(kPages),
                       static_cast<int>(model.kv_heads),
                       static_cast<int>(kHeadDim)};
      if (codes) {
        kv.element = cuda::KvElement::kE4M3;
        kv.k_scales = kv.v_scales = scales;
      }
      kv_.push_back(kv);
    }
  }

  void print(bool overlap, double read_bytes_per_s) {
    const cuda::DeviceGraph graph(stream_, [&](cuda::Launch launch) {
      launch.overlap = launch.overlap && overlap;
      for (const cuda::PagedKv& kv : kv_) cuda::attention_decode(call_, kv, launch);
    });
    const double ms = cuda::median_milliseconds(stream_, 2, 9, [&] { graph.run(stream_); });
    const double seconds = ms * 1e-3 / static_cast<double>(layers_);
    const auto bytes = static_cast<double>(2 * batch_ * kKeys * model_.kv_heads * kHeadDim * element_bytes());
    std::printf(
        "{\"op\":\"newest\",\"model\":\"%s\",\"cache\":\"%s\",\"batch\":%lld,\"overlap\":%d,\"us\":%.2f,\"of_read\":%.3f}\n",
        model_.name.data(), codes_ ? "e4m3" : "bf16", static_cast<long long>(batch_), overlap, seconds * 1e6,
        bytes / seconds / read_bytes_per_s);
    std::fflush(stdout);
  }

 private:
  std::int64_t element_bytes() const { return codes_ ? 1 : 2; }
  std::int64_t kv_bytes() const {  // of keys or of values
    return batch_ * kPages * cuda::kPageTokens * model_.kv_heads * kHeadDim * element_bytes();
  }
  template <typename T>
  T* upload(const std::vector<T>& values) {
    T* target = arena_.allocate<T>(values.size());
    cuda::check(cudaMemcpy(target, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice), "bench");
    return target;
  }
  std::uint16_t* cache() {
    void* data = arena_.allocate(static_cast<std::size_t>(kv_bytes()));
    fill_with_codes(data, static_cast<std::size_t>(kv_bytes()));
    return static_cast<std::uint16_t*>(data);
  }
  cuda::DeviceMatrix matrix(std::int64_t heads) {
    const auto bytes = static_cast<std::size_t>(batch_ * heads * kHeadDim * 2);
    void* data = arena_.allocate(bytes);
    fill_with_codes(data, bytes);
    return {data, DType::kBF16, batch_, heads * kHeadDim, heads * kHeadDim};
  }

  const StepModel& model_;
  std::int64_t batch_;
  bool codes_;
  std::int64_t layers_;
  cuda::DeviceStream stream_;
  cuda::DeviceArena arena_;
  std::vector<cuda::PagedKv> kv_;
  cuda::AttentionDecode call_;
};

}  // namespace

void bench_newest_attention(double read_bytes_per_s, const std::function<bool(const std::string&)>& wanted) {
  const std::vector<StepModel> models = step_models();
  for (const StepModel& model : models) {
    for (const bool codes : {false, true}) {
      if (!wanted("newest/" + std::string(model.name) + (codes ? "/e4m3" : "/bf16"))) continue;
      for (const std::int64_t batch : {1, 8, 32, 64}) {
        NewestAttention attention(model, batch, codes);
        for (const bool overlap : {false, true}) attention.print(overlap, read_bytes_per_s);
      }
    }
  }
}

}  // namespace halftone::testing
