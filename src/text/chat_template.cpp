#include "text/chat_template.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>

#include "base/file.h"
#include "base/json.h"

namespace halftone {
namespace {

constexpr std::string_view kDefaultSystem = "You are a helpful assistant.";

// What every template of Qwen2-VL and Qwen2.5-VL contains, and what those of their tool-using and thinking relatives
// contain beside it.
constexpr auto kQwen2VlMarkers =
    std::to_array<std::string_view>({"message['role'] != 'system'", "<|im_start|>system", kDefaultSystem,
                                     "<|vision_start|><|image_pad|><|vision_end|>", "<|im_end|>"});
constexpr auto kForeignMarkers = std::to_array<std::string_view>({"tool", "reasoning_content", "thinking"});

bool is_qwen2_vl(std::string_view text) {
  const auto in_text = [&](std::string_view marker) { return text.find(marker) != std::string_view::npos; };
  return std::all_of(kQwen2VlMarkers.begin(), kQwen2VlMarkers.end(), in_text) &&
         std::none_of(kForeignMarkers.begin(), kForeignMarkers.end(), in_text);
}

// The field "chat_template": a string, or an array of named ones of which "default" counts.
std::optional<std::string> template_field(const std::filesystem::path& path) {
  const Json root = read_json(path);
  require(root.is_object(), path.string(), "expected a JSON object, found {}", root.type_name());
  const auto it = root.find("chat_template");
  if (it == root.end() || it->is_null()) return std::nullopt;
  if (!it->is_array()) return get_field<std::string>(root, "chat_template", path.string());
  for (const Json& named : *it) {
    if (get_field<std::string>(named, "name", path.string()) == "default") {
      return get_field<std::string>(named, "template", path.string());
    }
  }
  return std::nullopt;
}

}  // namespace

ChatMessage user_message(std::string text, int pictures) {
  ChatMessage message{.role = "user", .parts = {}};
  message.parts.assign(static_cast<std::size_t>(std::max(pictures, 0)),
                       {.kind = ContentPart::Kind::kPicture, .text = {}});
  message.parts.push_back({.kind = ContentPart::Kind::kText, .text = std::move(text)});
  return message;
}

ChatTemplate ChatTemplate::load(const std::filesystem::path& folder) {
  // In the order in which transformers looks for it.
  for (const char* name : {"chat_template.jinja", "chat_template.json", "tokenizer_config.json"}) {
    const std::filesystem::path path = folder / name;
    if (!std::filesystem::exists(path)) continue;
    const std::optional<std::string> text =
        path.extension() == ".jinja" ? std::optional(read_file(path)) : template_field(path);
    if (!text) continue;
    require(is_qwen2_vl(*text), path.string(), "expected the chat template of Qwen2-VL, found another: {}",
            text->substr(0, 80));
    ChatTemplate chat_template;
    chat_template.family_ = Family::kQwen2Vl;
    return chat_template;
  }
  fail(folder.string(),
       "expected a chat template in chat_template.jinja, chat_template.json or tokenizer_config.json, found none");
}

std::string ChatTemplate::render(const std::vector<ChatMessage>& messages, bool add_generation_prompt) const {
  require(!messages.empty(), "ChatTemplate::render", "expected at least one message, found none");
  std::string prompt;
  const auto begin = [&](std::string_view role) { prompt += fmt::format("<|im_start|>{}\n", role); };
  const auto end = [&] { prompt += "<|im_end|>\n"; };
  if (messages.front().role != "system") {
    begin("system");
    prompt += kDefaultSystem;
    end();
  }
  for (const ChatMessage& message : messages) {
    begin(message.role);
    for (const ContentPart& part : message.parts) {
      prompt += part.kind == ContentPart::Kind::kPicture ? "<|vision_start|><|image_pad|><|vision_end|>" : part.text;
    }
    end();
  }
  if (add_generation_prompt) begin("assistant");
  return prompt;
}

}  // namespace halftone
