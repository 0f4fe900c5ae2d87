#pragma once
// How quantization configurations name modules: exact names, class names, regular expressions and globs.

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace halftone {

// The names that tools give one module of a vision-language model: checkpoints of before and after transformers 4.52
// ("visual.", "model.visual."; "model.", "model.language_model.") and vLLM's ("language_model.model."). `module` first.
std::vector<std::string> module_aliases(std::string_view module);

// Immutable; cheap to copy.
class ModulePattern {
 public:
  // compressed-tensors: "re:" and a regular expression that must match from the beginning of the name, or a whole name,
  // or the class name Linear. Throws Error("[source] ...") for an expression that is not well-formed.
  static ModulePattern compressed_tensors(std::string_view text, std::string_view source);
  // ModelOpt: a glob, or the name of a module or of one around it.
  static ModulePattern modelopt(std::string_view text);

  // AutoAWQ: the text stands anywhere in the module's name.
  static ModulePattern substring(std::string_view text);

  // Whether the module matches under any of its names. Throws Error when a regular expression takes too many steps.
  bool matches(std::string_view module) const;
  // Exact names come before expressions, expressions before classes.
  enum class Kind { kName, kExpression, kClass };
  Kind kind() const { return kind_; }

 private:
  bool matches_name(const std::string& name) const;

  Kind kind_ = Kind::kName;
  bool inner_ = false;  // a name stands for all modules inside, too
  bool part_ = false;   // a part of the name is enough
  std::string text_;
  std::shared_ptr<const void> code_;  // pcre2_code
};

}  // namespace halftone
