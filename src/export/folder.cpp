#include <map>
#include <memory>
#include <set>
#include <tuple>

#include "base/file.h"
#include "export/gguf.h"
#include "export/plan.h"

namespace halftone {
namespace fs = std::filesystem;
namespace {

constexpr std::string_view kWhere = "export";

// What a module turns into, from an outline of it. Modules of one shape and format differ by name alone, and are many.
class Outlines {
 public:
  explicit Outlines(const ExportPlan& plan) : plan_(plan) {}

  std::vector<TensorSlot> slots(const std::string& name, const ExportModule& module) {
    const Key key{module.weight.payload.raw(), module.input_scales.raw(), module.low_rank_a.raw(), module.bias.raw()};
    auto it = known_.find(key);
    if (it == known_.end()) it = known_.emplace(key, suffixes(name, module)).first;
    std::vector<TensorSlot> slots = it->second;
    for (TensorSlot& slot : slots) slot.name = name + slot.name;
    return slots;
  }

 private:
  using Key = std::tuple<const void*, const void*, const void*, const void*>;  // the tensors that outlines share

  std::vector<TensorSlot> suffixes(const std::string& name, const ExportModule& module) const {
    std::vector<TensorSlot> slots;
    for (const auto& [n, t] : module_tensors(plan_, name, module)) {
      require(n.starts_with(name + "."), kWhere, "tensor '{}': expected a name within module '{}'", n, name);
      slots.push_back({n.substr(name.size()), t.dtype(), t.shape()});
    }
    return slots;
  }

  const ExportPlan& plan_;
  std::map<Key, std::vector<TensorSlot>> known_;
};

// The tensors of the new folder, in the order of the source; what a module turns into stands in the place of its
// weight.
std::vector<TensorSlot> slots_of(const ExportPlan& plan) {
  std::vector<TensorSlot> slots;
  Outlines outlines(plan);
  for (const auto& [name, info] : plan.source.tensors()) {
    const std::size_t dot = name.rfind('.');
    const auto module = plan.modules.find(name.substr(0, dot));
    const std::string_view part = dot == std::string::npos ? "" : std::string_view(name).substr(dot);
    if (module != plan.modules.end() && part == ".weight") {
      for (TensorSlot& slot : outlines.slots(module->first, module->second)) slots.push_back(std::move(slot));
    } else if (module == plan.modules.end() || part != ".bias" || !module->second.bias.defined()) {
      slots.push_back({name, info.dtype, info.shape});
    }
  }
  for (const auto& [n, t] : kv_tensors(plan)) slots.push_back({n, t.dtype(), t.shape()});
  return slots;
}

std::vector<FileLayout> lay_out(const ExportPlan& plan, const ExportOptions& options) {
  if (plan.layout == Layout::kGguf) return lay_out_gguf_files(plan);
  return lay_out_safetensors(slots_of(plan), options.max_shard_bytes);
}

}  // namespace

struct FolderWriter::State {
  State(ExportPlan outline, fs::path path, const ExportOptions& options, const Progress& progress)
      : plan(std::move(outline)), folder(std::move(path)), writer(folder, lay_out(plan, options), progress) {}

  bool gguf() const { return plan.layout == Layout::kGguf; }

  // A plain tensor as the source has it.
  void copy(const std::string& name) {
    const auto load = [source = plan.source, name] { return source.tensor(name); };
    if (!gguf()) return writer.write_later(name, load);
    for (const GgufPiece& piece : gguf_pieces(plan, name)) {
      writer.write_later(piece.slot.name, [load, cut = piece.cut] { return cut(load()); });
    }
  }

  // A plain tensor with a new value.
  void replace(const std::string& name, const Tensor& value) {
    if (!gguf()) return writer.write(name, value);
    for (const GgufPiece& piece : gguf_pieces(plan, name)) writer.write(piece.slot.name, piece.cut(value));
  }

  ExportPlan plan;
  fs::path folder;
  std::set<std::string> waiting;  // plain tensors that may still change
  std::set<std::string> modules;  // that have not come
  TensorWriter writer;
};

FolderWriter::FolderWriter(ExportPlan outline, const std::set<std::string>& changing, fs::path folder,
                           const ExportOptions& options, const Progress& progress) {
  check_plan(outline);
  check_kv(outline);
  copy_companions(outline.source.folder(), folder);
  state_ = std::make_unique<State>(std::move(outline), std::move(folder), options, progress);
  const ExportPlan& plan = state_->plan;
  for (const auto& [name, module] : plan.modules) state_->modules.insert(name);
  for (const auto& [name, info] : plan.source.tensors()) {
    if (plan.modules.contains(name.substr(0, name.rfind('.')))) continue;
    if (changing.contains(name)) {
      state_->waiting.insert(name);
    } else {
      state_->copy(name);
    }
  }
}

FolderWriter::~FolderWriter() = default;

void FolderWriter::write_module(const std::string& name, const ExportModule& module) {
  require(state_->modules.erase(name) == 1, kWhere, "module '{}': expected one of the outline, once", name);
  check_module(state_->plan, name, module);
  for (const auto& [n, t] : module_tensors(state_->plan, name, module)) state_->writer.write(n, t);
  // what the outline does not give a new value stays as it is
  const std::string bias = name + ".bias";
  if (!module.bias.defined() && state_->plan.source.contains(bias)) state_->copy(bias);
}

void FolderWriter::write_tensor(const std::string& name, const Tensor& tensor) {
  require(state_->waiting.erase(name) == 1, kWhere, "tensor '{}': expected one that may change, once", name);
  state_->replace(name, tensor);
}

void FolderWriter::finish(const KvQuantization& kv) {
  ExportPlan& plan = state_->plan;
  require(state_->modules.empty(), kWhere, "module '{}': outlined, but never written",
          state_->modules.empty() ? "" : *state_->modules.begin());
  for (const std::string& name : state_->waiting) state_->copy(name);
  plan.kv = kv;
  check_kv(plan);
  for (const auto& [n, t] : kv_tensors(plan)) state_->writer.write(n, t);
  write_configuration(plan, state_->folder);
  state_->writer.finish();
}

void export_checkpoint(const ExportPlan& plan, const fs::path& folder, const ExportOptions& options,
                       const Progress& progress) {
  check_tensors(plan);
  ExportPlan outline = plan;
  outline.tensors.clear();
  std::set<std::string> changing;
  for (const auto& [name, tensor] : plan.tensors) changing.insert(name);
  PendingFolder pending(folder);
  FolderWriter writer(std::move(outline), changing, pending.path(), options, progress);
  for (const auto& [name, module] : plan.modules) writer.write_module(name, module);
  for (const auto& [name, tensor] : plan.tensors) writer.write_tensor(name, tensor);
  writer.finish(plan.kv);
  pending.commit(options.replace);
}

}  // namespace halftone
