// The CPU's kernels for linear(): packed panels, f32 or integer arithmetic.
#include <algorithm>

#include "backend/cpu/input_words.h"
#include "backend/cpu/panel_products.h"
#include "ops/backend.h"

namespace halftone {
namespace {

// Multiplications below which a second thread costs more than it brings.
constexpr std::int64_t kSerialWork = 1 << 16;
// Rows of x whose block of K stays in the second-level cache while panels pass over it, and panels in one piece of
// work.
constexpr std::int64_t kRowsInCache = 240;
constexpr std::int64_t kPanelsInTask = 12;

// Pieces of work of a product of few rows, for each thread.
constexpr std::int64_t kRowPieces = 32;

// Rows of words start in different sets of the first-level cache: a tile reads several of them at once.
std::int64_t staged_stride(std::int64_t words) { return (words + 15) / 16 * 16 + 16; }

class PanelLinear final : public PackedLinear {
 public:
  PanelLinear(std::string_view kernel, PanelArithmetic arithmetic, const LinearSource& source, PanelStorage storage,
              Stream& stream)
      : kernel_(kernel),
        arithmetic_(arithmetic),
        spec_(source.spec()),
        input_(source.input),
        panels_(pack_panels(source, storage, stream)),
        words_(panels_.padded_cols / cols_per_word(arithmetic)) {}

  std::int64_t rows() const override { return panels_.rows; }
  std::int64_t cols() const override { return panels_.cols; }
  const QuantSpec& spec() const override { return spec_; }
  const InputQuant& input() const override { return input_; }
  std::int64_t nbytes() const override { return panels_.nbytes(); }
  bool native() const override {
    return arithmetic_ != PanelArithmetic::kF32 || input_.kind == InputQuant::Kind::kNone;
  }
  std::string_view kernel() const override { return kernel_; }

  void run(const Tensor& x, Tensor& y, Stream& stream) const override {
    Tensor staged, scales;
    if (scales_tokens(input_.kind)) scales = Tensor(DType::kF32, {x.dim(0)});
    const bool direct = arithmetic_ == PanelArithmetic::kF32 && input_.kind == InputQuant::Kind::kNone &&
                        cols() == words_ && (words_ % 1024 != 0 || x.dim(0) < kDirectRows);
    const Words words =
        direct ? Words{static_cast<const std::uint32_t*>(x.raw()), words_} : stage(x, staged, scales, stream);
    const float* token_scales = scales.defined() ? scales.data<float>() : nullptr;
    if (x.dim(0) <= most_rows(panels_, arithmetic_)) {
      run_rows(words, x.dim(0), token_scales, y, stream);
    } else {
      run_tiles(words, x.dim(0), token_scales, y, stream);
    }
  }

 private:
  // Rows of x that lie a multiple of a page apart share cache sets; copying them pays from this many on.
  static constexpr std::int64_t kDirectRows = 16;

  struct Words {
    const std::uint32_t* first;
    std::int64_t stride;
  };

  Words stage(const Tensor& x, Tensor& staged, Tensor& scales, Stream& stream) const {
    const std::int64_t stride = staged_stride(words_), rows = x.dim(0);
    staged = Tensor(DType::kU32, {rows, stride});
    std::uint32_t* words = staged.bits<std::uint32_t>();
    const float* values = x.data<float>();
    for_ranges(
        stream, rows, std::max<std::int64_t>(1, kSerialWork / 4 / cols()), [&](std::int64_t begin, std::int64_t end) {
          for (std::int64_t m = begin; m < end; ++m) {
            const float scale =
                stage_row(values + m * cols(), cols(), panels_.padded_cols, input_, arithmetic_, words + m * stride);
            if (scales.defined()) scales.data<float>()[m] = scale;
          }
        });
    return {words, stride};
  }

