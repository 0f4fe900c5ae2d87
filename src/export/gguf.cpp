#include "export/gguf.h"

#include <array>
#include <cstring>

#include "export/layouts.h"
#include "hf/gguf_names.h"

namespace halftone {
namespace {

constexpr std::string_view kWhere = "export gguf";

GgmlType type_of(DType dtype) {
  return dtype == DType::kF32 ? GgmlType::kF32 : dtype == DType::kF16 ? GgmlType::kF16 : GgmlType::kBF16;
}

Tensor as_f32(const Tensor& tensor) { return from_f32(to_f32(tensor), DType::kF32); }

// One tensor of the source as it is to be written: blocks, or a dtype of its own.
struct Source {
  std::string name, module, part;
  GgmlType type = GgmlType::kF32;
  Shape shape;
  std::function<Tensor()> load;
};

Source source_of(const ExportPlan& plan, const std::string& name, const TensorInfo& info) {
  const std::size_t dot = name.rfind('.');
  Source source{name,           name.substr(0, dot), dot == std::string::npos ? "" : name.substr(dot + 1),
                GgmlType::kF32, info.shape,          {}};
  const auto module = plan.modules.find(source.module);
  const auto changed = plan.tensors.find(name);
  Tensor replaced = changed == plan.tensors.end() ? Tensor() : changed->second;
  if (module != plan.modules.end() && source.part == "weight") {
    const auto type = ggml_type_of(module->second.weight.spec);
    require(type && module->second.blocks.defined() && module->second.input.kind == InputQuant::Kind::kNone, kWhere,
            "module '{}': expected blocks of Q8_0, Q4_0 or Q4_K with inputs as they are, got {}", source.module,
            to_string(module->second.weight.spec));
    source.type = *type;
    source.load = [blocks = module->second.blocks] { return blocks; };
    return source;
  }
  if (module != plan.modules.end() && source.part == "bias" && module->second.bias.defined()) {
    replaced = module->second.bias;
  }
  const auto load = [&plan, name, replaced] { return replaced.defined() ? replaced : plan.source.tensor(name); };
  source.load = load;
  if (info.shape.size() == 2) {
    source.type = type_of(info.dtype);
  } else {
    source.load = [load] { return as_f32(load()); };
  }
  return source;
}

// Rows [begin, begin + count) of the tensor's matrix of bytes.
Tensor row_range(const Tensor& tensor, std::int64_t begin, std::int64_t count, std::int64_t all) {
  const std::int64_t bytes = tensor.nbytes() / all;
  Tensor part(DType::kU8, {count * bytes});
  std::memcpy(part.raw(), static_cast<const std::byte*>(tensor.raw()) + begin * bytes,
              static_cast<std::size_t>(part.nbytes()));
  return part;
}

// Frame `frame` of [width, channels, 2, size, size] f32: [width, channels, size, size].
Tensor patch_frame(const Tensor& whole, std::int64_t frame) {
  const std::int64_t planes = whole.dim(0) * whole.dim(1), plane = whole.dim(3) * whole.dim(4);
  Tensor half(DType::kF32, {whole.dim(0), whole.dim(1), whole.dim(3), whole.dim(4)});
  for (std::int64_t i = 0; i < planes; ++i) {
    std::memcpy(half.data<float>() + i * plane, whole.data<float>() + (2 * i + frame) * plane,
                static_cast<std::size_t>(plane) * sizeof(float));
  }
  return half;
}

class TensorList {
 public:
  void add(const Source& source) {
    if (source.module.ends_with(".attn.qkv")) {
      add_qkv(source);
    } else if (source.module.ends_with(".patch_embed.proj")) {
      add_patches(source);
    } else {
      push(source.module, source.part, source.type, source.shape, source.load);
    }
  }

  std::vector<GgufTensorToWrite> tensors;

 private:
  void push(const std::string& module, const std::string& part, GgmlType type, const Shape& shape,
            std::function<Tensor()> load) {
    const auto name = gguf_module(module);
    require(name && (part == "weight" || part == "bias"), kWhere, "tensor '{}.{}': llama.cpp has no name for it",
            module, part);
    tensors.push_back({*name + "." + part, type, shape, std::move(load)});
  }

  void add_qkv(const Source& source) {
    require(source.shape.at(0) % 3 == 0, kWhere, "tensor '{}': expected query, key and value rows, got shape {}",
            source.name, to_string(source.shape));
    Shape shape = source.shape;
    shape[0] /= 3;
    const std::string stem = source.module.substr(0, source.module.size() - std::string_view("qkv").size());
    for (const auto& [letter, index] : {std::pair{"q", 0}, std::pair{"k", 1}, std::pair{"v", 2}}) {
      push(stem + letter, source.part, source.type, shape,
           [load = source.load, rows = shape[0], i = index] { return row_range(load(), i * rows, rows, 3 * rows); });
    }
  }

  // clip.cpp's convolutions take F16 or F32
  void add_patches(const Source& source) {
    const Shape& shape = source.shape;
    require(shape.size() == 5 && shape[2] == 2, kWhere, "tensor '{}': expected patches of two frames, got shape {}",
            source.name, to_string(shape));
    for (const std::int64_t frame : {0, 1}) {
      tensors.push_back({frame == 0 ? "v.patch_embd.weight" : "v.patch_embd.weight.1",
                         GgmlType::kF32,
                         {shape[0], shape[1], shape[3], shape[4]},
                         [load = source.load, frame] { return patch_frame(load(), frame); }});
    }
  }
};

}  // namespace

void write_gguf_files(const ExportPlan& plan, const std::filesystem::path& folder, const Progress& progress) {
  TensorList language, vision;
  for (const auto& [name, info] : plan.source.tensors()) {
    (in_vision_file(name) ? vision : language).add(source_of(plan, name, info));
  }
  write_gguf(folder / "model.gguf", language_values(plan), language.tensors, progress);
  if (!vision.tensors.empty()) write_gguf(folder / "mmproj.gguf", vision_values(plan), vision.tensors, progress);
}

}  // namespace halftone
