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
  bool widen = false;  // to F32
};

Source source_of(const ExportPlan& plan, const std::string& name) {
  const TensorInfo& info = plan.source.tensors().at(name);
  const std::size_t dot = name.rfind('.');
  Source source{name, name.substr(0, dot), dot == std::string::npos ? "" : name.substr(dot + 1), GgmlType::kF32,
                info.shape};
  const auto module = plan.modules.find(source.module);
  if (module != plan.modules.end() && source.part == "weight") {
    const auto type = ggml_type_of(module->second.weight.spec);
    require(type && module->second.blocks.defined() && module->second.input.kind == InputQuant::Kind::kNone, kWhere,
            "module '{}': expected blocks of Q8_0, Q4_0 or Q4_K with inputs as they are, got {}", source.module,
            to_string(module->second.weight.spec));
    source.type = *type;
  } else if (info.shape.size() == 2) {
    source.type = type_of(info.dtype);
  } else {
    source.widen = true;
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

class Pieces {
 public:
  explicit Pieces(Source source) : source_(std::move(source)) {
    if (source_.module.ends_with(".attn.qkv")) {
      add_qkv();
    } else if (source_.module.ends_with(".patch_embed.proj")) {
      add_patches();
    } else {
      push(source_.module, source_.shape, as_bytes);
    }
  }
  std::vector<GgufPiece> take() { return std::move(pieces_); }

 private:
  using Cut = std::function<Tensor(const Tensor&)>;

  void push(const std::string& module, const Shape& shape, const Cut& cut) {
    const auto name = gguf_module(module);
    require(name && (source_.part == "weight" || source_.part == "bias"), kWhere,
            "tensor '{}.{}': llama.cpp has no name for it", module, source_.part);
    add(*name + "." + source_.part, shape, cut);
  }

  void add(std::string name, const Shape& shape, const Cut& cut) {
    const bool widen = source_.widen;
    pieces_.push_back({{std::move(name), source_.type, shape},
                       [widen, cut](const Tensor& whole) { return cut(widen ? as_f32(whole) : whole); }});
  }

  void add_qkv() {
    require(source_.shape.at(0) % 3 == 0, kWhere, "tensor '{}': expected query, key and value rows, got shape {}",
            source_.name, to_string(source_.shape));
    Shape shape = source_.shape;
    shape[0] /= 3;
    const std::string stem = source_.module.substr(0, source_.module.size() - std::string_view("qkv").size());
    for (const auto& [letter, index] : {std::pair{"q", 0}, std::pair{"k", 1}, std::pair{"v", 2}}) {
      push(stem + letter, shape,
           [rows = shape[0], i = index](const Tensor& whole) { return row_range(whole, i * rows, rows, 3 * rows); });
    }
  }

  // clip.cpp's convolutions take F16 or F32
  void add_patches() {
    const Shape& shape = source_.shape;
    require(shape.size() == 5 && shape[2] == 2, kWhere, "tensor '{}': expected patches of two frames, got shape {}",
            source_.name, to_string(shape));
    for (const std::int64_t frame : {0, 1}) {
      add(frame == 0 ? "v.patch_embd.weight" : "v.patch_embd.weight.1", {shape[0], shape[1], shape[3], shape[4]},
          [frame](const Tensor& whole) { return as_bytes(patch_frame(whole, frame)); });
    }
  }

  Source source_;
  std::vector<GgufPiece> pieces_;
};

}  // namespace

std::vector<GgufPiece> gguf_pieces(const ExportPlan& plan, const std::string& tensor) {
  return Pieces(source_of(plan, tensor)).take();
}

std::vector<FileLayout> lay_out_gguf_files(const ExportPlan& plan) {
  std::vector<GgufSlot> language, vision;
  for (const auto& [name, info] : plan.source.tensors()) {
    for (GgufPiece& piece : gguf_pieces(plan, name)) {
      (in_vision_file(name) ? vision : language).push_back(std::move(piece.slot));
    }
  }
  std::vector<FileLayout> files{lay_out_gguf("model.gguf", language_values(plan), language)};
  if (!vision.empty()) files.push_back(lay_out_gguf("mmproj.gguf", vision_values(plan), vision));
  return files;
}

}  // namespace halftone
