#pragma once
// llama.cpp's files: the language model in model.gguf, the vision tower in mmproj.gguf, with the names and values that
// llama.cpp's convert_hf_to_gguf.py gives a Qwen2-VL. Sources: llama.cpp convert_hf_to_gguf.py (Qwen2VLModel,
// Qwen2VLVisionModel), gguf-py, tools/mtmd/clip.cpp.

#include <filesystem>

#include "export/export.h"
#include "hf/gguf_writer.h"

namespace halftone {

// Vectors and the patch embedding are written as F32, other tensors that are not quantized in their own type. Throws
// Error naming the module or the file for what llama.cpp has no name for.
void write_gguf_files(const ExportPlan& plan, const std::filesystem::path& folder, const Progress& progress = {});

// What the headers of both files say; common_file_type() is their general.file_type.
GgufValues language_values(const ExportPlan& plan);
GgufValues vision_values(const ExportPlan& plan);
// Appends tokenizer.ggml.*: `rows` tokens, those that the tokenizer lacks as unused ones.
void add_tokenizer_values(const std::filesystem::path& folder, std::int64_t rows, GgufValues& values);

}  // namespace halftone
