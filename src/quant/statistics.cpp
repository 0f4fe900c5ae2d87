#include "quant/statistics.h"

#include <bit>
#include <cmath>
#include <mutex>

namespace halftone {
namespace {

constexpr std::int64_t kChannelsPerTask = 64;
constexpr std::int64_t kRowsPerTask = 32;

void make_room(std::size_t inputs, ChannelStatistics& statistics) {
  statistics.absmax.resize(inputs);
  statistics.abs_sum.resize(inputs);
}

// Channels [begin, end) of one token.
void add_row(const float* row, std::size_t begin, std::size_t end, ChannelStatistics& statistics) {
  for (std::size_t c = begin; c < end; ++c) {
    const float magnitude = std::abs(row[c]);
    statistics.absmax[c] = std::max(statistics.absmax[c], magnitude);
    statistics.abs_sum[c] += magnitude;  // NaN and infinity stay, so that whoever finishes finds them
  }
}

TokenClass class_of(std::int64_t row, std::int64_t rows, std::span<const TokenClass> classes) {
  return classes[static_cast<std::size_t>(row * static_cast<std::int64_t>(classes.size()) / rows)];
}

// Each channel sums its tokens in order, so that threads change nothing.
void add_channels(const Tensor& x, std::span<const TokenClass> classes, ThreadPool& pool, InputStatistics& statistics) {
  const std::int64_t tokens = x.dim(0), width = x.dim(1);
  pool.parallel_for((width + kChannelsPerTask - 1) / kChannelsPerTask, [&](std::int64_t task) {
    const auto begin = static_cast<std::size_t>(task * kChannelsPerTask);
    const auto end = static_cast<std::size_t>(std::min(width, (task + 1) * kChannelsPerTask));
    ChannelStatistics sample;
    make_room(static_cast<std::size_t>(width), sample);
    for (std::int64_t t = 0; t < tokens; ++t) {
      const float* row = x.data<float>() + t * width;
      add_row(row, begin, end, sample);
      add_row(row, begin, end, statistics);
      add_row(row, begin, end, statistics.by_class[static_cast<std::size_t>(class_of(t, tokens, classes))]);
    }
    for (std::size_t c = begin; c < end; ++c) {
      statistics.sample_mean_sum[c] += static_cast<float>(sample.abs_sum[c] / static_cast<double>(tokens));
    }
  });
  statistics.tokens += tokens;
  ++statistics.samples;
  for (std::int64_t t = 0; t < tokens; ++t) {
    ++statistics.by_class[static_cast<std::size_t>(class_of(t, tokens, classes))].tokens;
  }
}

// Magnitudes as integers: they order as the floats do, and NaN and infinity come last.
float largest(std::span<const float> values) {
  std::uint32_t most = 0;
  for (const float value : values) most = std::max(most, std::bit_cast<std::uint32_t>(value) & 0x7fffffffu);
  return std::bit_cast<float>(most);
}

// Counts are whole numbers: in whatever order they are added, the sum is the same.
void add_histogram(const Tensor& x, ThreadPool& pool, Histogram& histogram) {
  const std::int64_t tokens = x.dim(0), width = x.dim(1), tasks = (tokens + kRowsPerTask - 1) / kRowsPerTask;
  const auto rows = [&](std::int64_t task) {
    const std::int64_t begin = task * kRowsPerTask, end = std::min(tokens, begin + kRowsPerTask);
    return std::span(x.data<float>() + begin * width, static_cast<std::size_t>((end - begin) * width));
  };
  std::vector<float> most(static_cast<std::size_t>(tasks));
  pool.parallel_for(tasks, [&](std::int64_t task) { most[static_cast<std::size_t>(task)] = largest(rows(task)); });
  const float batch = largest(most);
  if (!std::isfinite(batch)) return;
  histogram.reach(batch);
  std::mutex mutex;
  pool.parallel_for(tasks, [&](std::int64_t task) {
    std::vector<std::int64_t> counts(histogram.counts.size());
    histogram.count(rows(task), counts);
    const std::lock_guard lock(mutex);
    histogram.add(counts);
  });
}

template <typename T>
T scale_one(T value, float factor, Scaling scaling) {
  return scaling == Scaling::kTimes ? value * factor : value / factor;
}

void scale_channels(std::span<const float> factors, Scaling scaling, ChannelStatistics& statistics) {
  for (std::size_t c = 0; c < statistics.absmax.size(); ++c) {
    statistics.absmax[c] = scale_one(statistics.absmax[c], factors[c], scaling);
    statistics.abs_sum[c] = scale_one(statistics.abs_sum[c], factors[c], scaling);
  }
}

}  // namespace

InputStatistics empty_statistics(std::size_t inputs) {
  InputStatistics statistics;
  make_room(inputs, statistics);
  statistics.sample_mean_sum.resize(inputs);
  for (ChannelStatistics& of_class : statistics.by_class) make_room(inputs, of_class);
  return statistics;
}

void add_sample(const Tensor& x, std::span<const TokenClass> classes, ThreadPool& pool, InputStatistics& statistics) {
  require(!classes.empty() && x.dim(0) % static_cast<std::int64_t>(classes.size()) == 0, "add_sample",
          "expected a class for each of {} tokens, got {}", x.dim(0), classes.size());
  add_channels(x, classes, pool, statistics);
  add_histogram(x, pool, statistics.histogram);
}

InputStatistics scaled(const InputStatistics& statistics, std::span<const float> factors, Scaling scaling) {
  InputStatistics result = statistics;
  result.amax.reset();
  scale_channels(factors, scaling, result);
  for (ChannelStatistics& of_class : result.by_class) scale_channels(factors, scaling, of_class);
  result.histogram = {};
  if (!statistics.rows.defined()) return result;
  result.rows = statistics.rows.clone();
  for (std::int64_t r = 0; r < result.rows.dim(0); ++r) {
    float* row = result.rows.data<float>() + r * result.rows.dim(1);
    for (std::size_t c = 0; c < factors.size(); ++c) row[c] = scale_one(row[c], factors[c], scaling);
  }
  const std::span values(result.rows.data<float>(), static_cast<std::size_t>(result.rows.numel()));
  result.histogram.reach(std::max(result.ChannelStatistics::tensor_absmax(), largest(values)));
  std::vector<std::int64_t> counts(result.histogram.counts.size());
  result.histogram.count(values, counts);
  result.histogram.add(counts);
  return result;
}

}  // namespace halftone
