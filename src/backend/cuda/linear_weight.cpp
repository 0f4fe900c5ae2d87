#include "backend/cuda/linear_weight.h"

#include <bit>

namespace halftone::cuda {
namespace {

// Of codes in groups of `group` inputs, whose scales take scale_bytes each.
Scaling scaling_of_groups(CodeType type, std::int64_t group, std::size_t scale_bytes) {
  const bool unknown = type == CodeType::kBF16 || type == CodeType::kF16 || type == CodeType::kF32;
  if (unknown || !std::has_single_bit(static_cast<std::uint64_t>(group))) return Scaling::kOther;
  if (type == CodeType::kE2M1) {
    return scale_bytes == 1 && group >= 16 && group <= 64 ? Scaling::kOperands : Scaling::kOther;
  }
  if (type == CodeType::kNF4) return scale_bytes > 1 && group >= 32 && group <= 64 ? Scaling::kParts : Scaling::kOther;
  if (group >= decode_chunk(type)) return scale_bytes > 1 ? Scaling::kChunk : Scaling::kOther;
  return group >= 32 ? Scaling::kParts : Scaling::kOther;
}

}  // namespace

CodeType LinearWeight::code_type() const {
  switch (spec.element) {
    case Element::kF32:
      return CodeType::kF32;
    case Element::kF16:
      return CodeType::kF16;
    case Element::kInt8:
      return CodeType::kInt8;
    case Element::kInt4:
      return CodeType::kInt4;
    case Element::kE4M3:
    case Element::kE3M2:
    case Element::kE2M3:
      return CodeType::kE4M3;
    case Element::kE2M1:
      return CodeType::kE2M1;
    case Element::kNF4:
      return CodeType::kNF4;
    default:
      return CodeType::kBF16;
  }
}

Scaling LinearWeight::scaling() const {
  constexpr std::int64_t kLeastNf4Inputs = 32;
  const CodeType type = code_type();
  if (shifted) return Scaling::kOther;
  // of fewer inputs the sums' error does not cover that of the levels
  if (type == CodeType::kNF4 && cols < kLeastNf4Inputs) return Scaling::kOther;
  if (group_scales) return scaling_of_groups(type, group, dtype_size(group_scale_type));
  const bool unread =
      type == CodeType::kE2M1 || type == CodeType::kNF4 || type == CodeType::kF16 || type == CodeType::kF32;
  return unread ? Scaling::kOther : Scaling::kNone;
}

bool LinearWeight::multiplies_e4m3() const {
  const bool codes = input.kind == InputQuant::Kind::kStaticE4M3 || input.kind == InputQuant::Kind::kDynamicE4M3;
  return codes && code_type() == CodeType::kE4M3 && scaling() == Scaling::kNone;
}

bool LinearWeight::halves() const { return scaling() == Scaling::kParts && !lies_in_tiles(code_type()); }

std::int64_t LinearWeight::group_stride() const {
  const Scaling how = scaling();
  if (how != Scaling::kParts && how != Scaling::kOperands) return groups();
  const std::int64_t chunk = decode_chunk(code_type());
  return divide_up(cols, chunk) * (chunk / group);
}

}  // namespace halftone::cuda
