#include <array>

#include "hf/synth_qwen2_vl.h"

namespace halftone {
namespace {

constexpr int kFirstSpecial = 151643;
constexpr std::array<std::string_view, 14> kSpecials{
    "<|endoftext|>",  "<|im_start|>",   "<|im_end|>",     "<|object_ref_start|>", "<|object_ref_end|>",
    "<|box_start|>",  "<|box_end|>",    "<|quad_start|>", "<|quad_end|>",         "<|vision_start|>",
    "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>",  "<|video_pad|>"};

constexpr std::string_view kChatTemplate =
    "{% set image_count = namespace(value=0) %}{% set video_count = namespace(value=0) %}{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "{% endif %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}<|im_end|>\n{% else %}"
    "{% for content in message['content'] %}"
    "{% if content['type'] == 'image' or 'image' in content or 'image_url' in content %}"
    "{% set image_count.value = image_count.value + 1 %}{% if add_vision_id %}Picture {{ image_count.value }}: "
    "{% endif %}<|vision_start|><|image_pad|><|vision_end|>{% elif content['type'] == 'video' or 'video' in content %}"
    "{% set video_count.value = video_count.value + 1 %}{% if add_vision_id %}Video {{ video_count.value }}: "
    "{% endif %}<|vision_start|><|video_pad|><|vision_end|>{% elif 'text' in content %}{{ content['text'] }}"
    "{% endif %}{% endfor %}<|im_end|>\n{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% endif %}";

std::string to_utf8(int code_point) {
  if (code_point < 0x80) return {static_cast<char>(code_point)};
  return {static_cast<char>(0xc0 | (code_point >> 6)), static_cast<char>(0x80 | (code_point & 0x3f))};
}

// The characters that stand for the 256 bytes in byte-level BPE (GPT-2): printable bytes stand for themselves and come
// first, the others are U+0100 and up.
std::vector<std::string> byte_characters() {
  const auto printable = [](int b) { return (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174; };
  std::vector<std::string> characters;
  for (int b = 0; b < 256; ++b) {
    if (printable(b)) characters.push_back(to_utf8(b));
  }
  for (int i = 0; characters.size() < 256; ++i) characters.push_back(to_utf8(0x100 + i));
  return characters;
}

// The i-th word of four letters, "aaaa", "aaab", ...
std::string word(int i) {
  std::string letters(4, 'a');
  for (int k = 3; k >= 0; --k, i /= 26) letters[static_cast<std::size_t>(k)] = static_cast<char>('a' + i % 26);
  return letters;
}

OrderedJson added_token(std::string_view content) {
  return {{"content", content}, {"single_word", false}, {"lstrip", false},
          {"rstrip", false},    {"normalized", false},  {"special", true}};
}

OrderedJson byte_level() {
  return {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", false}, {"use_regex", false}};
}

OrderedJson pre_tokenizer() {
  const OrderedJson split = {{"type", "Split"},
                             {"pattern",
                              {{"Regex",
                                "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| "
                                "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"}}},
                             {"behavior", "Isolated"},
                             {"invert", false}};
  return {{"type", "Sequence"}, {"pretokenizers", {split, byte_level()}}};
}

}  // namespace

OrderedJson qwen2_vl_tokenizer() {
  // an ordered object would search all its keys for each new one
  Json vocabulary = Json::object();
  int id = 0;
  for (const std::string& character : byte_characters()) vocabulary[character] = id++;
  for (int i = 0; id < kFirstSpecial; ++i) vocabulary[word(i)] = id++;
  OrderedJson added = OrderedJson::array();
  for (const std::string_view special : kSpecials) {
    OrderedJson token{{"id", id++}};
    token.update(added_token(special));
    added.push_back(std::move(token));
  }
  OrderedJson model{{"type", "BPE"},
                    {"dropout", nullptr},
                    {"unk_token", nullptr},
                    {"continuing_subword_prefix", ""},
                    {"end_of_word_suffix", ""},
                    {"fuse_unk", false},
                    {"byte_fallback", false},
                    {"ignore_merges", false}};
  model["vocab"] = vocabulary;
  model["merges"] = OrderedJson::array();
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens", std::move(added)},
          {"normalizer", {{"type", "NFC"}}},
          {"pre_tokenizer", pre_tokenizer()},
          {"post_processor", byte_level()},
          {"decoder", byte_level()},
          {"model", std::move(model)}};
}

OrderedJson qwen2_vl_tokenizer_config() {
  OrderedJson decoder = OrderedJson::object();
  OrderedJson additional = OrderedJson::array();
  for (std::size_t i = 0; i < kSpecials.size(); ++i) {
    decoder[std::to_string(kFirstSpecial + static_cast<int>(i))] = added_token(kSpecials[i]);
    if (i > 0) additional.push_back(kSpecials[i]);
  }
  return {{"add_prefix_space", false},
          {"added_tokens_decoder", std::move(decoder)},
          {"additional_special_tokens", std::move(additional)},
          {"bos_token", nullptr},
          {"chat_template", kChatTemplate},
          {"clean_up_tokenization_spaces", false},
          {"eos_token", "<|im_end|>"},
          {"errors", "replace"},
          {"model_max_length", 32768},
          {"pad_token", "<|endoftext|>"},
          {"split_special_tokens", false},
          {"tokenizer_class", "Qwen2Tokenizer"},
          {"unk_token", nullptr}};
}

std::string_view qwen2_vl_chat_template() { return kChatTemplate; }

}  // namespace halftone
