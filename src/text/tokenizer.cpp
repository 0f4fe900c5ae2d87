#include "text/tokenizer.h"

#include <array>

#include "base/file.h"
#include "base/json.h"
#include "text/added_tokens.h"
#include "text/bpe.h"
#include "text/byte_level.h"
#include "text/normalizer.h"
#include "text/pre_tokenizer.h"
#include "text/utf8.h"

namespace halftone {
namespace {

std::filesystem::path file_in(const std::filesystem::path& folder) { return folder / "tokenizer.json"; }

struct Token {
  std::string bytes;
  bool special = false;
};

const Json& field_or_null(const Json& root, std::string_view field) {
  static const Json null;
  const auto it = root.find(field);
  return it == root.end() ? null : *it;
}

// With add_special_tokens=False a post-processor changes no id; the type is checked all the same.
void check_post_processor(const Json& json, std::string_view source) {
  if (json.is_null()) return;
  const auto type = get_field<std::string>(json, "type", source);
  if (type == "Sequence") {
    for (const Json& part : field_or_null(json, "processors")) check_post_processor(part, source);
    return;
  }
  require(type == "ByteLevel" || type == "TemplateProcessing", source,
          "field 'post_processor.type': expected ByteLevel, TemplateProcessing or Sequence, found '{}'", type);
}

void check_decoder(const Json& json, std::string_view source) {
  require(json.is_object(), source, "field 'decoder': expected an object, found {}", json.type_name());
  const auto type = get_field<std::string>(json, "type", source);
  if (type == "Sequence") {
    const Json& parts = field_or_null(json, "decoders");
    require(parts.is_array() && parts.size() == 1, source, "field 'decoder.decoders': expected ByteLevel alone");
    return check_decoder(parts[0], source);
  }
  require(type == "ByteLevel", source, "field 'decoder.type': expected ByteLevel, found '{}'", type);
}

// What a token stands for: the bytes of its byte-level text, or, where it is not written so, its own text.
std::string bytes_of_content(const std::string& content) { return from_byte_level(content).value_or(content); }

}  // namespace

struct Tokenizer::State {
  State(const Json& root, std::string_view source)
      : normalizer(Normalizer::from_json(field_or_null(root, "normalizer"), "normalizer", source)),
        pre_tokenizer(PreTokenizer::from_json(field_or_null(root, "pre_tokenizer"), source)),
        bpe(Bpe::from_json(field_or_null(root, "model"), source)),
        added(read_added_tokens(root, bpe.vocabulary(), source)),
        added_in_raw_text(added, false, normalizer),
        added_in_normalized_text(added, true, normalizer) {
    for (const auto& [content, id] : bpe.vocabulary()) put(id, {bytes_of_content(content), false});
    for (const AddedToken& token : added) {
      // As tokenizers since 0.23: what is found in normalized text is given back normalized.
      const std::string content = token.normalized ? normalizer.normalize(token.content) : token.content;
      put(token.id, {bytes_of_content(content), token.special});
      added_ids.emplace(token.content, token.id);
    }
  }

  void put(TokenId id, Token token) {
    const auto index = static_cast<std::size_t>(id);
    if (index >= index_of_id.size()) index_of_id.resize(index + 1, -1);
    if (index_of_id[index] < 0) {
      index_of_id[index] = static_cast<std::int32_t>(tokens.size());
      tokens.emplace_back();
    }
    tokens[static_cast<std::size_t>(index_of_id[index])] = std::move(token);
  }

  const Token* token(TokenId id) const {
    const auto index = static_cast<std::size_t>(id);
    if (id < 0 || index >= index_of_id.size() || index_of_id[index] < 0) return nullptr;
    return &tokens[static_cast<std::size_t>(index_of_id[index])];
  }

