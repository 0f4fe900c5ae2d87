#include "ops/instruction_set.h"

#include <hwy/targets.h>

namespace halftone {

std::string instruction_set() {
  const std::int64_t targets = hwy::SupportedTargets() & HWY_TARGETS;
  return hwy::TargetName(targets & -targets);  // the best one is the lowest bit
}

}  // namespace halftone
