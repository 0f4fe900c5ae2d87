#include "backend/cuda/cublas_lt.h"

#include <cublasLt.h>
#include <dlfcn.h>

#include "base/error.h"

namespace halftone::cuda {
namespace {

constexpr std::string_view kWhere = "cuda product";

// The functions that are used of the library, and its handle.
struct Library {
  decltype(&cublasLtCreate) create;
  decltype(&cublasLtMatmulDescCreate) desc_create;
  decltype(&cublasLtMatmulDescSetAttribute) desc_set;
  decltype(&cublasLtMatmulDescDestroy) desc_destroy;
  decltype(&cublasLtMatrixLayoutCreate) layout_create;
  decltype(&cublasLtMatrixLayoutSetAttribute) layout_set;
  decltype(&cublasLtMatrixLayoutDestroy) layout_destroy;
  decltype(&cublasLtMatmulPreferenceCreate) preference_create;
  decltype(&cublasLtMatmulPreferenceSetAttribute) preference_set;
  decltype(&cublasLtMatmulPreferenceDestroy) preference_destroy;
  decltype(&cublasLtMatmulAlgoGetHeuristic) find_algorithm;
  decltype(&cublasLtMatmul) multiply;
  cublasLtHandle_t handle = nullptr;

  // Never closed: the library's own threads may outlive main().
  static const Library& get() {
    static const Library library;
    return library;
  }

 private:
  Library() {
    const std::string name = fmt::format("libcublasLt.so.{}", CUBLAS_VER_MAJOR);
    void* file = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!file) file = dlopen(("/usr/local/cuda/lib64/" + name).c_str(), RTLD_NOW | RTLD_LOCAL);
    require(file, kWhere, "large products on a GPU need cuBLAS {}, and {} is not found", CUBLAS_VER_MAJOR, name);
    load(file, "cublasLtCreate", create);
    load(file, "cublasLtMatmulDescCreate", desc_create);
    load(file, "cublasLtMatmulDescSetAttribute", desc_set);
    load(file, "cublasLtMatmulDescDestroy", desc_destroy);
    load(file, "cublasLtMatrixLayoutCreate", layout_create);
    load(file, "cublasLtMatrixLayoutSetAttribute", layout_set);
    load(file, "cublasLtMatrixLayoutDestroy", layout_destroy);
    load(file, "cublasLtMatmulPreferenceCreate", preference_create);
    load(file, "cublasLtMatmulPreferenceSetAttribute", preference_set);
    load(file, "cublasLtMatmulPreferenceDestroy", preference_destroy);
    load(file, "cublasLtMatmulAlgoGetHeuristic", find_algorithm);
    load(file, "cublasLtMatmul", multiply);
    const cublasStatus_t status = create(&handle);
    require(status == CUBLAS_STATUS_SUCCESS, kWhere, "cublasLtCreate failed with status {}", static_cast<int>(status));
  }

  template <typename Function>
  static void load(void* file, const char* name, Function& function) {
    function = reinterpret_cast<Function>(dlsym(file, name));
    require(function != nullptr, kWhere, "cuBLASLt has no {}", name);
  }
};

void check(cublasStatus_t status, std::string_view what) {
  if (status != CUBLAS_STATUS_SUCCESS) fail(kWhere, "{} failed with status {}", what, static_cast<int>(status));
}

cudaDataType_t data_type(DType dtype) {
  switch (dtype) {
    case DType::kBF16:
      return CUDA_R_16BF;
    case DType::kF32:
      return CUDA_R_32F;
    case DType::kF8E4M3:
      return CUDA_R_8F_E4M3;
    case DType::kI8:
      return CUDA_R_8I;
    case DType::kI32:
      return CUDA_R_32I;
    default:
      fail(kWhere, "expected BF16, F32, F8_E4M3, I8 or I32, got {}", dtype_name(dtype));
  }
}

}  // namespace

struct BlasProduct::State {
  const Library& library = Library::get();
  cublasLtMatmulDesc_t desc = nullptr;
  // the library's matrices are column-major: a row-major one is its own transpose
  cublasLtMatrixLayout_t w = nullptr, x = nullptr, y = nullptr;
  cublasLtMatmulPreference_t preference = nullptr;
  cublasLtMatmulAlgo_t algorithm{};
  std::size_t workspace_bytes = 0;
  bool integers = false, biased = false;