  Normalizer normalizer;
  PreTokenizer pre_tokenizer;
  Bpe bpe;
  std::vector<AddedToken> added;
  AddedTokenFinder added_in_raw_text;
  AddedTokenFinder added_in_normalized_text;
  Vocabulary added_ids;
  std::vector<std::int32_t> index_of_id;  // into tokens; -1: no token
  std::vector<Token> tokens;
};

Tokenizer::Tokenizer() = default;
Tokenizer::~Tokenizer() = default;

std::shared_ptr<const Tokenizer> Tokenizer::load(const std::filesystem::path& folder) {
  const std::filesystem::path path = file_in(folder);
  return parse(read_file(path), path.string());
}

std::future<std::shared_ptr<const Tokenizer>> Tokenizer::begin_loading(const std::filesystem::path& folder) {
  require_file(file_in(folder));
  return std::async(std::launch::async, load, folder);
}

std::shared_ptr<const Tokenizer> Tokenizer::parse(std::string_view json_text, std::string_view source) {
  const Json root = parse_json(json_text, source);
  require(root.is_object(), source, "expected a JSON object, found {}", root.type_name());
  check_post_processor(field_or_null(root, "post_processor"), source);
  check_decoder(field_or_null(root, "decoder"), source);
  std::shared_ptr<Tokenizer> tokenizer(new Tokenizer);
  tokenizer->state_ = std::make_unique<State>(root, source);
  return tokenizer;
}

std::vector<TokenId> Tokenizer::encode(std::string_view text) const {
  std::vector<TokenId> ids;
  const auto encode_plain = [&](std::string_view piece, std::optional<TokenId> id) {
    if (id) {
      ids.push_back(*id);
      return;
    }
    for (const std::string& word : state_->pre_tokenizer.split(piece)) state_->bpe.encode_word(word, ids);
  };
  const auto encode_raw = [&](std::string_view piece, std::optional<TokenId> id) {
    if (id) {
      ids.push_back(*id);
      return;
    }
    state_->added_in_normalized_text.for_each_piece(state_->normalizer.normalize(piece), encode_plain);
  };
  state_->added_in_raw_text.for_each_piece(replace_malformed_utf8(text), encode_raw);
  return ids;
}

std::string Tokenizer::decode(std::span<const TokenId> ids, bool skip_special) const {
  std::string bytes;
  for (const TokenId id : ids) {
    require(id >= 0, "Tokenizer::decode", "expected token ids from 0, found {}", id);
    bytes += bytes_of(id, skip_special);
  }
  return replace_malformed_utf8(bytes);
}

std::string_view Tokenizer::bytes_of(TokenId id, bool skip_special) const {
  const Token* token = state_->token(id);
  if (token == nullptr || (token->special && skip_special)) return {};
  return token->bytes;
}

bool Tokenizer::is_special(TokenId id) const {
  const Token* token = state_->token(id);
  return token != nullptr && token->special;
}

std::optional<TokenId> Tokenizer::find(std::string_view content) const {
  for (const Vocabulary* vocabulary : std::array<const Vocabulary*, 2>{&state_->added_ids, &state_->bpe.vocabulary()}) {
    const auto found = vocabulary->find(content);
    if (found != vocabulary->end()) return found->second;
  }
  return std::nullopt;
}

std::int64_t Tokenizer::size() const { return static_cast<std::int64_t>(state_->index_of_id.size()); }

StreamingDecoder::StreamingDecoder(std::shared_ptr<const Tokenizer> tokenizer, bool skip_special)
    : tokenizer_(std::move(tokenizer)), skip_special_(skip_special) {}

std::string StreamingDecoder::push(TokenId id) {
  require(id >= 0, "StreamingDecoder::push", "expected token ids from 0, found {}", id);
  pending_ += tokenizer_->bytes_of(id, skip_special_);
  std::size_t complete = 0;
  while (complete < pending_.size()) {
    const Utf8Sequence sequence = next_utf8(pending_, complete);
    if (sequence.truncated) break;
    complete += sequence.length;
  }
  std::string text = replace_malformed_utf8(std::string_view(pending_).substr(0, complete));
  pending_.erase(0, complete);
  return text;
}

std::string StreamingDecoder::finish() {
  std::string text = replace_malformed_utf8(pending_);
  pending_.clear();
  return text;
}

}  // namespace halftone
