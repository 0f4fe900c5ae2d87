// The CPU's kernels for linear(): packed panels, f32 or integer arithmetic.
#include <algorithm>
#include <bit>
#include <vector>

#include "backend/cpu/panel_products.h"
#include "ops/backend.h"

namespace halftone {
namespace {

// Multiplications below which a second thread costs more than it brings.
constexpr std::int64_t kSerialWork = 1 << 16;
// Rows of x whose block of K stays in the second-level cache while panels pass over it, and panels in one piece of
// work.
constexpr std::int64_t kRowsInCache = 240;
constexpr std::int64_t kPanelsInTask = 8;

// One row of codes as words: f32 bits, pairs of int16, or bytes with 128 added. `cols` is padded, so words are whole.
void to_words(const float* codes, std::int64_t cols, PanelArithmetic arithmetic, std::int64_t stride,
              std::uint32_t* words) {
  const auto integer = [&](std::int64_t k) { return static_cast<std::int32_t>(codes[k]); };
  switch (arithmetic) {
    case PanelArithmetic::kF32:
      for (std::int64_t k = 0; k < cols; ++k) words[k * stride] = std::bit_cast<std::uint32_t>(codes[k]);
      return;
    case PanelArithmetic::kInt16Pairs:
      for (std::int64_t k = 0; k < cols; k += 2) {
        words[k / 2 * stride] =
            (static_cast<std::uint32_t>(integer(k)) & 0xffff) | static_cast<std::uint32_t>(integer(k + 1)) << 16;
      }
      return;
    case PanelArithmetic::kInt8Quads:
      for (std::int64_t k = 0; k < cols; k += 4) {
        std::uint32_t word = 0;
        for (int i = 0; i < 4; ++i) word |= static_cast<std::uint32_t>(integer(k + i) + 128) << (8 * i);
        words[k / 4 * stride] = word;
      }
      return;
  }
}

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
    if (x.dim(0) <= kMaxVectorRows) {
      run_rows(x, y, stream);
    } else {
      run_tiles(x, y, stream);
    }
  }

 private:
  // Row m of x, quantized and padded, as words that lie `stride` apart.
  void stage_row(const Tensor& x, std::int64_t m, std::int64_t stride, std::uint32_t* words) const {
    static thread_local std::vector<float> codes;
    codes.assign(static_cast<std::size_t>(panels_.padded_cols), 0.0f);
    quantize_row_reference(x.data<float>() + m * cols(), cols(), input_, codes.data());
    to_words(codes.data(), panels_.padded_cols, arithmetic_, stride, words);
  }

  // Calls body(begin, end) over the range [0, count) of panels, in one piece when the product is small.
  template <typename Body>
  void split_panels(std::int64_t rows, Stream& stream, const Body& body) const {
    const std::int64_t grain = std::max<std::int64_t>(8, kSerialWork / (rows * panels_.padded_cols * kPanelRows));
    for_ranges(stream, panels_.count, grain, body);
  }

  void run_rows(const Tensor& x, Tensor& y, Stream& stream) const {
    const std::uint32_t* words = static_cast<const std::uint32_t*>(x.raw());
    Tensor staged;
    if (arithmetic_ != PanelArithmetic::kF32 || input_.kind != InputQuant::Kind::kNone || cols() != words_) {
      staged = Tensor(DType::kU32, {x.dim(0), words_});
      for (std::int64_t m = 0; m < x.dim(0); ++m) stage_row(x, m, 1, staged.bits<std::uint32_t>() + m * words_);
      words = staged.bits<std::uint32_t>();
    }
    split_panels(x.dim(0), stream, [&](std::int64_t begin, std::int64_t end) {
      multiply_rows(panels_, arithmetic_, words, x.dim(0), begin, end, y.data<float>());
    });
  }

  void run_tiles(const Tensor& x, Tensor& y, Stream& stream) const {
    const TileShape shape = tile_shape();
    const std::int64_t rows = x.dim(0);
    const Tiling tiling{rows, (rows + shape.rows - 1) / shape.rows};
    Tensor staged(DType::kU32, {rows, words_});
    std::uint32_t* words = staged.bits<std::uint32_t>();
    for_ranges(stream, tiling.count, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t t = begin; t < end; ++t) {
        const std::int64_t first = tiling.tile_begin(t), height = tiling.tile_begin(t + 1) - first;
        for (std::int64_t r = 0; r < height; ++r) stage_row(x, first + r, height, words + first * words_ + r);
      }
    });
    const std::int64_t blocks = (rows + kRowsInCache - 1) / kRowsInCache;
    const std::int64_t pieces = (panels_.count + kPanelsInTask - 1) / kPanelsInTask;
    const auto task = [&](std::int64_t i) {
      const std::int64_t block = i / pieces, begin = i % pieces * kPanelsInTask;
      multiply_tiles(panels_, arithmetic_, words, tiling, tiling.count * block / blocks,
                     tiling.count * (block + 1) / blocks, begin, std::min(panels_.count, begin + kPanelsInTask),
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

// Groups end where decoders stop; a group of the tiles must fit their block.
bool panels_fit(const QuantSpec& spec) {
  if (!has_vectors()) return false;
  return spec.granularity != Granularity::kGroup || (spec.group % kColsMultiple == 0 && spec.group <= 256);
}

constexpr LinearKernel kKernels[] = {
    {"vnni",
     [](const QuantSpec& spec, const InputQuant& input) {
       return has_vnni() && sums_integers(spec, input) && spec.granularity != Granularity::kGroup;
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
