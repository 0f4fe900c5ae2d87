#include <algorithm>
#include <array>

#include "export/layouts.h"

namespace halftone {
namespace fs = std::filesystem;
namespace {

// Files of the tokenizer, the processor, generation and remote code; weights and what is written anew are left out.
bool is_companion(const fs::path& path) {
  constexpr std::array<std::string_view, 6> kExtensions{".json", ".txt", ".model", ".jinja", ".py", ".tiktoken"};
  const std::string name = path.filename().string(), extension = path.extension().string();
  if (name == "LICENSE" || name == "NOTICE") return true;
  if (name == "config.json" || name == "hf_quant_config.json" || name == "quantization_report.json") return false;
  if (name.ends_with(".index.json")) return false;
  return std::find(kExtensions.begin(), kExtensions.end(), extension) != kExtensions.end();
}

}  // namespace

void copy_companions(const fs::path& from, const fs::path& to) {
  for (const auto& entry : fs::directory_iterator(from)) {
    if (!entry.is_regular_file() || !is_companion(entry.path())) continue;
    std::error_code error;
    fs::copy_file(entry.path(), to / entry.path().filename(), error);
    require(!error, "export", "{}: cannot copy: {}", entry.path().string(), error.message());
  }
}

}  // namespace halftone
