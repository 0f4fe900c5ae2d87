#include "quant/svdquant.h"

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace halftone {
namespace {

using Matrix = Eigen::MatrixXd;
using RowMajor = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

// Singular values below this share of the largest are noise of the Gram matrix.
constexpr double kNoise = 1e-7;

Tensor to_tensor(const Matrix& matrix) {
  Tensor tensor(DType::kF32, {matrix.rows(), matrix.cols()});
  Eigen::Map<RowMajor>(tensor.data<float>(), matrix.rows(), matrix.cols()) = matrix.cast<float>();
  return tensor;
}

}  // namespace

// The singular vectors of the shorter side are eigenvectors of its Gram matrix; the others follow by one product. The
// condition of the leading directions is that of W squared, which f64 leaves exact far beyond f32.
LowRank find_low_rank(const Tensor& weight, std::int64_t rank) {
  require(weight.rank() == 2 && rank >= 1, "svdquant", "expected a matrix and a rank of 1 or more, got {} and {}",
          to_string(weight.shape()), rank);
  const std::int64_t rows = weight.dim(0), cols = weight.dim(1);
  const Matrix w = Eigen::Map<const RowMajor>(weight.data<float>(), rows, cols).cast<double>();
  require(w.allFinite(), "svdquant", "expected finite weights");
  const bool tall = rows >= cols;
  const Matrix gram = tall ? Matrix(w.transpose() * w) : Matrix(w * w.transpose());
  const Eigen::SelfAdjointEigenSolver<Matrix> solver(gram);
  const std::int64_t side = gram.rows(), used = std::min(rank, side);
  Matrix a = Matrix::Zero(rank, cols), b = Matrix::Zero(rows, rank);
  const double largest = std::sqrt(std::max(0.0, solver.eigenvalues()(side - 1)));
  for (std::int64_t i = 0; i < used; ++i) {
    const double value = std::sqrt(std::max(0.0, solver.eigenvalues()(side - 1 - i)));
    if (value <= largest * kNoise || value == 0) break;
    const Eigen::VectorXd vector = solver.eigenvectors().col(side - 1 - i);
    if (tall) {
      a.row(i) = vector.transpose();
      b.col(i) = w * vector;
    } else {
      a.row(i) = vector.transpose() * w / value;
      b.col(i) = vector * value;
    }
  }
  return {to_tensor(a), to_tensor(b)};
}

Tensor multiply(const LowRank& low_rank) {
  const std::int64_t rows = low_rank.b.dim(0), rank = low_rank.b.dim(1), cols = low_rank.a.dim(1);
  Tensor product = Tensor::zeros(DType::kF32, {rows, cols});
  for (std::int64_t r = 0; r < rows; ++r) {
    float* out = product.data<float>() + r * cols;
    for (std::int64_t k = 0; k < rank; ++k) {
      const float factor = low_rank.b.data<float>()[r * rank + k];
      const float* row = low_rank.a.data<float>() + k * cols;
      for (std::int64_t c = 0; c < cols; ++c) out[c] += factor * row[c];
    }
  }
  return product;
}

}  // namespace halftone
