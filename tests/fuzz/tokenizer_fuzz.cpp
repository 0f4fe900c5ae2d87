// The input as a tokenizer.json, and as text for the demo's tokenizer.
#include <cstdio>
#include <cstdlib>

#include "base/error.h"
#include "text/tokenizer.h"
#include "text/utf8.h"

namespace {

using namespace halftone;

void expect(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "expected: %s\n", what);
  std::abort();
}

std::string stream(const std::shared_ptr<const Tokenizer>& tokenizer, const std::vector<TokenId>& ids) {
  StreamingDecoder decoder(tokenizer, false);
  std::string text;
  for (const TokenId id : ids) {
    const std::string part = decoder.push(id);
    expect(part == replace_malformed_utf8(part), "whole characters");
    text += part;
  }
  return text + decoder.finish();
}

void check_text(const std::shared_ptr<const Tokenizer>& tokenizer, std::string_view text) {
  const std::vector<TokenId> ids = tokenizer->encode(text);
  for (const TokenId id : ids) expect(id >= 0 && id < tokenizer->size(), "ids in range");
  expect(stream(tokenizer, ids) == tokenizer->decode(ids, false), "streamed text equal to decoded text");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  static const auto demo = Tokenizer::load(HALFTONE_SOURCE_DIR "/demo/model");
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  check_text(demo, input);
  // Text in normal form comes back as it was: the demo's normalizer is NFC.
  const std::string normal = demo->decode(demo->encode(input), false);
  expect(demo->decode(demo->encode(normal), false) == normal, "text that round-trips");
  if (is_ascii(input)) expect(normal == input, "ASCII text back");
  try {
    check_text(Tokenizer::parse(input, "input"), "abc <|im_end|> \xF0\x9F\x98\x80\xC3");
  } catch (const Error&) {
  }
  return 0;
}