  ~State() {
    if (preference) library.preference_destroy(preference);
    for (cublasLtMatrixLayout_t layout : {w, x, y}) {
      if (layout) library.layout_destroy(layout);
    }
    if (desc) library.desc_destroy(desc);
  }

  void make_layout(cublasLtMatrixLayout_t& layout, const DeviceMatrix& matrix) const {
    check(library.layout_create(&layout, data_type(matrix.dtype), static_cast<std::uint64_t>(matrix.cols),
                                static_cast<std::uint64_t>(matrix.rows), matrix.stride),
          "cublasLtMatrixLayoutCreate");
  }

  void find_algorithm() {
    check(library.preference_create(&preference), "cublasLtMatmulPreferenceCreate");
    check(library.preference_set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace_bytes,
                                 sizeof(workspace_bytes)),
          "cublasLtMatmulPreferenceSetAttribute");
    const std::uint32_t whole_k = CUBLASLT_REDUCTION_SCHEME_NONE;
    check(library.preference_set(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &whole_k, sizeof(whole_k)),
          "cublasLtMatmulPreferenceSetAttribute");
    cublasLtMatmulHeuristicResult_t found{};
    int count = 0;
    const cublasStatus_t status =
        library.find_algorithm(library.handle, desc, w, x, y, y, preference, 1, &found, &count);
    require(status == CUBLAS_STATUS_SUCCESS && count == 1, kWhere,
            "cuBLASLt has no kernel for this product (status {})", static_cast<int>(status));
    algorithm = found.algo;
  }
};

BlasProduct::BlasProduct(const DeviceMatrix& x, const DeviceMatrix& w, const DeviceMatrix& y,
                         std::size_t workspace_bytes, bool biased)
    : state_(std::make_unique<State>()) {
  require(x.cols == w.cols && y.rows == x.rows && y.cols == w.rows && x.dtype == w.dtype, kWhere,
          "[{}, {}] by [{}, {}] does not give [{}, {}]", x.rows, x.cols, w.rows, w.cols, y.rows, y.cols);
  State& state = *state_;
  state.workspace_bytes = workspace_bytes;
  state.integers = x.dtype == DType::kI8;
  check(state.library.desc_create(&state.desc, state.integers ? CUBLAS_COMPUTE_32I : CUBLAS_COMPUTE_32F,
                                  state.integers ? CUDA_R_32I : CUDA_R_32F),
        "cublasLtMatmulDescCreate");
  const cublasOperation_t transposed = CUBLAS_OP_T;
  check(state.library.desc_set(state.desc, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof(transposed)),
        "cublasLtMatmulDescSetAttribute");
  if (biased) {
    const cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
    check(state.library.desc_set(state.desc, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof(epilogue)),
          "cublasLtMatmulDescSetAttribute");
  }
  state.biased = biased;
  state.make_layout(state.w, w);
  state.make_layout(state.x, x);
  state.make_layout(state.y, y);
  state.find_algorithm();
}

BlasProduct::~BlasProduct() = default;

bool BlasProduct::available() {
  try {
    Library::get();
    return true;
  } catch (const Error&) {
    return false;
  }
}

void BlasProduct::run(std::int64_t rows, const Operands& operands, const Launch& launch) const {
  const State& state = *state_;
  const auto columns = static_cast<std::uint64_t>(rows);
  for (const cublasLtMatrixLayout_t layout : {state.x, state.y}) {
    check(state.library.layout_set(layout, CUBLASLT_MATRIX_LAYOUT_COLS, &columns, sizeof(columns)),
          "cublasLtMatrixLayoutSetAttribute");
  }
  const float one = 1.0f, zero = 0.0f;
  const std::int32_t integer_one = 1, integer_zero = 0;
  const void* alpha = state.integers ? static_cast<const void*>(&integer_one) : &one;
  const void* beta = state.integers ? static_cast<const void*>(&integer_zero) : &zero;
  if (state.biased) {
    check(state.library.desc_set(state.desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &operands.bias, sizeof(operands.bias)),
          "cublasLtMatmulDescSetAttribute");
  }
  check(state.library.multiply(state.library.handle, state.desc, alpha, operands.w, state.w, operands.x, state.x, beta,
                               operands.y, state.y, operands.y, state.y, &state.algorithm, operands.workspace,
                               state.workspace_bytes, launch.stream),
        "cublasLtMatmul");
}

}  // namespace halftone::cuda
