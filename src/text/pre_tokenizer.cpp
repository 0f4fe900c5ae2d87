#include "text/pre_tokenizer.h"

#include <algorithm>

#include "text/unicode_additions.h"

namespace halftone {
namespace {

// Source: GPT-2 encoder.py; ByteLevel with use_regex.
constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

}  // namespace

PreTokenizer PreTokenizer::from_json(const Json& json, std::string_view source) {
  PreTokenizer pre_tokenizer;
  pre_tokenizer.add_part(json, "pre_tokenizer", source);
  require(pre_tokenizer.complete_, source, "field 'pre_tokenizer': expected ByteLevel at its end, found none");
  return pre_tokenizer;
}

void PreTokenizer::add_part(const Json& json, std::string_view field, std::string_view source) {
  require(json.is_object(), source, "field '{}': expected an object, found {}", field, json.type_name());
  const auto type = get_field<std::string>(json, "type", source);
  require(!complete_, source, "field '{}': expected nothing behind ByteLevel, found {}", field, type);
  if (type == "Sequence") {
    const auto it = json.find("pretokenizers");
    require(it != json.end() && it->is_array(), source, "field '{}.pretokenizers': expected an array", field);
    for (std::size_t i = 0; i < it->size(); ++i) {
      add_part((*it)[i], fmt::format("{}.pretokenizers[{}]", field, i), source);
    }
  } else if (type == "Split") {
    add_split(json, field, source);
  } else if (type == "Digits") {
    const bool individual = get_field_or<bool>(json, "individual_digits", false, source);
    steps_.push_back({.regex = Regex(fmt::format("[\\p{{N}}{}]", kDigitsAdditions), source),
                      .behavior = individual ? Behavior::kIsolated : Behavior::kContiguous});
  } else if (type == "ByteLevel") {
    Step step;
    step.add_prefix_space = get_field_or<bool>(json, "add_prefix_space", true, source);
    if (get_field_or<bool>(json, "use_regex", true, source)) step.regex.emplace(kGpt2Pattern, source);
    steps_.push_back(std::move(step));
    complete_ = true;
  } else {
    fail(source, "field '{}.type': expected Sequence, Split, Digits or ByteLevel, found '{}'", field, type);
  }
}

void PreTokenizer::add_split(const Json& json, std::string_view field, std::string_view source) {
  const auto pattern = json.find("pattern");
  require(pattern != json.end() && pattern->is_object(), source, "field '{}.pattern': expected an object", field);
  const bool literal = pattern->contains("String");
  const auto text = get_field<std::string>(*pattern, literal ? "String" : "Regex", source);
  const auto behavior = get_field<std::string>(json, "behavior", source);
  constexpr std::pair<std::string_view, Behavior> kBehaviors[] = {{"Isolated", Behavior::kIsolated},
                                                                  {"Removed", Behavior::kRemoved},
                                                                  {"MergedWithPrevious", Behavior::kMergedWithPrevious},
                                                                  {"MergedWithNext", Behavior::kMergedWithNext},
                                                                  {"Contiguous", Behavior::kContiguous}};
  const auto* found =
      std::find_if(std::begin(kBehaviors), std::end(kBehaviors), [&](const auto& b) { return b.first == behavior; });
  require(found != std::end(kBehaviors), source, "field '{}.behavior': expected a behavior of Split, found '{}'", field,
          behavior);
  steps_.push_back(
      {.regex = Regex(literal ? escape_pattern(text) : text, fmt::format("{}: field '{}.pattern'", source, field)),
       .behavior = found->second,
       .invert = get_field_or<bool>(json, "invert", false, source)});
}

std::vector<PreTokenizer::Piece> PreTokenizer::find_pieces(const Step& step, std::string_view text) {
  std::vector<Piece> pieces;
  std::size_t behind = 0;
  step.regex->for_each_match(text, [&](std::size_t begin, std::size_t end) {
    if (behind < begin) pieces.push_back({behind, begin, step.invert});
    pieces.push_back({begin, end, !step.invert});
    behind = end;
  });
  if (behind < text.size()) pieces.push_back({behind, text.size(), step.invert});
  return pieces;
}

std::vector<PreTokenizer::Piece> PreTokenizer::merge_pieces(Behavior behavior, const std::vector<Piece>& pieces) {
  std::vector<Piece> merged;
  bool previous = false;  // whether the neighbour was a match
  if (behavior == Behavior::kMergedWithNext) {
    for (auto piece = pieces.rbegin(); piece != pieces.rend(); ++piece) {
      if (piece->match && !previous && !merged.empty()) {
        merged.back().begin = piece->begin;
      } else {
        merged.push_back(*piece);
      }
      previous = piece->match;
    }
    std::reverse(merged.begin(), merged.end());
    return merged;
  }
  for (const Piece& piece : pieces) {
    const bool join = behavior == Behavior::kContiguous ? piece.match == previous : piece.match && !previous;
    if (join && !merged.empty()) {
      merged.back().end = piece.end;
    } else {
      merged.push_back(piece);
    }
    previous = piece.match;
  }
  return merged;
}

std::vector<std::string> PreTokenizer::split(std::string_view text) const {
  std::vector<std::string> words;
  if (!text.empty()) words.emplace_back(text);
  for (const Step& step : steps_) {
    if (step.add_prefix_space) {
      for (std::string& word : words) {
        if (word[0] != ' ') word.insert(word.begin(), ' ');
      }
    }
    if (!step.regex) continue;
    std::vector<std::string> next;
    for (const std::string& word : words) {
      std::vector<Piece> pieces = find_pieces(step, word);
      if (step.behavior != Behavior::kIsolated && step.behavior != Behavior::kRemoved) {
        pieces = merge_pieces(step.behavior, pieces);
      }
      for (const Piece& piece : pieces) {
        const bool removed = step.behavior == Behavior::kRemoved && piece.match;
        if (!removed && piece.begin < piece.end) next.push_back(word.substr(piece.begin, piece.end - piece.begin));
      }
    }
    words = std::move(next);
  }
  return words;
}

}  // namespace halftone
