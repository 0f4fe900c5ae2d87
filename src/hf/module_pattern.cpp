#include "hf/module_pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <array>

#include "base/error.h"
#include "base/glob.h"

namespace halftone {
namespace {

constexpr std::uint32_t kMatchLimit = 1'000'000;

using Prefixes = std::vector<std::string_view>;
// longer ones first, since the shorter are beginnings of theirs
const std::array<Prefixes, 3> kPrefixes{{{"model.visual.", "visual."},
                                         {"model.language_model.", "language_model.model.", "model."},
                                         {"language_model.lm_head", "lm_head"}}};

std::shared_ptr<const void> compile(std::string_view expression, std::string_view source) {
  int error = 0;
  PCRE2_SIZE offset = 0;
  pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(expression.data()), expression.size(),
                                   PCRE2_ANCHORED | PCRE2_UTF | PCRE2_NEVER_BACKSLASH_C, &error, &offset, nullptr);
  if (!code) {
    std::array<PCRE2_UCHAR, 120> why{};
    pcre2_get_error_message(error, why.data(), why.size());
    fail(source, "expected a regular expression, found 're:{}': {} at {}", expression.substr(0, 80),
         reinterpret_cast<const char*>(why.data()), offset);
  }
  return {code, [](const void* p) { pcre2_code_free(static_cast<pcre2_code*>(const_cast<void*>(p))); }};
}

bool match_expression(const pcre2_code* code, const std::string& expression, const std::string& name) {
  const std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> data(pcre2_match_data_create(1, nullptr),
                                                                                 pcre2_match_data_free);
  const std::unique_ptr<pcre2_match_context, decltype(&pcre2_match_context_free)> context(
      pcre2_match_context_create(nullptr), pcre2_match_context_free);
  require(data && context, "module pattern", "out of memory");
  pcre2_set_match_limit(context.get(), kMatchLimit);
  const int result =
      pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(name.data()), name.size(), 0, 0, data.get(), context.get());
  require(result >= 0 || result == PCRE2_ERROR_NOMATCH, "module pattern",
          "'{}': expected an answer for module '{}' within {} steps, found error {}", expression.substr(0, 80),
          name.substr(0, 80), kMatchLimit, result);
  return result >= 0;
}

}  // namespace

std::vector<std::string> module_aliases(std::string_view module) {
  std::vector<std::string> names{std::string(module)};
  for (const Prefixes& group : kPrefixes) {
    for (const std::string_view prefix : group) {
      if (!module.starts_with(prefix)) continue;
      for (const std::string_view other : group) {
        if (other != prefix) names.push_back(std::string(other) + std::string(module.substr(prefix.size())));
      }
      return names;
    }
  }
  return names;
}

ModulePattern ModulePattern::compressed_tensors(std::string_view text, std::string_view source) {
  ModulePattern pattern;
  pattern.text_ = text;
  if (text == "Linear") {
    pattern.kind_ = Kind::kClass;
  } else if (text.starts_with("re:")) {
    pattern.kind_ = Kind::kExpression;
    pattern.code_ = compile(text.substr(3), source);
  }
  return pattern;
}

ModulePattern ModulePattern::modelopt(std::string_view text) {
  ModulePattern pattern;
  pattern.text_ = text;
  if (text == "Linear") pattern.kind_ = Kind::kClass;
  if (text.find_first_of("*?[") != std::string_view::npos) pattern.kind_ = Kind::kExpression;
  pattern.inner_ = true;
  return pattern;
}

ModulePattern ModulePattern::substring(std::string_view text) {
  ModulePattern pattern;
  pattern.text_ = text;
  pattern.kind_ = Kind::kExpression;
  pattern.part_ = true;
  return pattern;
}

bool ModulePattern::matches_name(const std::string& name) const {
  if (kind_ == Kind::kClass) return true;  // only linear layers are asked for
  if (part_) return name.find(text_) != std::string::npos;
  if (code_) return match_expression(static_cast<const pcre2_code*>(code_.get()), text_, name);
  if (kind_ == Kind::kExpression) return glob_match(text_, name);
  return name == text_ || (inner_ && name.starts_with(text_ + "."));
}

bool ModulePattern::matches(std::string_view module) const {
  for (const std::string& name : module_aliases(module)) {
    if (matches_name(name)) return true;
  }
  return false;
}

}  // namespace halftone
