// Any bytes are a study file with a baseline, or an Error. Seeds: tests/fuzz/seeds/study.
#include <cstdlib>
#include <string_view>

#include "base/error.h"
#include "driver/study_plan.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace halftone;
  try {
    const std::string_view yaml(reinterpret_cast<const char*>(data), size);
    const StudyPlan plan = parse_study_plan(yaml, HALFTONE_SOURCE_DIR "/demo", "fuzz");
    if (plan.configurations.empty() || plan.baseline != plan.configurations.front()) std::abort();
  } catch (const Error&) {
  }
  return 0;
}
