#include <algorithm>
#include <array>
#include <optional>

#include "base/error.h"
#include "text/regex.h"
#include "text/unicode_additions.h"
#include "text/utf8.h"

namespace halftone {
namespace {

constexpr std::string_view kWord = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}";
// Superscript digits and fractions below U+0100: of \w outside brackets, not inside.
constexpr std::string_view kWordOutsideBrackets = "\\x{B2}\\x{B3}\\x{B9}\\x{BC}-\\x{BE}";

constexpr auto kCategories = std::to_array<std::string_view>(
    {"L",  "Lu", "Ll", "Lt", "Lm", "Lo", "M",  "Mn", "Mc", "Me", "N", "Nd", "Nl", "No", "P",  "Pc", "Pd",
     "Ps", "Pe", "Pi", "Pf", "Po", "S",  "Sm", "Sc", "Sk", "So", "Z", "Zs", "Zl", "Zp", "Cc", "Cf", "Co"});

// Escapes that mean one character in both syntaxes and are copied.
constexpr std::string_view kCopiedEscapes = "rntfae.^$|()[]{}*+?\\/-'\"<>=!:;,#&~@%` ";

std::string_view additions_of(std::string_view name) {
  const auto* found = std::find_if(kClassAdditions.begin(), kClassAdditions.end(),
                                   [&](const ClassAddition& addition) { return addition.name == name; });
  return found == kClassAdditions.end() ? std::string_view{} : found->ranges;
}

// Reads a pattern in Ruby's syntax and writes it in PCRE2's, one construct at a time.
class Translator {
 public:
  Translator(std::string_view pattern, std::string_view source) : pattern_(pattern), source_(source) {}

  std::string run() {
    while (at_ < pattern_.size()) step();
    return std::move(out_);
  }

 private:
  void step() {
    switch (pattern_[at_]) {
      case '\\':
        return escape(false);
      case '[':
        return bracket_class();
      case '(':
        return group();
      case '{':
        return repeat();
      default:
        out_ += pattern_[at_++];
    }
  }

  [[noreturn]] void unsupported(std::string_view what) const {
    fail(source_, "{} at byte {} is not supported in the pattern '{}'", what, at_, pattern_.substr(0, 200));
  }

  bool take(std::string_view text) {
    if (!pattern_.substr(at_).starts_with(text)) return false;
    at_ += text.size();
    return true;
  }

  // A class by its members, as they stand between brackets.
  void emit_class(std::string_view members, bool negated, bool in_brackets) {
    if (in_brackets) {
      if (negated) unsupported("a negated class inside brackets");
      out_ += members;
    } else {
      out_ += fmt::format("[{}{}]", negated ? "^" : "", members);
    }
  }

  void escape(bool in_brackets) {
    const std::size_t begin = at_++;
    if (at_ == pattern_.size()) unsupported("a backslash at the end");
    const char c = pattern_[at_++];
    switch (c) {
      case 's':
        out_ += "\\p{White_Space}";
        return;
      case 'S':
        out_ += "\\P{White_Space}";
        return;
      case 'd':
      case 'D':
        return emit_class(fmt::format("\\p{{Nd}}{}", additions_of("Nd")), c == 'D', in_brackets);
      case 'w':
      case 'W':
        return emit_class(word_members(in_brackets), c == 'W', in_brackets);
      case 'p':
      case 'P':
        return property(c == 'P', in_brackets);
      case 'u':
      case 'x':
        return code_point(c);
      default:
        break;
    }
    if (!in_brackets && (c == 'b' || c == 'B')) return word_boundary(c == 'B');
    const bool anchor = !in_brackets && std::string_view("AzZ").find(c) != std::string_view::npos;
    if (!anchor && kCopiedEscapes.find(c) == std::string_view::npos) {
      at_ = begin;
      unsupported(fmt::format("the escape '\\{}'", pattern_.substr(begin + 1, next_utf8(pattern_, begin + 1).length)));
    }
    out_ += pattern_.substr(begin, 2);
  }

  static std::string word_members(bool in_brackets) {
    return fmt::format("{}{}{}", kWord, additions_of("w"), in_brackets ? "" : kWordOutsideBrackets);
  }

  // Between a character of \w and another, or not there; PCRE2's own \b has a narrower \w.
  void word_boundary(bool negated) {
    const std::string word = fmt::format("[{}]", word_members(false));
    out_ += negated ? fmt::format("(?:(?<={0})(?={0})|(?<!{0})(?!{0}))", word)
                    : fmt::format("(?:(?<={0})(?!{0})|(?<!{0})(?={0}))", word);
  }

