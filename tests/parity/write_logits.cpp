// Writes the logits of texts as f32, for the oracles under tools/oracle:
//   write_logits CHECKPOINT TOKENS.json OUT      TOKENS.json: [[ids], ...]
// OUT: for each text, the logits [ids - 1, vocabulary] that predict its second id, its third, and so on, little endian.

#include <cstdio>
#include <fstream>

#include "runtime/engine.h"

namespace halftone {
namespace {

void write_logits(const std::filesystem::path& checkpoint, const std::filesystem::path& texts,
                  const std::filesystem::path& out) {
  std::ofstream file(out, std::ios::binary);
  const std::unique_ptr<Session> session = Session::create(Engine::load(checkpoint));
  for (const Json& text : read_json(texts)) {
    session->score_text(text.get<std::vector<TokenId>>(), [&](std::size_t, std::span<const float> logits) {
      file.write(reinterpret_cast<const char*>(logits.data()), static_cast<std::streamsize>(logits.size_bytes()));
    });
  }
  file.flush();
  require(file.good(), out.string(), "cannot be written");
}

}  // namespace
}  // namespace halftone

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: write_logits CHECKPOINT TOKENS.json OUT\n");
    return 2;
  }
  try {
    halftone::write_logits(argv[1], argv[2], argv[3]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
  }
}
