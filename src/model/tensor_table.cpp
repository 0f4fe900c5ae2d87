#include "model/tensor_table.h"

#include <algorithm>
#include <array>

namespace halftone {
namespace {

struct Renaming {
  std::string_view canonical, resaved;
};

// transformers' own renaming when it saves a model again
constexpr std::array kRenamings{Renaming{"model.", "model.language_model."}, Renaming{"visual.", "model.visual."}};

bool has_module(const Checkpoint& checkpoint, const std::string& module) {
  const std::string prefix = module + ".";
  const auto it = checkpoint.tensors().lower_bound(prefix);
  return it != checkpoint.tensors().end() && it->first.starts_with(prefix);
}

std::vector<std::string> spellings(const std::string& module) {
  std::vector<std::string> names{module};
  for (const Renaming& renaming : kRenamings) {
    if (module.starts_with(renaming.canonical)) {
      names.push_back(std::string(renaming.resaved) + module.substr(renaming.canonical.size()));
    }
  }
  return names;
}

// The stored name, or "" when the checkpoint has no such module.
std::string find_stored(const Checkpoint& checkpoint, const std::string& module) {
  for (const std::string& name : spellings(module)) {
    if (has_module(checkpoint, name)) return name;
  }
  return "";
}

bool is_plain(DType dtype) { return dtype == DType::kBF16 || dtype == DType::kF16 || dtype == DType::kF32; }

void check_tensor(const Checkpoint& checkpoint, const std::string& name, const Shape& shape, bool quantized_allowed) {
  const auto it = checkpoint.tensors().find(name);
  if (it == checkpoint.tensors().end()) {
    require(quantized_allowed, checkpoint.file_of(name), "tensor '{}': missing", name);
    return;
  }
  const TensorInfo& info = it->second;
  if (!is_plain(info.dtype) && quantized_allowed) return;
  require(is_plain(info.dtype), info.file.string(), "tensor '{}': expected BF16, F16 or F32, found {}", name,
          dtype_name(info.dtype));
  require(info.shape == shape, info.file.string(), "tensor '{}': expected shape {}, found {}", name, to_string(shape),
          to_string(info.shape));
}

void check_module(const ModuleInfo& info, const Checkpoint& checkpoint) {
  const bool quantized = checkpoint.quantization().layout() != Layout::kAsIs;
  check_tensor(checkpoint, info.stored + ".weight", info.shape, info.linear && quantized);
  if (info.has_bias) check_tensor(checkpoint, info.stored + ".bias", {info.shape[0]}, false);
}

template <typename Modules>
auto find_class(Modules& modules, RuleClass wanted) {
  return std::find_if(modules.begin(), modules.end(),
                      [&](const ModuleInfo& info) { return info.rule_class == wanted; });
}

}  // namespace

std::string_view to_string(RuleClass rule_class) {
  constexpr std::array<std::string_view, 7> kNames{"attention", "mlp",    "norm",     "embedding",
                                                   "head",      "vision", "projector"};
  return kNames.at(static_cast<std::size_t>(rule_class));
}

Checkpoint untie_head(const Checkpoint& checkpoint, std::span<const ModuleInfo> modules) {
  const auto head = find_class(modules, RuleClass::kHead), embedding = find_class(modules, RuleClass::kEmbedding),
             norm = find_class(modules, RuleClass::kNorm);
  require(head != modules.end() && embedding != modules.end() && norm != modules.end(), checkpoint.folder().string(),
          "expected a head, an embedding and a norm, found {} modules", modules.size());
  if (!head->tied) return checkpoint.untied(head->stored, embedding->stored);
  if (head->stored != head->module) return checkpoint.untied(head->module, embedding->stored);
  // stored as the head alone: the embedding gets the name that goes with the norms'
  const std::vector<std::string> names = spellings(norm->module);
  const auto spelling = std::find(names.begin(), names.end(), norm->stored) - names.begin();
  return checkpoint.untied(head->stored, spellings(embedding->module).at(static_cast<std::size_t>(spelling)));
}

std::vector<ModuleInfo> resolve_modules(std::vector<ModuleInfo> table, const Checkpoint& checkpoint) {
  for (ModuleInfo& info : table) info.stored = find_stored(checkpoint, info.module);
  const auto head = find_class(table, RuleClass::kHead), embedding = find_class(table, RuleClass::kEmbedding);
  if (head != table.end() && embedding != table.end() && head->tied) {
    // a tied pair may be stored under either name, or both
    if (embedding->stored.empty()) {
      embedding->stored = head->stored;
    } else if (head->stored.empty()) {
      head->stored = embedding->stored;
    } else {
      head->tied = false;
    }
  }
  for (const ModuleInfo& info : table) {
    const std::string resaved = spellings(info.module).back();
    require(!info.stored.empty(), checkpoint.file_of(info.module), "tensor '{}.weight': missing{}", info.module,
            resaved == info.module ? "" : fmt::format(" (also as '{}.weight')", resaved));
    check_module(info, checkpoint);
  }
  return table;
}

}  // namespace halftone
