#include "data/text_file.h"

#include <algorithm>

#include "data/source.h"

namespace halftone {

TextFile read_text_file(const std::filesystem::path& path) {
  const bool is_folder = std::filesystem::is_directory(path);
  DataSource files;
  TextFile file;
  file.text = files.text(is_folder ? find_data_file(path, "text", "heldout.txt") : path);
  require(!file.text.empty(), path.string(), "expected text, found an empty file");
  file.hash = files.hash();
  return file;
}

std::vector<std::string_view> split_conversations(std::string_view text) {
  constexpr std::string_view kBegin = "<|im_start|>system\n";
  std::vector<std::string_view> conversations;
  for (std::size_t begin = text.find(kBegin); begin != std::string_view::npos;) {
    const std::size_t end = text.find(kBegin, begin + kBegin.size());
    conversations.push_back(text.substr(begin, end == std::string_view::npos ? end : end - begin));
    begin = end;
  }
  return conversations;
}

std::vector<std::string_view> split_lines(std::string_view text, std::size_t bytes) {
  const auto is_continuation = [](char c) { return (static_cast<unsigned char>(c) & 0xc0) == 0x80; };
  std::vector<std::string_view> pieces;
  while (!text.empty()) {
    std::size_t length = std::min(bytes, text.size());
    if (length < text.size()) {
      const std::size_t line_end = text.rfind('\n', length - 1);
      if (line_end != std::string_view::npos) length = line_end + 1;
      for (int back = 0; back < 3 && length > 1 && is_continuation(text[length]); ++back) --length;
    }
    pieces.push_back(text.substr(0, length));
    text.remove_prefix(length);
  }
  return pieces;
}

}  // namespace halftone
