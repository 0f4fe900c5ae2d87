#include "model/registry.h"

#include <array>

#include "model/decoders/qwen2.h"
#include "model/encoders/qwen2_vl_vision.h"
#include "model/projectors/patch_merger.h"
#include "model/qwen2_vl.h"

namespace halftone {
namespace {

constexpr std::array kArchitectures{
    Architecture{"qwen2_vl", read_qwen2_vl_config, qwen2_vl_table, make_qwen2_vl_vision, make_patch_merger,
                 make_qwen2_decoder},
};

}  // namespace

const Architecture& find_architecture(const Checkpoint& checkpoint) {
  const std::string source = (checkpoint.folder() / "config.json").string();
  const auto model_type = get_field<std::string>(checkpoint.config(), "model_type", source);
  std::string known;
  for (const Architecture& row : kArchitectures) {
    if (row.model_type == model_type) return row;
    known += fmt::format("{}\"{}\"", known.empty() ? "" : ", ", row.model_type);
  }
  fail(source, "field 'model_type': expected one of {}, found \"{}\"", known, model_type);
}

Structure read_structure(const Checkpoint& checkpoint) {
  const Architecture& architecture = find_architecture(checkpoint);
  Structure structure{architecture.read_config(checkpoint), {}};
  structure.modules = resolve_modules(architecture.table(structure.config), checkpoint);
  return structure;
}

}  // namespace halftone
