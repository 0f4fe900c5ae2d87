#pragma once
// Plain text, and conversations in it as a ChatML template renders them.

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace halftone {

struct TextFile {
  std::string text;
  std::string hash;  // SHA-256 over name and content
};

// A text file, or the heldout.txt of a folder or of its subfolder text. Throws Error when it is missing or empty.
TextFile read_text_file(const std::filesystem::path& path);

// The parts of `text` that begin with "<|im_start|>system\n"; what precedes the first is left out. They borrow from
// `text`.
std::vector<std::string_view> split_conversations(std::string_view text);

// Pieces of about `bytes` bytes that end at a line end where there is one, else between characters.
std::vector<std::string_view> split_lines(std::string_view text, std::size_t bytes);

}  // namespace halftone
