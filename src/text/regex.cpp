#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/regex.h"

#include <pcre2.h>

#include <algorithm>
#include <array>
#include <optional>

#include "base/error.h"
#include "text/utf8.h"

namespace halftone {
namespace {

// Steps that one search may take before it counts as runaway: backtracking in the shipped patterns is linear.
constexpr std::uint32_t kMinSteps = 10'000'000;
constexpr std::uint32_t kStepsPerByte = 64;

std::string message_of(int code) {
  std::array<PCRE2_UCHAR, 256> text{};
  pcre2_get_error_message(code, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

// The state of one search; PCRE2 writes the offsets of the match into it.
class Search {
 public:
  Search(const pcre2_code* code, std::string_view text)
      : code_(code),
        text_(text),
        data_(pcre2_match_data_create_from_pattern(code, nullptr), pcre2_match_data_free),
        context_(pcre2_match_context_create(nullptr), pcre2_match_context_free) {
    const std::uint64_t steps = std::max<std::uint64_t>(kMinSteps, std::uint64_t{kStepsPerByte} * text.size());
    pcre2_set_match_limit(context_.get(), static_cast<std::uint32_t>(std::min<std::uint64_t>(steps, 0xFFFFFFFFu)));
  }

  // The first match at or behind `from`; nullopt: none.
  std::optional<std::pair<std::size_t, std::size_t>> next(std::size_t from, std::string_view source) {
    int rc = match(from, 0);
    // Compiled code has a small stack of its own; the interpreter uses the heap.
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT) rc = match(from, PCRE2_NO_JIT);
    if (rc == PCRE2_ERROR_NOMATCH) return std::nullopt;
    require(rc > 0, source, "matching the pattern failed on a text of {} bytes: {}", text_.size(), message_of(rc));
    const PCRE2_SIZE* offsets = pcre2_get_ovector_pointer(data_.get());
    return std::pair{offsets[0], offsets[1]};
  }

 private:
  int match(std::size_t from, std::uint32_t options) {
    return pcre2_match(code_, reinterpret_cast<PCRE2_SPTR>(text_.data()), text_.size(), from,
                       options | PCRE2_NO_UTF_CHECK, data_.get(), context_.get());
  }

  const pcre2_code* code_;
  std::string_view text_;
  std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> data_;
  std::unique_ptr<pcre2_match_context, decltype(&pcre2_match_context_free)> context_;
};

}  // namespace

Regex::Regex(std::string_view pattern, std::string_view source) : source_(source) {
  const std::string translated = translate_pattern(pattern, source);
  int error = 0;
  PCRE2_SIZE offset = 0;
  // UCP makes \d and \b Unicode's; in Ruby's syntax ^ and $ always match at line ends.
  pcre2_code* code =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                    PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &error, &offset, nullptr);
  require(code != nullptr, source, "expected a regular expression, found '{}': {}", pattern.substr(0, 200),
          message_of(error));
  code_ = std::shared_ptr<const void>(code, [](void* p) { pcre2_code_free(static_cast<pcre2_code*>(p)); });
  // Without executable memory the interpreter does the work, so a failure here is none.
  pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);
}

void Regex::for_each_match(std::string_view text, const std::function<void(std::size_t, std::size_t)>& found) const {
  Search search(static_cast<const pcre2_code*>(code_.get()), text);
  std::optional<std::size_t> last_end;
  for (std::size_t from = 0; from <= text.size();) {
    const auto match = search.next(from, source_);
    if (!match) return;
    const auto [begin, end] = *match;
    if (begin == end && last_end == end) {
      from = end < text.size() ? end + next_utf8(text, end).length : end + 1;
      continue;
    }
    found(begin, end);
    last_end = end;
    from = end;
  }
}

}  // namespace halftone
