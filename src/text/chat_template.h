#pragma once
// Conversations to prompt text.

#include <filesystem>
#include <string>
#include <vector>

namespace halftone {

struct ContentPart {
  enum class Kind { kText, kPicture };
  Kind kind = Kind::kText;
  std::string text;  // kText
};

struct ChatMessage {
  std::string role;  // "system", "user", "assistant"
  std::vector<ContentPart> parts;
};

// A user message of `pictures` pictures followed by `text`.
ChatMessage user_message(std::string text, int pictures = 0);

class ChatTemplate {
 public:
  // Recognizes the template of folder/chat_template.json, chat_template.jinja or tokenizer_config.json. Throws Error
  // when there is none or it is of an unknown family.
  static ChatTemplate load(const std::filesystem::path& folder);
  // The prompt; each picture is one placeholder token "<|image_pad|>" between its vision markers, to be repeated by the
  // caller.
  std::string render(const std::vector<ChatMessage>& messages, bool add_generation_prompt = true) const;

 private:
  enum class Family { kQwen2Vl };
  Family family_ = Family::kQwen2Vl;
};

}  // namespace halftone
