// Observers against ModelOpt's histogram calibrator (tests/golden/make_observer_golden.py).

#include "quant/observer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/json.h"
#include "base/random.h"

namespace halftone {
namespace {

// The batch of the Python program: cubes of evenly spread numbers.
std::vector<float> make_batch(std::uint64_t seed, std::int64_t size, double most) {
  Random random(seed);
  std::vector<float> values;
  for (std::int64_t i = 0; i < size; ++i) {
    const double u = (static_cast<double>(random.next() >> 48) - 32768) / 32768;
    values.push_back(static_cast<float>(u * u * u * most));
  }
  return values;
}

InputStatistics collect(const Json& row, int threads) {
  ThreadPool pool(threads);
  InputStatistics statistics = empty_statistics(8);
  constexpr TokenClass kText[] = {TokenClass::kText};
  for (std::size_t i = 0; i < row["sizes"].size(); ++i) {
    const auto size = row["sizes"][i].get<std::int64_t>();
    const std::vector<float> values = make_batch(row["seed"].get<std::uint64_t>() * 1000 + i, size, row["mosts"][i]);
    add_sample(Tensor::from(values, {size / 8, 8}), kText, pool, statistics);
  }
  return statistics;
}

Json golden() { return read_json(HALFTONE_SOURCE_DIR "/tests/golden/observers.json"); }

TEST(Observer, HistogramIsThatOfModelOpt) {
  for (const Json& row : golden()) {
    SCOPED_TRACE(row["name"].get<std::string>());
    const Histogram histogram = collect(row, 1).histogram;
    const auto bins = row["bins"].get<std::size_t>();
    ASSERT_EQ(histogram.counts.size(), bins);
    const std::size_t stride = std::max<std::size_t>(1, bins / 64);
    for (std::size_t i = 0; i < row["counts"].size(); ++i) {
      EXPECT_EQ(histogram.counts[i * stride], row["counts"][i].get<std::int64_t>()) << i;
    }
  }
}

TEST(Observer, FindsWhatModelOptFinds) {
  ThreadPool pool(2);
  for (const Json& row : golden()) {
    SCOPED_TRACE(row["name"].get<std::string>());
    const Histogram histogram = collect(row, 1).histogram;
    for (const auto& [percentile, amax] : row["percentile"].items()) {
      EXPECT_FLOAT_EQ(percentile_amax(histogram, std::stod(percentile)), amax.get<float>()) << percentile;
    }
    EXPECT_FLOAT_EQ(entropy_amax(histogram, pool), row["entropy"].get<float>());
    EXPECT_FLOAT_EQ(mse_amax(histogram, InputQuant::Kind::kStaticInt8, pool), row["mse_int8"].get<float>());
    EXPECT_FLOAT_EQ(mse_amax(histogram, InputQuant::Kind::kStaticE4M3, pool), row["mse_e4m3"].get<float>());
  }
}

TEST(Observer, ThreadsChangeNothing) {
  for (const Json& row : golden()) {
    const InputStatistics one = collect(row, 1), four = collect(row, 4);
    EXPECT_EQ(one.histogram, four.histogram);
    EXPECT_EQ(one.abs_sum, four.abs_sum);
    EXPECT_EQ(one.absmax, four.absmax);
  }
}

TEST(Observer, MaxIsTheLargestAndOthersNeverMore) {
  const InputStatistics statistics = collect(golden()[2], 1);
  ThreadPool pool(1);
  const auto amax = [&](Observer::Kind kind) {
    return observed_amax({kind, 99.0}, statistics, InputQuant::Kind::kStaticInt8, pool);
  };
  EXPECT_EQ(amax(Observer::Kind::kMax), statistics.tensor_absmax());
  EXPECT_LT(amax(Observer::Kind::kPercentile), statistics.tensor_absmax());
  EXPECT_LE(amax(Observer::Kind::kEntropy), statistics.tensor_absmax());
  EXPECT_LE(amax(Observer::Kind::kMse), statistics.tensor_absmax());
  EXPECT_EQ(observed_amax({Observer::Kind::kPercentile, 100.0}, statistics, InputQuant::Kind::kDynamicNvfp4, pool),
            std::min(statistics.tensor_absmax(), percentile_amax(statistics.histogram, 100.0)));
}

TEST(Observer, ZerosAndOutliersAreCounted) {
  ThreadPool pool(1);
  InputStatistics statistics = empty_statistics(2);
  constexpr TokenClass kText[] = {TokenClass::kText};
  add_sample(Tensor::from({0, 0}, {1, 2}), kText, pool, statistics);
  EXPECT_EQ(statistics.histogram.width, 0);
  EXPECT_EQ(observed_amax({Observer::Kind::kMse, 0}, statistics, InputQuant::Kind::kStaticInt8, pool), 0);
  add_sample(Tensor::from({1, -1e-3f}, {1, 2}), kText, pool, statistics);
  // a million times larger: bins are joined, and none is lost
  add_sample(Tensor::from({1e6f, 0.5f}, {1, 2}), kText, pool, statistics);
  EXPECT_LE(static_cast<std::int64_t>(statistics.histogram.counts.size()), Histogram::kMaxBins + 1);
  EXPECT_EQ(statistics.histogram.total(), 6);
  EXPECT_DOUBLE_EQ(statistics.histogram.share_above(1e5), 1.0 / 6);
  EXPECT_DOUBLE_EQ(statistics.histogram.share_above(1e7), 0);
  EXPECT_EQ(statistics.dead_channels(), 0);
  // what is not finite is found in the sums, and does no harm before
  add_sample(Tensor::from({std::numeric_limits<float>::quiet_NaN(), 1}, {1, 2}), kText, pool, statistics);
  EXPECT_EQ(statistics.histogram.total(), 6);
  EXPECT_TRUE(std::isnan(statistics.abs_sum[0]));
}

TEST(Observer, NeverClipsEverythingAway) {
  ThreadPool pool(1);
  constexpr TokenClass kText[] = {TokenClass::kText};
  InputStatistics statistics = empty_statistics(2048);
  std::vector<float> row(2048, 0.25f);
  row[7] = 1e4f;  // one in 2048, so that 99.9 % of the values lie in the first bin
  add_sample(Tensor::from(row, {1, 2048}), kText, pool, statistics);
  EXPECT_EQ(percentile_amax(statistics.histogram, 99.9), 0);
  EXPECT_EQ(observed_amax({Observer::Kind::kPercentile, 99.9}, statistics, InputQuant::Kind::kStaticInt8, pool),
            statistics.histogram.edge(1));
}

TEST(Observer, WithoutAHistogramOnlyMaxIsKnown) {
  ThreadPool pool(1);
  InputStatistics statistics = empty_statistics(2);
  statistics.absmax = {1, 2};
  EXPECT_EQ(observed_amax({}, statistics, InputQuant::Kind::kStaticInt8, pool), 2);
  EXPECT_THROW(observed_amax({Observer::Kind::kEntropy, 0}, statistics, InputQuant::Kind::kStaticInt8, pool), Error);
}

TEST(Observer, ASampleCountsOnceInModelOptsMean) {
  ThreadPool pool(2);
  InputStatistics statistics = empty_statistics(1);
  constexpr TokenClass kText[] = {TokenClass::kText};
  add_sample(Tensor::from({4}, {1, 1}), kText, pool, statistics);
  add_sample(Tensor::from({1, -1, 1}, {3, 1}), kText, pool, statistics);
  EXPECT_EQ(statistics.sample_mean_abs(0), 2.5f);
  EXPECT_EQ(statistics.mean_abs(0), 1.75);
}

TEST(Observer, ClassesAreKeptApart) {
  ThreadPool pool(2);
  InputStatistics statistics = empty_statistics(2);
  constexpr TokenClass kClasses[] = {TokenClass::kText, TokenClass::kPicture, TokenClass::kText};
  add_sample(Tensor::from({1, 0, 5, 0, -2, 0}, {3, 2}), kClasses, pool, statistics);
  EXPECT_EQ(statistics.tokens, 3);
  EXPECT_EQ(statistics.of(TokenClass::kText).tokens, 2);
  EXPECT_EQ(statistics.of(TokenClass::kText).tensor_absmax(), 2);
  EXPECT_EQ(statistics.of(TokenClass::kPicture).tensor_absmax(), 5);
  EXPECT_EQ(statistics.of(TokenClass::kText).abs_sum[0], 3);
  EXPECT_EQ(statistics.abs_sum[0], 8);
  EXPECT_EQ(statistics.dead_channels(), 1);
}

}  // namespace
}  // namespace halftone
