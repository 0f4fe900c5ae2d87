// The product for up to kDecodeTokens tokens, which takes as long as reading the weight: formats without scales of groups, and
// INT4 in groups of 128.

#include "backend/cuda/device/start_decode.cuh"

namespace halftone::cuda {

BatchDevice batch_device() {
  int device = 0;
  check(cudaGetDevice(&device), "cuda linear");
  const auto read = [&](cudaDeviceAttr attribute) {
    int value = 0;
    check(cudaDeviceGetAttribute(&value, attribute, device), "cuda linear");
    return value;
  };
  return {read(cudaDevAttrMultiProcessorCount),
          static_cast<std::size_t>(read(cudaDevAttrMaxSharedMemoryPerMultiprocessor)),
          read(cudaDevAttrClusterLaunch) != 0};
}

LinearArguments token_slice(LinearArguments arguments, int first, int count) {
  arguments.x += first * arguments.x_stride;
  arguments.y = static_cast<char*>(arguments.y) + first * arguments.y_stride * (arguments.y_f32 ? 4 : 2);
  if (arguments.residual) arguments.residual += first * arguments.residual_stride;
  if (arguments.x_scales) arguments.x_scales += first;
  if (arguments.x_group_scales) arguments.x_group_scales += first * static_cast<std::int64_t>(arguments.x_groups);
  arguments.m = count;
  return arguments;
}

int decode_chunk(CodeType type) {
  switch (type) {
    case CodeType::kBF16:
      return Bf16Words::kChunk;
    case CodeType::kInt4:
    case CodeType::kE2M1:
    case CodeType::kNF4:
      return Int4Words::kChunk;
    default:
      return Int8Words::kChunk;
  }
}

void start_linear_decode(const LinearArguments& arguments, int warps, const Launch& launch) {
  const bool chunks = arguments.code_type == CodeType::kInt4 && arguments.scaling == Scaling::kChunk &&
                      arguments.group == Int4Words::kChunk;
  if (arguments.scaling != Scaling::kNone && !chunks) return start_linear_decode_groups(arguments, warps, launch);
  switch (arguments.code_type) {
    case CodeType::kBF16:
      return start_format<WeightChunks<Bf16Words, false>>(arguments, warps, launch);
    case CodeType::kE4M3:
      return arguments.e4m3 ? start_format<WeightChunks<E4m3Halves, false>>(arguments, warps, launch)
                            : start_format<WeightChunks<E4m3Words, false>>(arguments, warps, launch);
    case CodeType::kInt8:
      return arguments.integers ? start_format<WeightChunks<Int8Integers, false>>(arguments, warps, launch)
                                : start_format<WeightChunks<Int8Words, false>>(arguments, warps, launch);
    default:
      return arguments.group_scales ? start_format<WeightChunks<Int4Words, true>>(arguments, warps, launch)
                                    : start_format<WeightChunks<Int4Words, false>>(arguments, warps, launch);
  }
}

}  // namespace halftone::cuda
