#include "text/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "base/json.h"
#include "base/random.h"
#include "text/byte_level.h"
#include "text/utf8.h"

namespace halftone {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// A tokenizer.json with the 256 bytes (ids in the order of the bytes), "ab" (256), "abc" (257), "bc" (258) and "<end>"
// (259).
Json small_tokenizer() {
  Json vocabulary = Json::object();
  for (std::size_t byte = 0; byte < 256; ++byte) vocabulary[byte_level_alphabet()[byte]] = byte;
  vocabulary["ab"] = 256;
  vocabulary["abc"] = 257;
  vocabulary["bc"] = 258;
  return {{"added_tokens", {{{"id", 259}, {"content", "<end>"}, {"special", true}}}},
          {"normalizer", nullptr},
          {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}}},
          {"post_processor", nullptr},
          {"decoder", {{"type", "ByteLevel"}}},
          {"model", {{"type", "BPE"}, {"vocab", vocabulary}, {"merges", {"a b", "ab c", "b c"}}}}};
}

std::shared_ptr<const Tokenizer> parse(const Json& json) { return Tokenizer::parse(json.dump(), "t.json"); }

std::string error_of(const std::string& text) {
  try {
    Tokenizer::parse(text, "t.json");
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

// The error for a small tokenizer in which the value at `pointer` is replaced.
std::string error_with(const char* pointer, const Json& value) {
  Json json = small_tokenizer();
  json[Json::json_pointer(pointer)] = value;
  return error_of(json.dump());
}

std::string error_without(const char* object, const char* field) {
  Json json = small_tokenizer();
  json[Json::json_pointer(object)].erase(field);
  return error_of(json.dump());
}

TEST(Tokenizer, MergesByRankThenFromTheLeft) {
  const auto tokenizer = parse(small_tokenizer());
  EXPECT_THAT(tokenizer->encode("abc"), ElementsAre(257));
  EXPECT_THAT(tokenizer->encode("bcab"), ElementsAre(258, 256));
  EXPECT_THAT(tokenizer->encode("ababcbc"), ElementsAre(256, 257, 258));
  EXPECT_THAT(tokenizer->encode(""), ElementsAre());
}

TEST(Tokenizer, FindsAddedTokensFirst) {
  const auto tokenizer = parse(small_tokenizer());
  EXPECT_THAT(tokenizer->encode("ab<end>ab<end"), ElementsAre(256, 259, 256, '<', 'e', 'n', 'd'));
  EXPECT_TRUE(tokenizer->is_special(259));
  EXPECT_FALSE(tokenizer->is_special(256));
  EXPECT_FALSE(tokenizer->is_special(-1));
  EXPECT_EQ(tokenizer->find("<end>"), 259);
  EXPECT_EQ(tokenizer->find("abc"), 257);
  EXPECT_EQ(tokenizer->find("abcd"), std::nullopt);
  EXPECT_EQ(tokenizer->size(), 260);
}

TEST(Tokenizer, LetsAddedTokensTakeWhiteSpace) {
  Json json = small_tokenizer();
  json["added_tokens"][0]["lstrip"] = true;
  json["added_tokens"][0]["rstrip"] = true;
  json["added_tokens"].push_back({{"id", 260}, {"content", "  "}, {"rstrip", true}, {"normalized", false}});
  const auto tokenizer = parse(json);
  EXPECT_THAT(tokenizer->encode("a \n<end> \tb"), ElementsAre('a', 259, 'b'));
  EXPECT_THAT(tokenizer->encode("a      b"), ElementsAre('a', 260, 260, 260, 'b'));
  EXPECT_THAT(tokenizer->encode("a   <end>b"), ElementsAre('a', 260, 259, 'b'));
}

TEST(Tokenizer, FindsSingleWordsOnlyAlone) {
  Json json = small_tokenizer();
  json["added_tokens"].push_back(
      {{"id", 260}, {"content", "xy"}, {"single_word", true}, {"special", true}, {"normalized", false}});
  const auto tokenizer = parse(json);
  EXPECT_THAT(tokenizer->encode("xy-xy"), ElementsAre(260, '-', 260));
  EXPECT_THAT(tokenizer->encode("xyb xy1 _xy"), ElementsAre('x', 'y', 'b', ' ', 'x', 'y', '1', ' ', '_', 'x', 'y'));
}

TEST(Tokenizer, DecodesWithAndWithoutSpecialTokens) {
  const auto tokenizer = parse(small_tokenizer());
  const std::vector<TokenId> ids = {257, 259, 0xE2, 0x82};
  EXPECT_EQ(tokenizer->decode(ids, true), "abc\uFFFD");
  EXPECT_EQ(tokenizer->decode(ids, false), "abc<end>\uFFFD");
  EXPECT_EQ(tokenizer->bytes_of(257), "abc");
  EXPECT_EQ(tokenizer->bytes_of(259), "");
  EXPECT_EQ(tokenizer->bytes_of(259, false), "<end>");
}

TEST(Tokenizer, GivesNothingForIdsWithoutToken) {
  const auto tokenizer = parse(small_tokenizer());
  const std::vector<TokenId> padded = {256, 260, 2'000'000'000, 256};
  EXPECT_EQ(tokenizer->decode(padded), "abab");
  const std::vector<TokenId> negative = {-1};
  EXPECT_THROW(tokenizer->decode(negative), Error);
}

TEST(Tokenizer, DropsBytesOutsideTheVocabularyOrMakesThemUnknown) {
  Json json = small_tokenizer();
  json["model"]["vocab"].erase("z");
  EXPECT_THAT(parse(json)->encode("azzb"), ElementsAre(256));
  json["model"]["unk_token"] = "abc";
  EXPECT_THAT(parse(json)->encode("azzb"), ElementsAre('a', 257, 257, 'b'));
  json["model"]["fuse_unk"] = true;
  EXPECT_THAT(parse(json)->encode("azzb"), ElementsAre('a', 257, 'b'));
}

TEST(Tokenizer, TakesWholeWordsBeforeMergesWhenToldTo) {
  Json json = small_tokenizer();
  json["model"]["vocab"]["cab"] = 260;
  EXPECT_THAT(parse(json)->encode("cab"), ElementsAre('c', 256));
  json["model"]["ignore_merges"] = true;
  EXPECT_THAT(parse(json)->encode("cab"), ElementsAre(260));
}

TEST(Tokenizer, IsSafeToShareBetweenThreads) {
  const auto tokenizer = parse(small_tokenizer());
  const std::string text = "abc abcab, it's <end> ä bc 1234\n\n abab";
  const std::vector<TokenId> expected = tokenizer->encode(text);
  std::vector<std::jthread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 200; ++i) EXPECT_EQ(tokenizer->encode(text), expected);
    });
  }
}

