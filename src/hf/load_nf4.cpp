// Source: bitsandbytes 0.50 QuantState.from_dict, Params4bit.from_prequantized, dequantize_4bit.
#include "hf/load_nf4.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/fields.h"
#include "formats/nf4.h"
#include "hf/int_packing.h"

namespace halftone {
namespace {

constexpr std::string_view kState = "weight.quant_state.bitsandbytes__nf4";
constexpr std::string_view kRule = "4 bits of bitsandbytes";

class Nf4Reader {
 public:
  explicit Nf4Reader(const ModuleReader& tensors) : tensors_(tensors) {
    const Tensor text = tensors_.get(kState, {DType::kU8}, kRule);
    const std::string where = tensors_.source(kState) + ": tensor '" + tensors_.name(kState) + "'";
    const Json json =
        parse_json({static_cast<const char*>(text.raw()), static_cast<std::size_t>(text.nbytes())}, where);
    const Fields fields(json, where);
    const std::string type = fields.text("quant_type");
    if (type != "nf4") fields.refuse("quant_type", "nf4", fields.at("quant_type"));
    block_ = fields.count("blocksize", 1, kMostInBlock);
    shape_ = fields.get<std::vector<std::int64_t>>("shape");
    if (!fields.has("nested_blocksize")) return;
    nested_block_ = fields.count("nested_blocksize", 1, kMostInBlock);
    offset_ = static_cast<float>(fields.get<double>("nested_offset"));
    require(std::isfinite(offset_), where, "field 'nested_offset': expected a finite number, found {}", offset_);
  }

  QTensor read() const {
    const Tensor bytes = tensors_.get("weight", {DType::kU8}, kRule);
    check_shape(bytes);
    check_levels();
    QTensor q;
    q.shape = shape_;
    q.spec = {Element::kNF4, Granularity::kGroup, std::gcd(block_, q.cols())};
    q.payload = swap_nibbles(bytes).reshape(payload_shape(Element::kNF4, q.shape));
    const Tensor blocks = read_scales((2 * bytes.numel() + block_ - 1) / block_);
    q.scales = Tensor(DType::kF32, scales_shape(q.spec, q.shape));
    for (std::int64_t i = 0; i < q.scales.numel(); ++i) {
      q.scales.data<float>()[i] = blocks.data<float>()[i * q.spec.group / block_];
    }
    return q;
  }

 private:
  static constexpr std::int64_t kMostInBlock = 4096;

  // Compared by division: the stated shape may be anything.
  void check_shape(const Tensor& bytes) const {
    tensors_.expect_shape("weight", bytes, {bytes.numel(), 1}, kRule);  // [1, n] would mean the transposed matrix
    const std::int64_t weights = 2 * bytes.numel();
    const bool fits = shape_.size() == 2 && shape_[0] > 0 && shape_[1] > 0 && weights % shape_[0] == 0 &&
                      weights / shape_[0] == shape_[1];
    require(fits, tensors_.source("weight"), "tensor '{}': expected the {} codes of {} for the stated shape, found {}",
            tensors_.name("weight"), weights, to_string(bytes.shape()), to_string(shape_));
    require(shape_[1] % 2 == 0, tensors_.source("weight"), "tensor '{}': expected an even number of inputs, found {}",
            tensors_.name("weight"), shape_[1]);
  }

  void check_levels() const {
    const Tensor levels = tensors_.get("weight.quant_map", {DType::kF32}, kRule);
    tensors_.expect_shape("weight.quant_map", levels, {16}, kRule);
    require(std::equal(nf4::kLevels, nf4::kLevels + 16, levels.data<float>()), tensors_.source("weight.quant_map"),
            "tensor '{}': expected the levels of NF4, found others", tensors_.name("weight.quant_map"));
  }

  // The scales of the blocks, f32 [blocks].
  Tensor read_scales(std::int64_t blocks) const {
    const bool nested = nested_block_ > 0;
    const Tensor stored = tensors_.get("weight.absmax", {nested ? DType::kU8 : DType::kF32}, kRule);
    tensors_.expect_shape("weight.absmax", stored, {blocks}, kRule);
    if (!nested) {
      tensors_.check_scales("weight.absmax", stored);
      return stored;
    }
    const Tensor scales = read_floats("weight.nested_absmax", (blocks + nested_block_ - 1) / nested_block_);
    const Tensor codes = read_floats("weight.nested_quant_map", 256);
    Tensor decoded(DType::kF32, {blocks});
    for (std::int64_t b = 0; b < blocks; ++b) {
      const float value = codes.data<float>()[stored.bits<std::uint8_t>()[b]] * scales.data<float>()[b / nested_block_];
      decoded.data<float>()[b] = value + offset_;
    }
    return decoded;
  }

  Tensor read_floats(std::string_view part, std::int64_t count) const {
    const Tensor values = tensors_.get(part, {DType::kF32}, kRule);
    tensors_.expect_shape(part, values, {count}, kRule);
    tensors_.check_scales(part, values, true);
    return values;
  }

  const ModuleReader& tensors_;
  std::int64_t block_ = 0, nested_block_ = 0;
  float offset_ = 0;
  Shape shape_;
};

}  // namespace

bool has_nf4(const ModuleReader& tensors) { return tensors.has(kState) || tensors.has("weight.absmax"); }

QTensor read_nf4(const ModuleReader& tensors) { return Nf4Reader(tensors).read(); }

}  // namespace halftone
