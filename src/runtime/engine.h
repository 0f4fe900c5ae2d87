#pragma once
// Runs a checkpoint: prompts in, tokens out.
//
// An Engine is immutable after load and may be shared by threads. A Session holds the state of one worker (its KV cache
// and threads): use one for each thread. The result of a call depends on the prompt and the engine alone, not on what
// the session did before, on its threads, or on whether keys, values or pictures came from a cache.

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/stage_times.h"
#include "ops/device_model.h"
#include "ops/norm.h"
#include "tensor/stream.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"
#include "vision/qwen2_vl_processor.h"

namespace halftone {

// The bytes of a picture file and their SHA-256.
struct PictureFile {
  std::string source;  // for errors
  std::string bytes;
  std::string hash;
};
std::shared_ptr<const PictureFile> read_picture_file(const std::filesystem::path& path);

struct Prompt {
  std::vector<ChatMessage> messages;
  std::vector<std::shared_ptr<const PictureFile>> pictures;  // in the order of the messages' picture parts
  std::string raw_text;  // used instead of `messages` when these are empty: no template, no pictures
};

// Outputs of the vision tower by content of picture, pixel budget and vision weights. Safe to share between engines and
// threads; bounded (least recently used out first).
class PictureCache;
inline constexpr std::int64_t kPictureCacheBytes = 256 << 20;  // by default
std::shared_ptr<PictureCache> make_picture_cache(std::int64_t max_bytes = kPictureCacheBytes);

struct EngineOptions {
  Numerics numerics = Numerics::kF32;
  std::string kv_format;                        // "" takes the checkpoint's
  std::optional<PixelBudget> budget;            // the checkpoint's otherwise
  std::shared_ptr<PictureCache> picture_cache;  // none: every picture is encoded
  int threads = 0;                              // that load and pack the weights; 0: all cores
  Device device = Device::kCpu;                 // kCuda: this machine's first GPU
  std::int64_t device_kv_tokens = 0;            // on a GPU: tokens that a session's caches hold together; 0: 65,536
  std::int64_t device_sequences = 64;           // and prompts of a batch, at most
  bool reuse_prefix = true;                     // keep the KV of a shared prompt beginning between calls of one session
};

// Where the bytes of an engine are. Sizes in bytes.
struct MemoryLedger {
  // By format: "int4 group 128" -> payload, "scales", "bf16 (vision)", ...
  std::vector<std::pair<std::string, std::int64_t>> weights;
  std::int64_t kv_per_token = 0;
};

struct EngineInfo {
  std::string checkpoint;    // folder name
  std::string weights_hash;  // SHA-256 of all tensors
  std::string files_hash;    // SHA-256 of configuration, tokenizer, template and preprocessor
  std::string vision_hash;   // of the vision tower and projector
  std::string numerics;      // "f32" or "bf16"
  std::string kv_format;
  std::string products;         // "native" or "emulated": whether the quantized products ran in their own format
  std::string instruction_set;  // "AVX2", "AVX3", ..., or the name of the GPU
  PixelBudget budget;
  std::int64_t vocabulary = 0;
  MemoryLedger memory;
  double load_seconds = 0;       // of Engine::load()
  DeviceLoading device_loading;  // the part of it that brought the weights to a GPU
};

// The conditions of a result, all but the ledger: {"checkpoint", "weights", "numerics", "kv", "products",
// "instruction_set", "min_pixels", "max_pixels"}.
Json to_json(const EngineInfo& info);

struct SamplingOptions {
  double temperature = 0;  // 0: greedy
  double top_p = 1;
  std::int64_t top_k = 0;  // 0: all
  std::uint64_t seed = 0;
  std::int64_t max_new_tokens = 256;
  bool ignore_eos = false;  // run to max_new_tokens
};

// What a session holds beside the engine, in bytes.
struct SessionMemory {
  // Keys and values: of the tokens that are held; on a GPU all pages, which are taken when the session starts.
  std::int64_t kv = 0;
  // Buffers of activations and logits; on a GPU taken then, too, with the vision tower's.
  std::int64_t workspace = 0;
};

struct Generation {
  std::vector<TokenId> tokens;  // with the stop token, if one ended it
  std::string text;             // special tokens removed, as transformers' decode; not stripped
  std::int64_t prompt_tokens = 0, visual_tokens = 0, reused_tokens = 0;
  bool stopped = false;    // by a stop token, not by length
  float smallest_gap = 0;  // between the two largest logits on the way
  StageTimes times;
  SessionMemory memory;  // of the session, when it was done
};

// Called for each complete piece of text; false stops the generation.
using TextSink = std::function<bool(std::string_view)>;
// logits: [vocabulary] f32 that predict tokens[index].
using LogitsSink = std::function<void(std::size_t index, std::span<const float> logits)>;

class Engine {
 public:
  static std::shared_ptr<const Engine> load(const std::filesystem::path& checkpoint, const EngineOptions& options = {});
  virtual ~Engine() = default;
  virtual const EngineInfo& info() const = 0;
  virtual const std::shared_ptr<const Tokenizer>& tokenizer() const = 0;
  // Ids of the prompt, each picture's placeholder repeated (this decodes the pictures' headers and sizes).
  virtual std::vector<TokenId> tokenize(const Prompt& prompt) const = 0;
};

class Session {
 public:
  // threads = 0: all cores.
  static std::unique_ptr<Session> create(std::shared_ptr<const Engine> engine, int threads = 0);
  virtual ~Session() = default;
  virtual Generation generate(const Prompt& prompt, const SamplingOptions& options, const TextSink& sink = {}) = 0;
  // The same prompts as one batch; each result equals generate()'s.
  virtual std::vector<Generation> generate_batch(std::span<const Prompt> prompts, const SamplingOptions& options) = 0;
  // Teacher-forced: the logits that predict each of `answer`'s tokens after the prompt.
  virtual void score(const Prompt& prompt, std::span<const TokenId> answer, const LogitsSink& sink) = 0;
  // On a GPU: from now on every op is timed, by itself; what was timed since. Throws Error on the CPU.
  virtual void start_profile() = 0;
  virtual std::vector<DeviceOpTime> take_profile() = 0;
  // The logits that predict tokens[1], tokens[2], ... of a text without template (index counts from 1).
  virtual void score_text(std::span<const TokenId> tokens, const LogitsSink& sink) = 0;
};

}  // namespace halftone
