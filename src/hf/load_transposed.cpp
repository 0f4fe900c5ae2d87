#include "hf/load_transposed.h"

#include <algorithm>
#include <numeric>

#include "hf/transposed_packing.h"

namespace halftone {
namespace {

class TransposedReader {
 public:
  TransposedReader(const ModuleReader& tensors, const LinearScheme& scheme)
      : tensors_(tensors), storage_(scheme.storage), spec_(scheme.weights), bits_(code_bits(scheme.weights.element)) {
    const Tensor qweight = tensors_.get("qweight", {DType::kI32}, spec_);
    require(qweight.rank() == 2, tensors_.source("qweight"), "tensor '{}': expected a matrix of words, found shape {}",
            tensors_.name("qweight"), to_string(qweight.shape()));
    codes_ = storage_ == Storage::kAwq ? unpack_rows(qweight, bits_, WordOrder::kAwq) : unpack_columns(qweight, bits_);
    groups_ = spec_.granularity == Granularity::kGroup ? (cols() + spec_.group - 1) / spec_.group : 1;
    require(rows() % (32 / bits_) == 0, tensors_.source("qweight"),
            "tensor '{}': expected outputs in whole words of {}, found {}", tensors_.name("qweight"), 32 / bits_,
            rows());
    require(storage_ != Storage::kAwq || spec_.group == 0 || cols() % spec_.group == 0, tensors_.source("qweight"),
            "tensor '{}': expected inputs in whole groups of {}, found {}", tensors_.name("qweight"), spec_.group,
            cols());
  }

  void read(LinearParts& parts) {
    if (storage_ != Storage::kAwq) parts.input_order = read_order();
    QTensor& q = parts.weight;
    q.spec = spec_;
    q.shape = {rows(), cols()};
    if (parts.input_order.defined()) reorder(parts.input_order);
    q.payload = payload_from_transposed(codes_, spec_.element);
    q.scales = transposed(read_scales());
    q.zeros = read_zeros();
    q.spec.asymmetric = q.zeros.defined();
    if (spec_.granularity == Granularity::kChannel) {
      q.scales = q.scales.reshape({rows()});
      if (q.zeros.defined()) q.zeros = q.zeros.reshape({rows()});
    }
    check_qtensor(q, tensors_.source("qweight") + ": " + tensors_.module());
  }

 private:
  std::int64_t rows() const { return codes_.dim(1); }
  std::int64_t cols() const { return codes_.dim(0); }

  Tensor read_scales() const {
    const Tensor scales = tensors_.get("scales", {DType::kF16, DType::kBF16, DType::kF32}, spec_);
    expect("scales", scales, {groups_, rows()});
    tensors_.check_scales("scales", scales);
    return scales;
  }

  // Our zeros [rows, groups], or nothing when each is the middle of the codes.
  Tensor read_zeros() const {
    const Tensor words = tensors_.get("qzeros", {DType::kI32}, spec_);
    expect("qzeros", words, {groups_, rows() * bits_ / 32});
    const WordOrder order = storage_ == Storage::kAwq ? WordOrder::kAwq : WordOrder::kPlain;
    const Tensor stored = transposed(unpack_rows(words, bits_, order));
    const int middle = 1 << (bits_ - 1), missing = storage_ == Storage::kGptq ? 1 : 0;
    Tensor zeros(DType::kI8, stored.shape());
    bool symmetric = true;
    for (std::int64_t i = 0; i < stored.numel(); ++i) {
      const int zero = stored.bits<std::uint8_t>()[i] + missing - middle;
      if (zero > INT8_MAX) {
        fail(tensors_.source("qzeros"), "tensor '{}': expected zero points up to 255, found 256 at {}",
             tensors_.name("qzeros"), i);
      }
      zeros.data<std::int8_t>()[i] = static_cast<std::int8_t>(zero);
      symmetric = symmetric && zero == 0;
    }
    require(symmetric || spec_.asymmetric, tensors_.source("qzeros"),
            "tensor '{}': expected zero points of {} (the configuration says symmetric), found others",
            tensors_.name("qzeros"), middle - missing);
    return symmetric ? Tensor() : zeros;
  }

  // g_idx as the order of the inputs; nothing when groups are contiguous already.
  Tensor read_order() const {
    if (!tensors_.has("g_idx")) return {};
    const Tensor group_of = tensors_.get("g_idx", {DType::kI32, DType::kI64}, spec_);
    expect("g_idx", group_of, {cols()});
    std::vector<std::int64_t> groups(static_cast<std::size_t>(cols()));
    for (std::int64_t i = 0; i < cols(); ++i) {
      const std::int64_t g =
          group_of.dtype() == DType::kI32 ? group_of.data<std::int32_t>()[i] : group_of.data<std::int64_t>()[i];
      if (g < 0 || g >= groups_) {
        fail(tensors_.source("g_idx"), "tensor '{}': expected groups below {}, found {} at {}", tensors_.name("g_idx"),
             groups_, g, i);
      }
      groups[static_cast<std::size_t>(i)] = g;
    }
    Tensor order(DType::kI32, {cols()});
    std::int32_t* const begin = order.data<std::int32_t>();
    std::iota(begin, begin + cols(), 0);
    const auto group = [&](std::int32_t i) { return groups[static_cast<std::size_t>(i)]; };
    if (std::is_sorted(begin, begin + cols(), [&](std::int32_t a, std::int32_t b) { return group(a) < group(b); })) {
      check_sizes(order, groups);
      return {};
    }
    std::stable_sort(begin, begin + cols(), [&](std::int32_t a, std::int32_t b) { return group(a) < group(b); });
    check_sizes(order, groups);
    return order;
  }

  // Column j of the order must lie in group j / group: only then are groups of equal length contiguous.
  void check_sizes(const Tensor& order, const std::vector<std::int64_t>& groups) const {
    const std::int64_t size = spec_.group > 0 ? spec_.group : cols();
    for (std::int64_t j = 0; j < cols(); ++j) {
      const std::int64_t found = groups[static_cast<std::size_t>(order.data<std::int32_t>()[j])];
      if (found == j / size) continue;
      fail(tensors_.source("g_idx"), "tensor '{}': expected {} inputs in each group, found another number in group {}",
           tensors_.name("g_idx"), size, std::min(found, j / size));
    }
  }

  void reorder(const Tensor& order) {
    Tensor sorted(DType::kU8, codes_.shape());
    for (std::int64_t j = 0; j < cols(); ++j) {
      const std::uint8_t* from = codes_.bits<std::uint8_t>() + order.data<std::int32_t>()[j] * rows();
      std::copy_n(from, rows(), sorted.bits<std::uint8_t>() + j * rows());
    }
    codes_ = sorted;
  }

  void expect(std::string_view part, const Tensor& tensor, const Shape& shape) const {
    require(tensor.shape() == shape, tensors_.source(part),
            "tensor '{}': expected shape {} for {} of a [{}, {}] weight, found {}", tensors_.name(part),
            to_string(shape), to_string(spec_), rows(), cols(), to_string(tensor.shape()));
  }

  const ModuleReader& tensors_;
  Storage storage_;
  QuantSpec spec_;
  int bits_;
  Tensor codes_;  // unsigned, U8 [cols, rows]
  std::int64_t groups_ = 1;
};

}  // namespace

void read_transposed(const ModuleReader& tensors, const LinearScheme& scheme, LinearParts& parts) {
  TransposedReader(tensors, scheme).read(parts);
}

}  // namespace halftone
