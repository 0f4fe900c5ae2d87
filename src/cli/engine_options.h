#pragma once
// Options that every command with an engine has.

#include <CLI/CLI.hpp>

#include "runtime/engine.h"

namespace halftone::cli {

struct EngineFlags {
  std::string model;
  std::string device = "cpu";
  std::string numerics;  // "": f32 on the CPU, bf16 on a GPU
  std::string kv;
  std::int64_t kv_tokens = 0;
  std::int64_t min_pixels = 0, max_pixels = 0;  // 0: the checkpoint's
  int threads = 0;

  // MODEL, --device, --numerics, --kv, --kv-tokens, --min-pixels, --max-pixels, --threads
  void declare(CLI::App& app);
  // Throws Error when one pixel limit is given and the other is not to be had from the checkpoint, UsageError when they
  // exclude every size.
  EngineOptions options() const;
};

}  // namespace halftone::cli
