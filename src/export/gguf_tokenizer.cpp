// tokenizer.json as llama.cpp's byte-level BPE ("gpt2") with Qwen2's splitting ("qwen2").
#include <map>

#include "base/file.h"
#include "export/gguf.h"

namespace halftone {
namespace fs = std::filesystem;
namespace {

// llama.h's llama_token_type.
constexpr std::int32_t kNormal = 1, kControl = 3, kUserDefined = 4, kUnused = 5;

struct Vocabulary {
  std::vector<std::string> tokens;
  std::vector<std::int32_t> types;

  void put(std::int64_t id, const std::string& text, std::int32_t type, const std::string& source) {
    require(id >= 0 && id < std::ssize(tokens), source, "token '{}': expected an id below vocab_size {}, found {}",
            text.substr(0, 80), tokens.size(), id);
    tokens[static_cast<std::size_t>(id)] = text;
    types[static_cast<std::size_t>(id)] = type;
  }
};

Vocabulary read_vocabulary(const Json& root, std::int64_t rows, const std::string& source) {
  Vocabulary vocabulary;
  for (std::int64_t id = 0; id < rows; ++id) vocabulary.tokens.push_back(fmt::format("[PAD{}]", id));
  vocabulary.types.assign(static_cast<std::size_t>(rows), kUnused);
  const Json& model = root.at("model");
  for (const auto& [text, id] : model.at("vocab").items())
    vocabulary.put(id.get<std::int64_t>(), text, kNormal, source);
  if (!root.contains("added_tokens")) return vocabulary;
  for (const Json& token : root["added_tokens"]) {
    vocabulary.put(get_field<std::int64_t>(token, "id", source), get_field<std::string>(token, "content", source),
                   get_field_or<bool>(token, "special", false, source) ? kControl : kUserDefined, source);
  }
  return vocabulary;
}

// "left right", however the file writes the pair.
std::vector<std::string> read_merges(const Json& model, const std::string& source) {
  std::vector<std::string> merges;
  for (const Json& merge : model.at("merges")) {
    if (merge.is_string()) {
      merges.push_back(merge.get<std::string>());
      continue;
    }
    require(merge.is_array() && merge.size() == 2, source, "field 'model.merges': expected pairs, found {}",
            merge.dump().substr(0, 80));
    merges.push_back(merge[0].get<std::string>() + " " + merge[1].get<std::string>());
  }
  return merges;
}

Json read_if_there(const fs::path& path) { return fs::exists(path) ? read_json(path) : Json::object(); }

// The id of a token that tokenizer_config.json names as text or as an object with its content.
std::optional<std::uint32_t> special_id(const Json& config, const char* field, const Vocabulary& vocabulary) {
  if (!config.contains(field) || config[field].is_null()) return std::nullopt;
  const Json& value = config[field];
  const std::string text = value.is_string() ? value.get<std::string>() : value.value("content", std::string());
  for (std::size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    if (vocabulary.tokens[id] == text) return static_cast<std::uint32_t>(id);
  }
  return std::nullopt;
}

std::optional<std::string> chat_template(const fs::path& folder, const Json& tokenizer_config) {
  if (fs::exists(folder / "chat_template.jinja")) return read_file(folder / "chat_template.jinja");
  for (const Json& config : {read_if_there(folder / "chat_template.json"), tokenizer_config}) {
    if (config.contains("chat_template") && config["chat_template"].is_string()) {
      return config["chat_template"].get<std::string>();
    }
  }
  return std::nullopt;
}

}  // namespace

void add_tokenizer_values(const fs::path& folder, std::int64_t rows, GgufValues& values) {
  const std::string source = (folder / "tokenizer.json").string();
  const Json root = read_json(source), config = read_if_there(folder / "tokenizer_config.json");
  require(root.is_object() && root.contains("model") && root["model"].is_object() &&
              get_field<std::string>(root["model"], "type", source) == "BPE" && root["model"].contains("vocab") &&
              root["model"].contains("merges"),
          source, "expected byte-pair encoding with a vocabulary and merges");
  const Vocabulary vocabulary = read_vocabulary(root, rows, source);
  values.add("tokenizer.ggml.model", "gpt2");
  values.add("tokenizer.ggml.pre", "qwen2");
  values.add("tokenizer.ggml.tokens", vocabulary.tokens);
  values.add("tokenizer.ggml.token_type", vocabulary.types);
  values.add("tokenizer.ggml.merges", read_merges(root["model"], source));
  for (const auto& [field, name] :
       {std::pair{"eos_token", "eos"}, std::pair{"pad_token", "padding"}, std::pair{"bos_token", "bos"}}) {
    if (const auto id = special_id(config, field, vocabulary)) {
      values.add(fmt::format("tokenizer.ggml.{}_token_id", name), *id);
    }
  }
  values.add("tokenizer.ggml.add_bos_token", get_field_or<bool>(config, "add_bos_token", false, source));
  if (const auto text = chat_template(folder, config)) values.add("tokenizer.chat_template", std::string_view(*text));
}

}  // namespace halftone
