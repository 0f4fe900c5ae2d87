// Per-target: one function over whole arrays, vector by vector.
#if defined(HALFTONE_BACKEND_CPU_MAP_VECTORS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HALFTONE_BACKEND_CPU_MAP_VECTORS_INL_H_
#undef HALFTONE_BACKEND_CPU_MAP_VECTORS_INL_H_
#else
#define HALFTONE_BACKEND_CPU_MAP_VECTORS_INL_H_
#endif

#include "backend/cpu/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace halftone::HWY_NAMESPACE {

// y[i] = function(inputs[i]...) for i < count; the last vector is masked, so that every element takes the same
// instructions. y may be one of the inputs.
template <class Function, class... Inputs>
HWY_INLINE void map_vectors(std::int64_t count, float* y, const Function& function, const Inputs*... inputs) {
  const F32 d;
  std::int64_t i = 0;
  for (; i + kPartLanes <= count; i += kPartLanes) hn::StoreU(function(hn::LoadU(d, inputs + i)...), d, y + i);
  if (i == count) return;
  const auto mask = hn::FirstN(d, static_cast<std::size_t>(count - i));
  hn::BlendedStore(function(hn::MaskedLoad(mask, d, inputs + i)...), mask, d, y + i);
}

}  // namespace halftone::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
