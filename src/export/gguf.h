#pragma once
// llama.cpp's files: the language model in model.gguf, the vision tower in mmproj.gguf, with the names and values that
// llama.cpp's convert_hf_to_gguf.py gives a Qwen2-VL. Sources: llama.cpp convert_hf_to_gguf.py (Qwen2VLModel,
// Qwen2VLVisionModel), gguf-py, tools/mtmd/clip.cpp.

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "export/export.h"
#include "hf/gguf_writer.h"

namespace halftone {

// What one tensor of the source turns into: another name, and for the tower's joined matrices several pieces.
struct GgufPiece {
  GgufSlot slot;
  std::function<Tensor(const Tensor& whole)> cut;  // of the tensor, or of its module's blocks: kU8 [bytes]
};

// Vectors and the patch embedding become F32, other tensors that are not quantized keep their type. Throws Error
// naming the module for what llama.cpp has no name for, and for a quantized weight that is no block type.
std::vector<GgufPiece> gguf_pieces(const ExportPlan& plan, const std::string& tensor);
// Both files.
std::vector<FileLayout> lay_out_gguf_files(const ExportPlan& plan);

// What the headers of both files say; common_file_type() is their general.file_type.
GgufValues language_values(const ExportPlan& plan);
GgufValues vision_values(const ExportPlan& plan);
// Appends tokenizer.ggml.*: `rows` tokens, those that the tokenizer lacks as unused ones.
void add_tokenizer_values(const std::filesystem::path& folder, std::int64_t rows, GgufValues& values);

}  // namespace halftone
