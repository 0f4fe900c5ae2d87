#pragma once
// Text to token ids and back, as the checkpoint's tokenizer.json says (byte-level BPE).

#include <cstdint>
#include <filesystem>
#include <future>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace halftone {

using TokenId = std::int32_t;

// Immutable; safe to share between threads.
class Tokenizer {
 public:
  // Reads folder/tokenizer.json. Throws Error naming the file and the field for what it cannot read or does not
  // support.
  static std::shared_ptr<const Tokenizer> load(const std::filesystem::path& folder);
  // load() on a thread of its own, but a file that is not there is told at once.
  static std::future<std::shared_ptr<const Tokenizer>> begin_loading(const std::filesystem::path& folder);
  // load() from the text of a tokenizer.json; `source` names it in errors.
  static std::shared_ptr<const Tokenizer> parse(std::string_view json_text, std::string_view source);
  ~Tokenizer();

  // Ids equal to Hugging Face tokenizers' encode(text, add_special_tokens=False): added tokens in the text are found
  // first. Malformed UTF-8 is read as Python's bytes.decode("utf-8", "replace") does.
  std::vector<TokenId> encode(std::string_view text) const;
  // Equal to decode(ids, skip_special_tokens): incomplete UTF-8 becomes U+FFFD, and an id without a token becomes
  // nothing (embedding tables are often padded beyond the vocabulary). Throws Error on negative ids.
  std::string decode(std::span<const TokenId> ids, bool skip_special = true) const;
  // The bytes that one id stands for; empty for a special token unless told otherwise, and for an id without a token.
  std::string_view bytes_of(TokenId id, bool skip_special = true) const;
  bool is_special(TokenId id) const;
  // The id of a token's exact content ("<|im_end|>"), added tokens first.
  std::optional<TokenId> find(std::string_view content) const;
  std::int64_t size() const;  // one more than the largest id

  struct State;

 private:
  Tokenizer();
  std::unique_ptr<State> state_;
};

// Text as it comes, token by token; never half a character.
class StreamingDecoder {
 public:
  explicit StreamingDecoder(std::shared_ptr<const Tokenizer> tokenizer, bool skip_special = true);
  // The text that became complete with `id` (may be empty).
  std::string push(TokenId id);
  // What is left over at the end, an incomplete character as U+FFFD.
  std::string finish();

 private:
  std::shared_ptr<const Tokenizer> tokenizer_;
  bool skip_special_;
  std::string pending_;
};

}  // namespace halftone
