#pragma once
// y[m, n] = s_in[m] * sum_k x'[m, k] * W[n, k] + bias[n]
//
// x: [M, K] f32.  W: a QTensor [N, K], repacked once by pack_linear.  bias: [N] f32 or absent.  y: [M, N] f32, no
// aliasing. x' is x, or the codes of x when the input is quantized (InputQuant). s_in is the input's scale: the static
// one, that of the token, or 1; where blocks of a token have scales (NVFP4, groups of 128, MX), x' is code * block
// scale rounded to f32, and s_in is NVFP4's second level or 1.
//
// The order of summation is fixed, so that an element of y depends on its row of x and its row of W alone: not on M,
// not on threads, not on the kernel. With G consecutive k under one scale (G = K where a scale covers the whole row or
// none is):
//   y = bias + s_in * global_scale * sum_g scale[n, g] * (sum_{k in g} x'[k] * code[n, k])
//   inner: acc = fma(x'[k], code, acc), k ascending from acc = 0, in f32.  outer: total = fma(scale, acc, total), g
//   ascending from total = 0 (without scales total = acc).  last: y = fma(total, s_in * global_scale, bias), where the
//   factor is rounded to f32 once; without a factor y = total + bias.
// INT8 inputs with symmetric INT8 weights: the inner sum is exact in int32 (native), converted to f32, the rest as above.
// Asymmetric weights: w = fma(code - zero, scale, offset) is rounded to f32, total = fma(x'[k], w, total) over all k,
// ascending, whatever the groups; the last step as above.
// Error against exact arithmetic: K ulp of sum |x' * code| at worst, some sqrt(K) typically.
// Throws Error("[linear] ...") on shapes or dtypes that do not fit.

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/qtensor.h"
#include "tensor/stream.h"

namespace halftone {

// A weight laid out for the kernels of this machine, with its bias and the quantization of its input. Immutable.
class PackedLinear {
 public:
  virtual ~PackedLinear() = default;
  virtual std::int64_t rows() const = 0;  // N
  virtual std::int64_t cols() const = 0;  // K
  virtual const QuantSpec& spec() const = 0;
  virtual const InputQuant& input() const = 0;
  // Bytes held.
  virtual std::int64_t nbytes() const = 0;
  // True when codes are multiplied by instructions of their own format, false when they are decoded to f32 first.
  virtual bool native() const = 0;
  // The row of the kernel table that packed it.
  virtual std::string_view kernel() const = 0;
  // y = the product, shapes already checked: call linear().
  virtual void run(const Tensor& x, Tensor& y, Stream& stream) const = 0;
};

// Throws Error when the format is not supported. `kernel` forces a row of the kernel table by name ("" chooses the
// best).
std::shared_ptr<const PackedLinear> pack_linear(const QTensor& weight, const Tensor& bias, const InputQuant& input,
                                                Stream& stream, std::string_view kernel = "");
// One product of several matrices that share their input (q/k/v, gate/up): their rows one after another. All need one
// spec and one InputQuant. Scales per tensor and global scales may differ between the parts.
std::shared_ptr<const PackedLinear> pack_linear_fused(std::span<const QTensor> weights, std::span<const Tensor> biases,
                                                      const InputQuant& input, Stream& stream,
                                                      std::string_view kernel = "");

void linear(const Tensor& x, const PackedLinear& weight, Tensor& y, Stream& stream);

// The scalar reference: the formula above, one multiplication after another, from the unpacked weight.
void linear_reference(const Tensor& x, const QTensor& weight, const Tensor& bias, const InputQuant& input, Tensor& y);

// x' of the formula: [M, K] f32, as the kernels see it; scales: [M] f32, s_in of each token.
void quantize_input_reference(const Tensor& x, const InputQuant& input, Tensor& codes, Tensor& scales);

// Names of the kernels that this machine can run for such a product, best first, "reference" last.
std::vector<std::string> list_linear_kernels(const QuantSpec& spec, const InputQuant& input);

}  // namespace halftone
