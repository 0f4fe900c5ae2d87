#include "text/normalizer.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>
#include <memory>

#include "text/unicode_additions.h"
#include "text/utf8.h"

namespace halftone {
namespace {

bool is_barrier(std::uint32_t code_point) {
  const auto* behind =
      std::upper_bound(kNormalizationBarriers.begin(), kNormalizationBarriers.end(), code_point,
                       [](std::uint32_t value, const CodePointRange& range) { return value < range.first; });
  return behind != kNormalizationBarriers.begin() && code_point <= (behind - 1)->last;
}

// Appends text, which holds no barrier, as utf8proc normalizes it.
void append_normalized(std::string_view text, int options, std::string& out) {
  if (text.empty()) return;
  utf8proc_uint8_t* result = nullptr;
  const utf8proc_ssize_t length =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()), static_cast<utf8proc_ssize_t>(text.size()),
                   &result, static_cast<utf8proc_option_t>(options));
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(result, std::free);
  require(length >= 0, "normalize", "expected valid UTF-8, found: {}", utf8proc_errmsg(length));
  out.append(reinterpret_cast<const char*>(result), static_cast<std::size_t>(length));
}

std::string unicode_normal_form(std::string_view text, int options) {
  if (is_ascii(text)) return std::string(text);
  std::string out;
  out.reserve(text.size());
  std::size_t begin = 0;
  for (std::size_t at = 0; at < text.size();) {
    const Utf8Sequence sequence = next_utf8(text, at);
    if (is_barrier(sequence.code_point)) {
      append_normalized(text.substr(begin, at - begin), options, out);
      out += text.substr(at, sequence.length);
      begin = at + sequence.length;
    }
    at += sequence.length;
  }
  append_normalized(text.substr(begin), options, out);
  return out;
}

std::uint32_t lower_of(std::uint32_t code_point) {
  const auto* found =
      std::find_if(kLowercaseAdditions.begin(), kLowercaseAdditions.end(),
                   [&](const LowercaseRange& range) { return range.first <= code_point && code_point <= range.last; });
  if (found != kLowercaseAdditions.end()) return found->lower_of_first + (code_point - found->first);
  return static_cast<std::uint32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(code_point)));
}

// Character by character, without the special case of a final sigma, as Rust's char::to_lowercase.
std::string lowercase(std::string_view text) {
  constexpr std::uint32_t kCapitalIWithDot = 0x130;
  std::string out;
  out.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    const Utf8Sequence sequence = next_utf8(text, at);
    if (sequence.code_point == kCapitalIWithDot) {
      out += "i\xCC\x87";
    } else {
      append_utf8(lower_of(sequence.code_point), out);
    }
    at += sequence.length;
  }
  return out;
}

}  // namespace

Normalizer Normalizer::from_json(const Json& json, std::string_view field, std::string_view source) {
  Normalizer normalizer;
  if (json.is_null()) return normalizer;
  require(json.is_object(), source, "field '{}': expected an object or null, found {}", field, json.type_name());
  const auto type = get_field<std::string>(json, "type", source);
  if (type == "Sequence") {
    const auto it = json.find("normalizers");
    require(it != json.end() && it->is_array(), source, "field '{}.normalizers': expected an array", field);
    for (const Json& part : *it) {
      const Normalizer inner = from_json(part, fmt::format("{}.normalizers", field), source);
      normalizer.steps_.insert(normalizer.steps_.end(), inner.steps_.begin(), inner.steps_.end());
    }
    return normalizer;
  }
  constexpr std::pair<std::string_view, Step> kTypes[] = {{"NFC", Step::kNfc},
                                                          {"NFD", Step::kNfd},
                                                          {"NFKC", Step::kNfkc},
                                                          {"NFKD", Step::kNfkd},
                                                          {"Lowercase", Step::kLowercase}};
  const auto* found =
      std::find_if(std::begin(kTypes), std::end(kTypes), [&](const auto& t) { return t.first == type; });
  require(found != std::end(kTypes), source,
          "field '{}.type': expected NFC, NFD, NFKC, NFKD, Lowercase or Sequence, found '{}'", field, type);
  normalizer.steps_.push_back(found->second);
  return normalizer;
}

std::string Normalizer::apply(Step step, std::string_view text) {
  switch (step) {
    case Step::kNfc:
      return unicode_normal_form(text, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    case Step::kNfd:
      return unicode_normal_form(text, UTF8PROC_STABLE | UTF8PROC_DECOMPOSE);
    case Step::kNfkc:
      return unicode_normal_form(text, UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT);
    case Step::kNfkd:
      return unicode_normal_form(text, UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT);
    case Step::kLowercase:
      return lowercase(text);
  }
  fail("normalize", "unknown step {}", static_cast<int>(step));
}

std::string Normalizer::normalize(std::string_view text) const {
  std::string out(text);
  for (const Step step : steps_) out = apply(step, out);
  return out;
}

}  // namespace halftone
