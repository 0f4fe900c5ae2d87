#pragma once
// Halftone's public interface: load a checkpoint, ask it, quantize it, evaluate it. Standard types only; the program
// `halftone` is made of the same parts. Everything throws halftone::Error (a std::runtime_error) with a message that
// names the file, the field, what was expected and what was found.
//
//   auto model = halftone::api::VisionLanguageModel::load("Qwen2-VL-2B-Instruct");
//   halftone::api::Answer answer = model.ask("What is on the table?", {"table.jpg"});

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace halftone::api {

struct LoadOptions {
  std::string numerics = "f32";  // or "bf16": the rounding points of a GPU that keeps activations in bf16
  std::string kv_format;  // "bf16", "fp8", "fp8_calibrated", "fp8_head", "fp8_debiased"; "" takes the checkpoint's
  int threads = 0;        // 0: all cores
};

struct AskOptions {
  double temperature = 0;  // 0: the likeliest token
  double top_p = 1;
  std::int64_t top_k = 0;
  std::uint64_t seed = 0;
  std::int64_t max_new_tokens = 256;
  std::string system;  // "": the chat template's default
};

struct Answer {
  std::string text;
  std::vector<std::int32_t> tokens;
  std::int64_t prompt_tokens = 0, visual_tokens = 0;
  bool stopped = false;  // by a stop token, not by length
  double seconds_to_first_token = 0;
};

// Called with each piece of text as it comes, whole characters only; false ends the answer.
using OnText = std::function<bool(std::string_view)>;

// A checkpoint that answers questions. One call at a time.
class VisionLanguageModel {
 public:
  static VisionLanguageModel load(const std::filesystem::path& checkpoint, const LoadOptions& options = {});
  VisionLanguageModel(VisionLanguageModel&&) noexcept;
  VisionLanguageModel& operator=(VisionLanguageModel&&) noexcept;
  ~VisionLanguageModel();

  // One user message: the pictures (JPEG, PNG or WebP files), then the text.
  Answer ask(const std::string& question, const std::vector<std::filesystem::path>& pictures = {},
             const AskOptions& options = {}, const OnText& on_text = {});

 private:
  struct State;
  explicit VisionLanguageModel(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace halftone::api
