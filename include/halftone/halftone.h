#pragma once
// Halftone's public interface: load a checkpoint, ask it, quantize it, evaluate it. Standard types only; the program
// `halftone` is made of the same parts. Everything throws std::runtime_error with a message that names the file, the
// field, what was expected and what was found. Link the target halftone::halftone.
//
//   using namespace halftone::api;
//   quantize("Qwen2-VL-2B-Instruct", "int4_awq", "Qwen2-VL-2B-int4", {.calibration = "train2017"});
//   auto model = VisionLanguageModel::load("Qwen2-VL-2B-int4");
//   Answer answer = model.ask("What is on the table?", {"table.jpg"});
//   std::vector<Score> scores = evaluate("Qwen2-VL-2B-int4", {{"vqav2", "vqav2_val"}});

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace halftone::api {

struct LoadOptions {
  std::string numerics = "f32";  // or "bf16": the rounding points of a GPU that keeps activations in bf16
  // "bf16", "fp8", "fp8_calibrated", "fp8_head", "fp8_debiased", "int8_calibrated", "int8_head"; "" takes the checkpoint's
  std::string kv_format = {};
  int threads = 0;  // 0: all cores
};

struct AskOptions {
  double temperature = 0;  // 0: the likeliest token
  double top_p = 1;
  std::int64_t top_k = 0;
  std::uint64_t seed = 0;
  std::int64_t max_new_tokens = 256;
  std::string system = {};  // "": the chat template's default
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

// done of total units of `what` are finished; a total of 1,000,000 stands for a share of the whole.
using OnProgress = std::function<void(std::string_view what, std::int64_t done, std::int64_t total)>;

struct QuantizeOptions {
  std::string kv_format = {};              // of the KV cache, in place of the recipe's; "" keeps it
  std::optional<float> alpha = {};         // SmoothQuant's exponent, in place of the recipe's
  bool search_alpha = false;               // the same, searched for each group of layers that share an input
  std::filesystem::path calibration = {};  // LLaVA or COCO JSON, a folder of pictures, or text; "" for recipes without
  std::int64_t samples = 128;              // calibration samples; 0: all
  std::int64_t max_tokens = 512;           // of one calibration sample
  std::uint64_t seed = 0;                  // of the samples' order
  bool replace = false;                    // an existing folder
  int threads = 0;                         // 0: all cores
  OnProgress on_progress = {};
};

// What rounding did to one linear layer.
struct LayerError {
  std::string module;           // as the checkpoint names it
  std::string weights, inputs;  // formats as recipes name them; "none"
  std::int64_t bytes = 0, bytes_before = 0;
  double weight_error = 0;             // |Q - W| / |W|
  double sqnr_db = 0;                  // of the weight
  std::optional<double> output_error;  // |Y' - Y| / |Y| on calibration data
};

struct Quantized {
  std::string configuration, layout;
  std::int64_t bytes = 0, bytes_before = 0;  // of all linear layers
  std::vector<LayerError> layers;
};

// Writes `checkpoint` by `recipe` (a shipped one's name or a YAML file) to the folder `out`, reads it back and
// compares. `out` also holds quantization_report.json. On an error nothing is left under its name.
Quantized quantize(const std::filesystem::path& checkpoint, const std::string& recipe, const std::filesystem::path& out,
                   const QuantizeOptions& options = {});

struct EvaluateOptions {
  std::string prompts = "suite";  // preset: "suite", "lmms-eval", "vlmevalkit"
  std::int64_t limit = 0;         // samples of each task, drawn by picture from the seed; 0: all
  std::uint64_t seed = 0;
  std::filesystem::path answers = {};  // JSON lines, one an answer, which a second call goes on with; "" keeps none
  LoadOptions load = {};
  OnProgress on_progress = {};
};

struct Score {
  std::string task, group, metric;  // group "" is the whole task
  double value = 0;                 // as the benchmark prints it
  std::int64_t samples = 0;
  std::optional<double> low, high;  // 95 % interval
};

// tasks: name ("vqav2", "pope", "mme", "gqa", "grounding") -> folder in the task's official format.
std::vector<Score> evaluate(const std::filesystem::path& checkpoint,
                            const std::map<std::string, std::filesystem::path>& tasks,
                            const EvaluateOptions& options = {});

}  // namespace halftone::api
