#include "backend/cuda/prompt_way.h"

#include <algorithm>
#include <cstdlib>

#include "backend/cuda/cuda_error.h"
#include "backend/cuda/device/fp4_blocks.h"
#include "backend/cuda/device/fp4_products.h"
#include "backend/cuda/library_products.h"
#include "backend/cuda/prepare_input.h"

namespace halftone::cuda {
namespace {

using Form = BlasProduct::Form;

// 90 of 9.0.
int compute_capability() {
  static const int capability = [] {
    int device = 0, major = 0, minor = 0;
    check(cudaGetDevice(&device), "cuda linear");
    check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device), "cuda linear");
    check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device), "cuda linear");
    return 10 * major + minor;
  }();
  return capability;
}

bool library_has(Form form, const LinearWeight& weight) {
  return LibraryProducts::get().has(form, weight.rows, weight.cols);
}

// Products of E2M1 by E2M1 have run on no device yet: only for those who ask for them.
bool wants_e2m1_products() {
  static const bool wants = std::getenv("HALFTONE_NATIVE_FP4") != nullptr;
  return wants;
}

// NVFP4 by NVFP4 and MXFP4 by MXFP4 where the device multiplies E2M1 by E2M1.
PromptWay way_of_e2m1(const LinearWeight& weight) {
  const bool fits = weight.rows % 16 == 0 && weight.cols % 64 == 0 && weight.scaling() == Scaling::kOperands;
  if (!fits || compute_capability() < 100 || !wants_e2m1_products()) return PromptWay::kExpanded;
  const InputQuant::Kind kind = weight.input.kind;
  if (kind == InputQuant::Kind::kDynamicNvfp4 && weight.group == 16 && weight.group_scale_type == DType::kF8E4M3) {
    return library_has(Form::kFp4, weight) ? PromptWay::kNvfp4 : PromptWay::kExpanded;
  }
  const bool mx =
      kind == InputQuant::Kind::kDynamicMxfp4 && weight.group == 32 && weight.group_scale_type == DType::kF8E8M0;
  return mx && has_mxfp4_product() && compute_capability() == 120 ? PromptWay::kMxfp4 : PromptWay::kExpanded;
}

// Weights whose 128 inputs have a scale, with E4M3 inputs.
PromptWay way_of_blocks(const LinearWeight& weight) {
  if (weight.tile_scales) return library_has(Form::kTiles, weight) ? PromptWay::kTiles : PromptWay::kExpanded;
  const bool groups = weight.spec.element == Element::kInt4 && !weight.spec.asymmetric && weight.group_scales &&
                      weight.group == kInputGroup;
  return groups && library_has(Form::kGroups, weight) ? PromptWay::kGroups : PromptWay::kExpanded;
}

}  // namespace

PromptWay prompt_way(const LinearWeight& weight) {
  if (weight.plain) return PromptWay::kPlain;
  if (weight.multiplies_integers()) return PromptWay::kIntegers;
  if (weight.code_type() == CodeType::kE2M1) return way_of_e2m1(weight);
  const InputQuant::Kind kind = weight.input.kind;
  const bool e4m3 = kind == InputQuant::Kind::kStaticE4M3 || kind == InputQuant::Kind::kDynamicE4M3;
  const bool fits = weight.rows % 16 == 0 && weight.cols % 16 == 0;
  if ((!e4m3 && !scales_groups(kind)) || !fits) return PromptWay::kExpanded;
  if (e4m3 && weight.spec.element == Element::kE4M3 && !weight.group_scales) return PromptWay::kE4m3;
  return way_of_blocks(weight);
}

bool needs_expansion(const LinearWeight& weight, PromptWay way) {
  return way == PromptWay::kExpanded && (weight.code_type() != CodeType::kBF16 || weight.group_scales);
}

bool is_result(const LinearWeight& weight, PromptWay way) {
  return way == PromptWay::kPlain ||
         (way == PromptWay::kExpanded && weight.bare && !weight.row_scales && !scales_tokens(weight.input.kind));
}

PromptLayout prompt_layout(const LinearWeight& weight, PromptWay way, std::int64_t rows, bool apart) {
  std::size_t end = LibraryProducts::kWorkspace;
  const auto take = [&](std::int64_t count, std::size_t size) {
    const std::size_t begin = end;
    end += DeviceArena::padded(static_cast<std::size_t>(count) * size);
    return begin;
  };
  if (apart && !is_result(weight, way)) rows = std::min(rows, kMostSummedRows);
  const std::int64_t n = weight.rows, k = weight.cols, m = product_rows(way, rows);
  PromptLayout layout{};
  if (multiplies_e2m1(way)) {
    layout.w_codes = take(n * k / 2, 1);
    layout.w_scales = take(fp4::scale_bytes(n, weight.groups()), 1);
    layout.x_codes = take(m * k / 2, 1);
    layout.x_scales = take(fp4::scale_bytes(m, weight.groups()), 1);
  } else {
    const bool groups = way == PromptWay::kGroups;
    layout.w_codes = needs_expansion(weight, way) ? take(n * expanded_stride(k), sizeof(std::uint16_t))
                                                  : take(groups ? n * k : 0, 1);
    layout.w_scales = take(groups ? n * input_groups(k) : 0, sizeof(float));
    layout.x_scales = take(scales_blocks(way) ? m * input_groups(k) : 0, sizeof(float));
  }
  layout.product = take(apart ? m * n : 0, is_result(weight, way) ? sizeof(std::uint16_t) : sizeof(float));
  layout.end = end;
  return layout;
}

}  // namespace halftone::cuda
