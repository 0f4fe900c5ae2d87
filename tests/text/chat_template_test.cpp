#include "text/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"

namespace halftone {
namespace {

using testing::HasSubstr;

const std::filesystem::path kDemoModel = std::filesystem::path(HALFTONE_SOURCE_DIR) / "demo/model";

// A folder of its own, removed at the end.
class ChatTemplateFiles : public testing::Test {
 protected:
  void SetUp() override { std::filesystem::create_directories(folder_); }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  void write(const char* name, const std::string& text) { write_file_atomically(folder_ / name, text); }
  std::string error() const {
    try {
      ChatTemplate::load(folder_);
    } catch (const Error& e) {
      return e.what();
    }
    return "no error";
  }

  std::filesystem::path folder_ =
      std::filesystem::path(testing::TempDir()) / testing::UnitTest::GetInstance()->current_test_info()->name();
  std::string qwen2_vl_ = get_field<std::string>(read_json(kDemoModel / "chat_template.json"), "chat_template", "demo");
};

TEST_F(ChatTemplateFiles, AreFoundInEveryPlace) {
  EXPECT_THAT(error(), HasSubstr("found none"));
  write("tokenizer_config.json", Json({{"chat_template", qwen2_vl_}}).dump());
  EXPECT_EQ(error(), "no error");
  const Json named =
      Json::array({{{"name", "other"}, {"template", "x"}}, {{"name", "default"}, {"template", qwen2_vl_}}});
  write("tokenizer_config.json", Json({{"chat_template", named}}).dump());
  EXPECT_EQ(error(), "no error");
  write("tokenizer_config.json", "{}");
  EXPECT_THAT(error(), HasSubstr("found none"));
  write("chat_template.jinja", qwen2_vl_);
  EXPECT_EQ(error(), "no error");
}

TEST_F(ChatTemplateFiles, OfOtherFamiliesAreRefused) {
  write("chat_template.json", Json({{"chat_template", "{{ bos_token }}[INST] {{ messages }} [/INST]"}}).dump());
  EXPECT_THAT(error(), HasSubstr("chat_template.json] expected the chat template of Qwen2-VL"));
  write("chat_template.json", Json({{"chat_template", qwen2_vl_ + "{% if tools %}{% endif %}"}}).dump());
  EXPECT_THAT(error(), HasSubstr("expected the chat template of Qwen2-VL"));
  write("chat_template.json", Json({{"chat_template", 7}}).dump());
  EXPECT_THAT(error(), HasSubstr("field 'chat_template'"));
  write("chat_template.json", "{");
  EXPECT_THAT(error(), HasSubstr("expected JSON"));
}

TEST(ChatTemplate, RendersPicturesBeforeTheQuestion) {
  const ChatTemplate chat_template = ChatTemplate::load(kDemoModel);
  EXPECT_EQ(
      chat_template.render({user_message("Which is red?", 2)}),
      "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
      "<|vision_start|><|image_pad|><|vision_end|><|vision_start|><|image_pad|><|vision_end|>Which is red?<|im_end|>\n"
      "<|im_start|>assistant\n");
  EXPECT_EQ(user_message("x").parts.size(), 1u);
  EXPECT_THROW(chat_template.render({}), Error);
}

}  // namespace
}  // namespace halftone