  void run_rows(const Words& x, std::int64_t rows, const float* scales, Tensor& y, Stream& stream) const {
    const std::int64_t at_once = row_panels(panels_, arithmetic_, rows);
    const std::int64_t sets = (panels_.count + at_once - 1) / at_once;
    // a small product stays in one piece; a large one is cut fine, so that the threads end together
    const std::int64_t grain = std::max<std::int64_t>(8, kSerialWork / (rows * panels_.padded_cols * kPanelRows));
    const std::int64_t pieces = std::min({(panels_.count + grain - 1) / grain, sets, kRowPieces * stream.pool->size()});
    stream.pool->parallel_for(pieces, [&](std::int64_t i) {
      multiply_rows(panels_, arithmetic_, x.first, x.stride, rows, sets * i / pieces * at_once,
                    std::min(panels_.count, sets * (i + 1) / pieces * at_once), scales, y.data<float>());
    });
  }

  void run_tiles(const Words& x, std::int64_t rows, const float* scales, Tensor& y, Stream& stream) const {
    const Tiling tiling{rows, (rows + tile_shape().rows - 1) / tile_shape().rows};
    const std::int64_t blocks = (rows + kRowsInCache - 1) / kRowsInCache;
    const std::int64_t pieces = (panels_.count + kPanelsInTask - 1) / kPanelsInTask;
    const auto task = [&](std::int64_t i) {
      const std::int64_t block = i / pieces, begin = i % pieces * kPanelsInTask;
      multiply_tiles(panels_, arithmetic_, x.first, x.stride, tiling, tiling.count * block / blocks,
                     tiling.count * (block + 1) / blocks, begin, std::min(panels_.count, begin + kPanelsInTask), scales,
                     y.data<float>());
    };
    if (rows * panels_.padded_cols * panels_.rows <= kSerialWork) {
      for (std::int64_t i = 0; i < blocks * pieces; ++i) task(i);
    } else {
      stream.pool->parallel_for(blocks * pieces, task);
    }
  }

  std::string_view kernel_;
  PanelArithmetic arithmetic_;
  QuantSpec spec_;
  InputQuant input_;
  Panels panels_;
  std::int64_t words_;  // of one row of x
};

// Groups end where decoders stop; the decoded block of a tile, a group at least, should fit the caches.
bool panels_fit(const QuantSpec& spec) {
  constexpr std::int64_t kMostInGroup = 4096;
  if (!has_vectors()) return false;
  if (spec.asymmetric && spec.element != Element::kInt4 && spec.element != Element::kInt8) return false;
  return spec.granularity != Granularity::kGroup || (spec.group % kColsMultiple == 0 && spec.group <= kMostInGroup);
}

constexpr LinearKernel kKernels[] = {
    {"vnni",
     [](const QuantSpec& spec, const InputQuant& input) {
       return has_vnni() && sums_integers(spec, input) && spec.group == 0;
     },
     [](const LinearSource& source, Stream& stream) -> std::shared_ptr<const PackedLinear> {
       return std::make_shared<PanelLinear>("vnni", PanelArithmetic::kInt8Quads, source, PanelStorage::kInt8Quads,
                                            stream);
     }},
    {"int16",
     [](const QuantSpec& spec, const InputQuant& input) { return sums_integers(spec, input) && panels_fit(spec); },
     [](const LinearSource& source, Stream& stream) -> std::shared_ptr<const PackedLinear> {
       return std::make_shared<PanelLinear>("int16", PanelArithmetic::kInt16Pairs, source, PanelStorage::kInt8Pairs,
                                            stream);
     }},
    {"f32",
     [](const QuantSpec& spec, const InputQuant& input) { return !sums_integers(spec, input) && panels_fit(spec); },
     [](const LinearSource& source, Stream& stream) -> std::shared_ptr<const PackedLinear> {
       return std::make_shared<PanelLinear>("f32", PanelArithmetic::kF32, source, panel_storage(source), stream);
     }},
};

}  // namespace

std::span<const LinearKernel> linear_kernels_cpu() { return kKernels; }

}  // namespace halftone
