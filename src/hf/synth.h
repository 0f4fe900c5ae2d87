#pragma once
// Checkpoints of known architectures with random weights, to time programs at real size.

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/progress.h"
#include "base/thread_pool.h"

namespace halftone {

// "qwen2-vl-2b", "qwen2-vl-7b", "qwen2-vl-72b", and "qwen2-vl-tiny" for tests.
std::vector<std::string> synth_names();

// Writes a whole folder: matrices and biases normal(0, 0.02) in bf16, norms 1; config.json, preprocessor and generation
// files as the real model's; a byte-level tokenizer without merges whose special tokens have the real ids, so that a
// prompt has a token for each byte. The same name and seed give the same bytes. The folder appears when it is complete.
// layers: of the decoder, in place of the real number; 0 keeps it. Throws Error for an unknown name or an existing
// folder.
void synthesize(const std::string& like, const std::filesystem::path& folder, std::uint64_t seed, ThreadPool& pool,
                const Progress& progress = {}, std::int64_t layers = 0);

}  // namespace halftone
