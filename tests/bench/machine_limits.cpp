#include "backend/cpu/simd.h"
// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tests/bench/machine_limits.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// clang-format on

#include <algorithm>
#include <numeric>
#include <vector>

#include "backend/cpu/panel_arithmetic-inl.h"
#include "base/timer.h"
#include "tensor/tensor.h"
#include "tests/bench/machine_limits.h"

HWY_BEFORE_NAMESPACE();
namespace halftone::HWY_NAMESPACE {

constexpr std::int64_t kRounds = 300'000;

// Registers of sums that hide the latency of the multiplications, and all fit.
constexpr int kChains = HWY_TARGET == HWY_AVX3 ? 16 : 12 / kParts < 1 ? 1 : 12 / kParts;

// Operations of `rounds` rounds of one arithmetic on registers alone.
template <class Op>
double spin() {
  // volatile, because the compiler must not see that all lanes do the same
  static volatile std::uint32_t zeros[kChains * kLaneCount];
  std::uint32_t values[kChains * kLaneCount];
  std::copy(std::begin(zeros), std::end(zeros), values);
  const auto x = Op::broadcast(values);
  Lanes<typename Op::T> sum[kChains];
  for (int i = 0; i < kChains; ++i)
    sum[i] = load_lanes(reinterpret_cast<const typename Op::T*>(values) + i * kLaneCount);
  auto operand = x;
  for (std::int64_t i = 0; i < kRounds; ++i) {
    // a new operand each round, so that no product is hoisted
    operand = hn::Xor(operand, x);
    HWY_UNROLL(16)
    for (auto& s : sum) {
      for (int i = 0; i < kParts; ++i) Op::add(operand, operand, s.part[i]);
    }
  }
  // every lane is used, so that none is left out
  typename Op::T lanes[kLaneCount], result = 0;
  for (const auto& s : sum) {
    store_lanes(s, lanes);
    for (const auto lane : lanes) result = result + lane;
  }
  volatile typename Op::T sink = result;
  static_cast<void>(sink);
  return static_cast<double>(kRounds) * kChains * kLaneCount * Op::kCols * 2;
}

double spin_f32() { return spin<MultiplyF32>(); }

double spin_int8(bool vnni) {
#if HWY_TARGET == HWY_AVX3
  if (vnni) return spin<MultiplyInt8Quads>();
#endif
  static_cast<void>(vnni);
  return spin<MultiplyInt16Pairs>();
}

// Reads `count` words in kStreams streams side by side: one core has more requests under way with several.
constexpr int kStreams = 8;
// Streams a power of two apart would meet in one set of the caches.
constexpr std::int64_t kStagger = 1040;

std::uint32_t read_words(const std::uint32_t* words, std::int64_t count) {
  const std::int64_t length = count / kStreams;
  Lanes<std::int32_t> sum[kStreams];
  for (auto& s : sum) s = set_lanes(0);
  for (std::int64_t i = 0; i + kLaneCount <= length; i += kLaneCount) {
    HWY_UNROLL(8)
    for (int j = 0; j < kStreams; ++j) {
      const auto loaded = load_lanes(reinterpret_cast<const std::int32_t*>(words) + j * (length + kStagger) + i);
      for (int p = 0; p < kParts; ++p) sum[j].part[p] = hn::Xor(sum[j].part[p], loaded.part[p]);
    }
  }
  std::int32_t lanes[kLaneCount];
  std::uint32_t result = 0;
  for (const auto& s : sum) {
    store_lanes(s, lanes);
    for (const std::int32_t lane : lanes) result ^= static_cast<std::uint32_t>(lane);
  }
  return result;
}

const char* name_of_target() { return hwy::TargetName(HWY_TARGET); }

}  // namespace halftone::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "backend/cpu/panel_products.h"

namespace halftone {
namespace {

HWY_EXPORT(spin_f32);
HWY_EXPORT(spin_int8);
HWY_EXPORT(read_words);
HWY_EXPORT(name_of_target);

// Work per second of all threads; work(thread) returns how much it did.
template <typename Work>
double rate(ThreadPool& pool, Timing timing, Work work) {
  std::vector<double> seconds;
  std::vector<double> done(static_cast<std::size_t>(pool.size()));
  // a short run that nothing disturbs takes many tries
  for (int i = 0; i < (timing == Timing::kBest ? 500 : 60); ++i) {
    const Timer timer;
    pool.parallel_for(pool.size(), [&](std::int64_t t) { done[static_cast<std::size_t>(t)] = work(t); });
    seconds.push_back(timer.seconds());
  }
  return std::accumulate(done.begin(), done.end(), 0.0) / choose_seconds(seconds, timing);
}

}  // namespace

double choose_seconds(std::vector<double> seconds, Timing timing) {
  const auto middle = seconds.begin() + (timing == Timing::kBest ? 0 : static_cast<std::ptrdiff_t>(seconds.size() / 2));
  std::nth_element(seconds.begin(), middle, seconds.end());
  return *middle;
}

MachineLimits measure_machine(ThreadPool& pool, Timing timing) {
  // far larger than any cache, read piece by piece
  constexpr std::int64_t kWords = std::int64_t{64} << 20, kPiece = std::int64_t{4} << 20;
  // zeroed, so that every page is there; a Tensor, because weights lie in one, too
  const Tensor memory = Tensor::zeros(DType::kU32, {kWords * pool.size() + kPiece});
  std::vector<std::int64_t> position(static_cast<std::size_t>(pool.size()));
  MachineLimits limits;
  limits.read_bytes = rate(pool, timing, [&](std::int64_t t) {
    position[static_cast<std::size_t>(t)] = (position[static_cast<std::size_t>(t)] + kPiece) % kWords;
    const std::uint32_t* piece = memory.bits<std::uint32_t>() + t * kWords + position[static_cast<std::size_t>(t)];
    volatile std::uint32_t sink = HWY_DYNAMIC_DISPATCH(read_words)(piece, kPiece);
    static_cast<void>(sink);
    return static_cast<double>(kPiece) * 4;
  });
  limits.f32_flops = rate(pool, timing, [](std::int64_t) { return HWY_DYNAMIC_DISPATCH(spin_f32)(); });
  limits.int8_flops = rate(pool, timing, [](std::int64_t) { return HWY_DYNAMIC_DISPATCH(spin_int8)(has_vnni()); });
  return limits;
}

const char* instruction_set() { return HWY_DYNAMIC_DISPATCH(name_of_target)(); }

}  // namespace halftone
#endif