  void property(bool negated, bool in_brackets) {
    const std::size_t close = pattern_.find('}', at_);
    if (!take("{") || close == std::string_view::npos) unsupported("a property without braces");
    const std::string_view name = pattern_.substr(at_, close - at_);
    at_ = close + 1;
    const bool category = std::find(kCategories.begin(), kCategories.end(), name) != kCategories.end();
    if (category && !additions_of(name).empty()) {
      return emit_class(fmt::format("\\p{{{}}}{}", name, additions_of(name)), negated, in_brackets);
    }
    const bool word = !name.empty() && std::all_of(name.begin(), name.end(), [](char c) {
      return c == '_' || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
    });
    // A longer name is that of a script; PCRE2 would take it for script extensions, Oniguruma for the script alone.
    if (!category && (!word || name.size() < 3)) unsupported(fmt::format("the property '{}'", name));
    out_ += fmt::format("\\{}{{{}{}}}", negated ? 'P' : 'p', category ? "" : "sc:", name);
  }

  // \uHHHH, \xHH and \x{H...}.
  void code_point(char kind) {
    const bool braces = kind == 'x' && take("{");
    std::size_t digits = pattern_.find_first_not_of("0123456789abcdefABCDEF", at_);
    digits = (digits == std::string_view::npos ? pattern_.size() : digits) - at_;
    const std::size_t expected = kind == 'u' ? 4 : 2;
    if (!braces) digits = std::min(digits, expected);
    if (braces ? digits == 0 || digits > 6 : digits != expected) unsupported("a code point of this length");
    const std::string_view text = pattern_.substr(at_, digits);
    at_ += digits;
    if (braces && !take("}")) unsupported("a code point without its brace");
    if (!braces && kind == 'x' && text[0] > '7') unsupported("a byte above 7F");
    out_ += fmt::format("\\x{{{}}}", text);
  }

  void bracket_class() {
    out_ += pattern_[at_++];
    if (take("^")) out_ += '^';
    if (take("]")) unsupported("an empty class");
    while (at_ < pattern_.size() && pattern_[at_] != ']') {
      if (pattern_[at_] == '[') unsupported("a class inside a class");
      if (pattern_.substr(at_).starts_with("&&")) unsupported("an intersection of classes");
      if (pattern_[at_] == '\\') {
        escape(true);
      } else {
        out_ += pattern_[at_++];
      }
    }
    if (!take("]")) unsupported("a class without its end");
    out_ += ']';
  }

  void group() {
    if (pattern_.substr(at_).starts_with("(?i)")) {
      // Behind other text Ruby's scope of (?i) differs from Perl's.
      if (at_ != 0) unsupported("(?i) behind the beginning");
    } else if (pattern_.substr(at_).starts_with("(?") || pattern_.substr(at_).starts_with("(*")) {
      constexpr auto kGroups =
          std::to_array<std::string_view>({"(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?i:", "(?-i:"});
      const auto* found = std::find_if(kGroups.begin(), kGroups.end(), [&](std::string_view g) { return take(g); });
      if (found == kGroups.end()) unsupported("this group");
      out_ += *found;
      return;
    }
    out_ += pattern_[at_++];
    if (take("?i)")) out_ += "?i)";
  }

  // {n}, {n,} and {n,m}; Ruby has more forms, and {n}+ repeats there where it is possessive in Perl.
  void repeat() {
    const std::size_t close = pattern_.find('}', at_);
    const std::string_view count = pattern_.substr(at_, close == std::string_view::npos ? close : close + 1 - at_);
    const std::size_t comma = std::min(count.find(','), count.size() - 1);
    const auto is_number = [](std::string_view text) {
      return text.find_first_not_of("0123456789") == std::string_view::npos;
    };
    const bool well_formed = close != std::string_view::npos && comma > 1 && is_number(count.substr(1, comma - 1)) &&
                             (count[comma] == '}' || is_number(count.substr(comma + 1, count.size() - comma - 2)));
    if (!well_formed) unsupported("this brace");
    at_ = close + 1;
    if (at_ < pattern_.size() && pattern_[at_] == '+') unsupported("a '+' behind a repeat count");
    out_ += count;
  }

  std::string_view pattern_;
  std::string_view source_;
  std::size_t at_ = 0;
  std::string out_;
};

}  // namespace

std::string translate_pattern(std::string_view pattern, std::string_view source) {
  return Translator(pattern, source).run();
}

std::string escape_pattern(std::string_view literal) {
  std::string pattern;
  for (const char c : literal) {
    if (std::string_view(".^$|()[]{}*+?\\/-").find(c) != std::string_view::npos) pattern += '\\';
    pattern += c;
  }
  return pattern;
}

}  // namespace halftone
