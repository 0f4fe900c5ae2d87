#pragma once
// Runs a check on every instruction set that this machine has and the kernels are compiled for.

#include "backend/cpu/simd.h"
// clang-format off
#include <hwy/highway.h>
// clang-format on
#include <gtest/gtest.h>

namespace halftone {

template <typename Check>
void for_each_target(Check check) {
  const std::int64_t supported = hwy::SupportedTargets();
  const std::int64_t compiled[] = {HWY_AVX3, HWY_AVX2, HWY_NEON};
  for (const std::int64_t target : compiled) {
    if ((supported & target) == 0) continue;
    SCOPED_TRACE(hwy::TargetName(target));
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    check();
    hwy::SetSupportedTargetsForTest(0);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  }
}

}  // namespace halftone
