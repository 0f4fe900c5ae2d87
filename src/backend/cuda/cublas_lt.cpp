#include "backend/cuda/cublas_lt.h"

#include <cublasLt.h>
#include <dlfcn.h>

#include <vector>

#include "backend/cuda/cuda_error.h"
#include "backend/cuda/event_timer.h"
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
    case DType::kU8:
      return CUDA_R_4F_E2M1;
    default:
      fail(kWhere, "expected BF16, F32, F8_E4M3, I8, I32 or U8, got {}", dtype_name(dtype));
  }
}

}  // namespace

struct BlasProduct::State {
  const Library& library = Library::get();
  cublasLtMatmulDesc_t desc = nullptr;
  // the library's matrices are column-major: a row-major one is its own transpose
  cublasLtMatrixLayout_t w = nullptr, x = nullptr, y = nullptr;
  cublasLtMatmulPreference_t preference = nullptr;
  std::vector<cublasLtMatmulAlgo_t> algorithms;  // one, when they were timed
  std::size_t workspace_bytes = 0;
  bool integers = false;
  Form form = Form::kPlain;
  bool biased = false;

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

  template <typename Value>
  void set(cublasLtMatmulDescAttributes_t attribute, const Value& value) const {
    check(library.desc_set(desc, attribute, &value, sizeof(value)), "cublasLtMatmulDescSetAttribute");
  }

  bool scaled() const { return form != Form::kPlain; }

  void set_scale_modes() const {
#if CUBLAS_VERSION >= 120900
    const cublasLtMatmulMatrixScale_t x_mode = form == Form::kScaled ? CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F
                                               : form == Form::kFp4  ? CUBLASLT_MATMUL_MATRIX_SCALE_VEC16_UE4M3
                                                                     : CUBLASLT_MATMUL_MATRIX_SCALE_VEC128_32F;
    set(CUBLASLT_MATMUL_DESC_A_SCALE_MODE, form == Form::kTiles ? CUBLASLT_MATMUL_MATRIX_SCALE_BLK128x128_32F : x_mode);
    set(CUBLASLT_MATMUL_DESC_B_SCALE_MODE, x_mode);
    // that there are some is asked before they are there; nobody reads them
    const auto* some = reinterpret_cast<const void*>(std::uintptr_t{256});
    set_scales(some, some);
#else
    fail(kWhere, "expected cuBLAS 12.9 or newer for products with such scales, the program is built with {}",
         CUBLAS_VERSION);
#endif
  }

  void set_scales(const void* x_scales, const void* w_scales) const {
    set(CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, w_scales);
    set(CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, x_scales);
  }

  void set_rows(std::int64_t rows) const {
    const auto columns = static_cast<std::uint64_t>(rows);
    for (const cublasLtMatrixLayout_t layout : {x, y}) {
      check(library.layout_set(layout, CUBLASLT_MATRIX_LAYOUT_COLS, &columns, sizeof(columns)),
            "cublasLtMatrixLayoutSetAttribute");
    }
  }

  void set_preference() {
    check(library.preference_create(&preference), "cublasLtMatmulPreferenceCreate");
    check(library.preference_set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace_bytes,
                                 sizeof(workspace_bytes)),
          "cublasLtMatmulPreferenceSetAttribute");
    const std::uint32_t whole_k = CUBLASLT_REDUCTION_SCHEME_NONE;
    check(library.preference_set(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &whole_k, sizeof(whole_k)),
          "cublasLtMatmulPreferenceSetAttribute");
  }

  cublasStatus_t find_algorithms() {
    constexpr int kMost = 8;
    cublasLtMatmulHeuristicResult_t found[kMost];
    int count = 0;
    const cublasStatus_t status =
        library.find_algorithm(library.handle, desc, w, x, y, y, preference, kMost, found, &count);
    for (int i = 0; status == CUBLAS_STATUS_SUCCESS && i < count; ++i) algorithms.push_back(found[i].algo);
    return status;
  }

  cublasStatus_t multiply(const cublasLtMatmulAlgo_t& algorithm, const Operands& operands, cudaStream_t stream) const {
    const float zero = 0.0f;
    const std::int32_t integer_one = 1, integer_zero = 0;
    const void* alpha = integers ? static_cast<const void*>(&integer_one) : &operands.scale;
    const void* beta = integers ? static_cast<const void*>(&integer_zero) : &zero;
    return library.multiply(library.handle, desc, alpha, operands.w, w, operands.x, x, beta, operands.y, y, operands.y,
                            y, &algorithm, operands.workspace, workspace_bytes, stream);
  }

  // What is recorded is not timed, and goes by the library's first choice.
  void keep_quickest(const Operands& operands, cudaStream_t stream) {
    cudaStreamCaptureStatus recording = cudaStreamCaptureStatusNone;
    check(cudaStreamIsCapturing(stream, &recording), kWhere);
    if (algorithms.size() == 1 || recording != cudaStreamCaptureStatusNone) return;
    constexpr int kRepeats = 2;
    double least = 0;
    const cublasLtMatmulAlgo_t* quickest = nullptr;
    for (const cublasLtMatmulAlgo_t& algorithm : algorithms) {
      if (multiply(algorithm, operands, stream) != CUBLAS_STATUS_SUCCESS) continue;
      const double ms = median_milliseconds(stream, 0, kRepeats, [&] { multiply(algorithm, operands, stream); });
      if (!quickest || ms < least) quickest = &algorithm, least = ms;
    }
    if (quickest) algorithms = {cublasLtMatmulAlgo_t(*quickest)};
  }
};

BlasProduct::BlasProduct(const DeviceMatrix& x, const DeviceMatrix& w, const DeviceMatrix& y,
                         std::size_t workspace_bytes, Form form, bool biased)
    : state_(std::make_unique<State>()) {
  require(x.cols == w.cols && y.rows == x.rows && y.cols == w.rows && x.dtype == w.dtype, kWhere,
          "[{}, {}] by [{}, {}] does not give [{}, {}]", x.rows, x.cols, w.rows, w.cols, y.rows, y.cols);
  State& state = *state_;
  state.workspace_bytes = workspace_bytes;
  state.integers = x.dtype == DType::kI8;
  check(state.library.desc_create(&state.desc, state.integers ? CUBLAS_COMPUTE_32I : CUBLAS_COMPUTE_32F,
                                  state.integers ? CUDA_R_32I : CUDA_R_32F),
        "cublasLtMatmulDescCreate");
  state.form = form;
  state.biased = biased;
  state.set(CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T);
  if (biased) state.set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
  if (state.scaled()) state.set_scale_modes();
  state.make_layout(state.w, w);
  state.make_layout(state.x, x);
  state.make_layout(state.y, y);
  state.set_preference();
  cublasStatus_t status = state.find_algorithms();
  if (state.algorithms.empty()) {
    state.set_rows(kManyRows);
    status = state.find_algorithms();
  }
  require(!state.algorithms.empty(), kWhere, "cuBLASLt has no kernel for this product (status {})",
          static_cast<int>(status));
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
  State& state = *state_;
  state.set_rows(rows);
  if (state.biased) state.set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, operands.bias);
  if (state.scaled()) state.set_scales(operands.x_scales, operands.w_scales);
  state.keep_quickest(operands, launch.stream);
  check(state.multiply(state.algorithms.front(), operands, launch.stream), "cublasLtMatmul");
}

}  // namespace halftone::cuda
