#include "base/glob.h"

namespace halftone {
namespace {

// Length of the element of the pattern at its beginning ('*' excepted) when it matches c; 0 otherwise.
std::size_t match_one(std::string_view pattern, char c) {
  if (pattern[0] == '?') return 1;
  if (pattern[0] != '[') return pattern[0] == c ? 1 : 0;
  const bool negated = pattern.size() > 1 && pattern[1] == '!';
  const std::size_t first = negated ? 2 : 1;
  const std::size_t close = pattern.find(']', first + 1);  // a ']' in the first place is a member
  if (close == std::string_view::npos) return c == '[' ? 1 : 0;
  bool found = false;
  for (std::size_t i = first; i < close; ++i) {
    const bool range = i + 2 < close && pattern[i + 1] == '-';
    found = found || (range ? pattern[i] <= c && c <= pattern[i + 2] : pattern[i] == c);
    if (range) i += 2;
  }
  return found != negated ? close + 1 : 0;
}

}  // namespace

bool glob_match(std::string_view pattern, std::string_view text) {
  std::size_t p = 0, t = 0;
  std::size_t star = std::string_view::npos, retry = 0;  // behind the last '*', and where its run ends so far
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = ++p;
      retry = t;
      continue;
    }
    const std::size_t length = p < pattern.size() ? match_one(pattern.substr(p), text[t]) : 0;
    if (length > 0) {
      p += length;
      ++t;
    } else if (star != std::string_view::npos) {
      p = star;
      t = ++retry;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', p) == std::string_view::npos;
}

}  // namespace halftone
