#include "driver/check_target.h"

#include <fmt/ranges.h>

#include "base/log.h"
#include "model/registry.h"

namespace halftone {

TargetFolder folder_for_target(const Checkpoint& source, const Recipe& recipe) {
  const std::vector<ModuleInfo> modules = read_structure(source).modules;
  const std::vector<LinearFormat> formats = resolve_rules(recipe, modules);
  TargetFolder folder;
  folder.layout = recipe.layout;
  folder.kv_format = recipe.kv_format;
  for (std::size_t i = 0; i < modules.size(); ++i) {
    if (!modules[i].linear || modules[i].tied) continue;
    folder.modules.push_back({modules[i].stored, modules[i].shape, formats[i].weights, formats[i].inputs});
  }
  return folder;
}

void check_for_target(Target target, const Checkpoint& source, const Recipe& recipe, bool force) {
  std::vector<std::string> refused;
  for (const TargetFinding& finding : check_target(target, folder_for_target(source, recipe))) {
    const std::string line = fmt::format("{}: {}", finding.rule, finding.reason);
    if (finding.refused && !force) {
      refused.push_back(line);
    } else {
      log_warning("{}", line);
    }
  }
  require(refused.empty(), configuration_name(recipe),
          "the target refuses this folder (--force writes it all the same):\n  {}", fmt::join(refused, "\n  "));
}

void warn_of_vision(const Checkpoint& source, const Recipe& recipe) {
  const TargetFolder folder = folder_for_target(source, recipe);
  for (const Target target : {Target::kVllm, Target::kSglang}) {
    for (const TargetFinding& finding : check_target(target, folder)) {
      if (finding.rule.ends_with("vision tower")) log_warning("{}: {}", finding.rule, finding.reason);
    }
  }
}

}  // namespace halftone
