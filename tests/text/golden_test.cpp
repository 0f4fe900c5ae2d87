// Ids and text equal to those of Hugging Face tokenizers and transformers (tests/golden/make_text_golden.py).
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>

#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"
#include "text/utf8.h"

namespace halftone {
namespace {

const std::filesystem::path kGolden = std::filesystem::path(HALFTONE_SOURCE_DIR) / "tests/golden/text";
const std::filesystem::path kDemoModel = std::filesystem::path(HALFTONE_SOURCE_DIR) / "demo/model";

std::vector<std::string> golden_strings() {
  const std::string file = read_file(kGolden / "strings.bin");
  std::uint32_t count = 0;
  std::memcpy(&count, file.data(), sizeof count);
  std::size_t at = sizeof count;
  std::vector<std::string> strings;
  for (std::uint32_t i = 0; i < count; ++i) {
    std::uint16_t length = 0;
    std::memcpy(&length, file.data() + at, sizeof length);
    strings.push_back(file.substr(at + sizeof length, length));
    at += sizeof length + length;
  }
  EXPECT_EQ(at, file.size());
  return strings;
}

std::string digest_of(const std::vector<TokenId>& ids) {
  const auto* bytes = reinterpret_cast<const char*>(ids.data());
  return sha256_hex(std::string_view(bytes, ids.size() * sizeof(TokenId)));
}

std::string hex_of(std::string_view bytes) {
  std::string hex;
  for (const char c : bytes) hex += fmt::format("{:02x}", static_cast<unsigned char>(c));
  return hex;
}

std::string stream(const std::shared_ptr<const Tokenizer>& tokenizer, const std::vector<TokenId>& ids, bool skip) {
  StreamingDecoder decoder(tokenizer, skip);
  std::string text;
  for (const TokenId id : ids) {
    const std::string part = decoder.push(id);
    EXPECT_EQ(part, replace_malformed_utf8(part)) << "half a character was emitted";
    text += part;
  }
  return text + decoder.finish();
}

void expect_ids_of(const std::filesystem::path& tokenizer_file, const std::string& name) {
  const auto tokenizer = Tokenizer::parse(read_file(tokenizer_file), tokenizer_file.string());
  const std::vector<std::string> strings = golden_strings();
  const std::string golden = read_file(kGolden / (name + ".ids.bin"));
  ASSERT_GE(strings.size(), 20000u);
  ASSERT_EQ(golden.size(), strings.size() * 4 + 32);
  Sha256 decodings;
  int different = 0;
  for (std::size_t i = 0; i < strings.size(); ++i) {
    const std::vector<TokenId> ids = tokenizer->encode(strings[i]);
    if (digest_of(ids).substr(0, 8) != hex_of(golden.substr(i * 4, 4)) && ++different <= 5) {
      ADD_FAILURE() << "string " << i << ": '" << replace_malformed_utf8(strings[i]) << "' (" << hex_of(strings[i])
                    << ") became " << fmt::format("{}", fmt::join(ids, " "));
    }
    for (const bool skip : {true, false}) {
      const std::string text = tokenizer->decode(ids, skip);
      ASSERT_EQ(stream(tokenizer, ids, skip), text) << "string " << i;
      decodings.update(text).update(std::string_view("\0", 1));
    }
  }
  EXPECT_EQ(different, 0) << "of " << strings.size() << " strings";
  EXPECT_EQ(decodings.hex(), hex_of(golden.substr(strings.size() * 4)));
}

TEST(TokenizerGolden, DemoModel) { expect_ids_of(kDemoModel / "tokenizer.json", "demo"); }
TEST(TokenizerGolden, Llama3Like) { expect_ids_of(kGolden / "llama3_like.tokenizer.json", "llama3_like"); }
TEST(TokenizerGolden, Gpt2Like) { expect_ids_of(kGolden / "gpt2_like.tokenizer.json", "gpt2_like"); }

std::vector<ChatMessage> messages_from_json(const Json& json) {
  std::vector<ChatMessage> messages;
  for (const Json& message : json) {
    ChatMessage& out = messages.emplace_back();
    out.role = message["role"];
    if (message["content"].is_string()) {
      out.parts.push_back({ContentPart::Kind::kText, message["content"]});
      continue;
    }
    for (const Json& part : message["content"]) {
      if (part["type"] == "image") {
        out.parts.push_back({ContentPart::Kind::kPicture, ""});
      } else {
        out.parts.push_back({ContentPart::Kind::kText, part["text"]});
      }
    }
  }
  return messages;
}

TEST(ChatTemplateGolden, EqualsApplyChatTemplate) {
  const ChatTemplate chat_template = ChatTemplate::load(kDemoModel);
  const Json chats = read_json(kGolden / "chat.json");
  ASSERT_GE(chats.size(), 50u);
  for (const Json& chat : chats) {
    const std::vector<ChatMessage> messages = messages_from_json(chat["messages"]);
    EXPECT_EQ(chat_template.render(messages, false), chat["prompt"].get<std::string>());
    EXPECT_EQ(chat_template.render(messages, true), chat["generation_prompt"].get<std::string>());
  }
}

}  // namespace
}  // namespace halftone