// One word of a megabyte: merging is O(n log n), and nothing recurses.
TEST(Tokenizer, EncodesOneVeryLongWord) {
  const auto tokenizer = parse(small_tokenizer());
  std::string text;
  for (int i = 0; i < 350'000; ++i) text += "abc";
  const std::vector<TokenId> ids = tokenizer->encode(text);
  EXPECT_EQ(ids, std::vector<TokenId>(350'000, 257));
  EXPECT_EQ(tokenizer->encode(std::string(1'000'000, ' ') + "x").size(), 1'000'001u);
}

// As many tokens as Qwen2-VL has: each is two random earlier ones.
TEST(Tokenizer, ReadsLargeVocabularies) {
  Json json = small_tokenizer();
  json["added_tokens"] = Json::array();
  Json& vocabulary = json["model"]["vocab"];
  Json merges = Json::array({Json::array({"a", "b"}), Json::array({"ab", "c"}), Json::array({"b", "c"})});
  std::vector<std::string> tokens;
  for (const auto& entry : vocabulary.items()) tokens.push_back(entry.key());
  Random random(1);
  while (tokens.size() < 151'643) {
    const std::string left = tokens[random.below(tokens.size())];
    const std::string right = tokens[random.below(256)];
    if (vocabulary.contains(left + right)) continue;
    vocabulary[left + right] = tokens.size();
    tokens.push_back(left + right);
    merges.push_back(Json::array({left, right}));
  }
  json["model"]["merges"] = std::move(merges);
  const auto tokenizer = parse(json);
  EXPECT_EQ(tokenizer->size(), 151'643);
  const std::string text = *from_byte_level(tokens.back() + tokens[100'000] + tokens[50'000]);
  EXPECT_EQ(tokenizer->decode(tokenizer->encode(text)), replace_malformed_utf8(text));
}

TEST(TokenizerErrors, NameTheFileAndTheField) {
  EXPECT_THAT(error_of("{"), HasSubstr("[t.json]"));
  EXPECT_THAT(error_of("[]"), HasSubstr("expected a JSON object"));
  EXPECT_THAT(error_of("{}"), HasSubstr("decoder"));
  EXPECT_THAT(error_without("/model", "vocab"), HasSubstr("[t.json] field 'model.vocab': expected"));
  EXPECT_THAT(error_without("/model", "merges"), HasSubstr("model.merges"));
  EXPECT_THAT(error_without("", "model"), HasSubstr("model"));
  EXPECT_THAT(error_without("", "pre_tokenizer"), HasSubstr("pre_tokenizer"));
  EXPECT_THAT(error_without("", "decoder"), HasSubstr("decoder"));
  EXPECT_THAT(error_without("/added_tokens/0", "id"), HasSubstr("added_tokens[0].id"));
  EXPECT_THAT(error_without("/added_tokens/0", "content"), HasSubstr("content"));
}

TEST(TokenizerErrors, RefuseWhatIsNotSupported) {
  EXPECT_THAT(error_with("/model/type", "Unigram"), HasSubstr("field 'model.type': expected BPE, found 'Unigram'"));
  EXPECT_THAT(error_with("/model/byte_fallback", true), HasSubstr("model.byte_fallback"));
  EXPECT_THAT(error_with("/model/dropout", 0.1), HasSubstr("model.dropout"));
  EXPECT_THAT(error_with("/model/continuing_subword_prefix", "##"), HasSubstr("model.continuing_subword_prefix"));
  EXPECT_THAT(error_with("/model/end_of_word_suffix", "</w>"), HasSubstr("model.end_of_word_suffix"));
  EXPECT_THAT(error_with("/normalizer", {{"type", "StripAccents"}}), HasSubstr("normalizer.type"));
  EXPECT_THAT(error_with("/pre_tokenizer/type", "Metaspace"), HasSubstr("pre_tokenizer.type"));
  EXPECT_THAT(error_with("/pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", Json::array()}}),
              HasSubstr("expected ByteLevel at its end"));
  EXPECT_THAT(error_with("/decoder/type", "WordPiece"), HasSubstr("decoder.type"));
  EXPECT_THAT(error_with("/post_processor", {{"type", "Unknown"}}), HasSubstr("post_processor.type"));
}

TEST(TokenizerErrors, RefuseBadIds) {
  EXPECT_THAT(error_with("/model/vocab/ab", 257), HasSubstr("with id 257"));
  EXPECT_THAT(error_with("/model/vocab/ab", -1), HasSubstr("expected a token id from 0"));
  EXPECT_THAT(error_with("/model/vocab/ab", 1e18), HasSubstr("expected an integer"));
  EXPECT_THAT(error_with("/model/vocab/ab", 4'000'000'000'000), HasSubstr("model.vocab.ab"));
  EXPECT_THAT(error_with("/model/vocab/ab", 2'147'483'647), HasSubstr("expected a token id from 0"));
  EXPECT_THAT(error_with("/model/vocab/ab", "x"), HasSubstr("expected an integer, found string"));
  EXPECT_THAT(error_with("/added_tokens/0/id", 256), HasSubstr("which is taken"));
  EXPECT_THAT(error_with("/added_tokens/0/id", 18'446'744'073'709'551'615u), HasSubstr("added_tokens[0].id"));
  EXPECT_THAT(error_with("/added_tokens/0/content", "abc"), HasSubstr("expected 257 as in model.vocab, found 259"));
  EXPECT_THAT(error_with("/added_tokens/0/content", ""), HasSubstr("added_tokens[0].content"));
  EXPECT_THAT(error_with("/added_tokens/1", small_tokenizer()["added_tokens"][0]), HasSubstr("'<end>' twice"));
}

TEST(TokenizerErrors, RefuseBadMerges) {
  EXPECT_THAT(error_with("/model/merges/1", "ab x y"), HasSubstr("model.merges[1]"));
  EXPECT_THAT(error_with("/model/merges/1", "ab"), HasSubstr("model.merges[1]"));
  EXPECT_THAT(error_with("/model/merges/1", {"ab", "b"}), HasSubstr("found 'abb'"));
  EXPECT_THAT(error_with("/model/merges/1", {"abq", ""}), HasSubstr("found 'abq'"));
  EXPECT_THAT(error_with("/model/merges/1", 7), HasSubstr("expected two tokens, found 7"));
}

TEST(TokenizerErrors, RefuseBadPatterns) {
  const auto error_of_pattern = [](const char* pattern) {
    const Json split = {{"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}};
    return error_with("/pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", {split, {{"type", "ByteLevel"}}}}});
  };
  EXPECT_EQ(error_of_pattern("a+"), "no error");
  EXPECT_THAT(error_of_pattern("(a"), HasSubstr("pre_tokenizer.pretokenizers[0].pattern"));
  EXPECT_THAT(error_of_pattern("\\p{Nonsense}"), HasSubstr("expected a regular expression"));
}

TEST(StreamingDecoder, NeverEmitsHalfACharacter) {
  StreamingDecoder decoder(parse(small_tokenizer()));
  EXPECT_EQ(decoder.push('x'), "x");
  EXPECT_EQ(decoder.push(0xF0), "");
  EXPECT_EQ(decoder.push(0x9F), "");
  EXPECT_EQ(decoder.push(259), "");  // a special token within a character is left out
  EXPECT_EQ(decoder.push(0x98), "");
  EXPECT_EQ(decoder.push(0x80), "\U0001F600");
  EXPECT_EQ(decoder.push(0xE2), "");
  EXPECT_EQ(decoder.push('y'), "\uFFFDy");  // it can no longer become a character
  EXPECT_EQ(decoder.push(0xC3), "");
  EXPECT_EQ(decoder.finish(), "\uFFFD");
  EXPECT_EQ(decoder.finish(), "");
}

}  // namespace
}  // namespace halftone
