#include "text/added_tokens.h"

#include <algorithm>
#include <map>
#include <set>

#include "text/regex.h"

namespace halftone {
namespace {

// Word characters of Rust's regex: those of Oniguruma's \w in brackets, and the two joiners.
constexpr std::string_view kWordCharacter = R"([\w\x{200C}\x{200D}])";

const Regex& word_at_begin() {
  static const Regex regex(fmt::format("\\A{}", kWordCharacter), "added_tokens");
  return regex;
}
const Regex& word_at_end() {
  static const Regex regex(fmt::format("{}\\z", kWordCharacter), "added_tokens");
  return regex;
}
const Regex& space_at_begin() {
  static const Regex regex("\\A\\s+", "added_tokens");
  return regex;
}

bool matches(const Regex& regex, std::string_view text) {
  bool found = false;
  regex.for_each_match(text, [&](std::size_t, std::size_t) { found = true; });
  return found;
}

// The last character of a valid text, all of it when it is empty.
std::string_view last_character(std::string_view text) {
  std::size_t begin = text.size();
  while (begin > 0 && (static_cast<unsigned char>(text[--begin]) & 0xC0u) == 0x80) {
  }
  return text.substr(begin);
}

std::string_view first_character(std::string_view text) {
  std::size_t end = std::min<std::size_t>(1, text.size());
  while (end < text.size() && (static_cast<unsigned char>(text[end]) & 0xC0u) == 0x80) ++end;
  return text.substr(0, end);
}

std::size_t leading_space(std::string_view text) {
  std::size_t length = 0;
  for (;;) {
    const std::string_view character = first_character(text.substr(length));
    if (character.empty() || !matches(space_at_begin(), character)) return length;
    length += character.size();
  }
}

std::size_t trailing_space(std::string_view text) {
  std::size_t length = 0;
  for (;;) {
    const std::string_view character = last_character(text.substr(0, text.size() - length));
    if (character.empty() || !matches(space_at_begin(), character)) return length;
    length += character.size();
  }
}

bool stands_alone(std::string_view text, std::size_t begin, std::size_t end) {
  return !matches(word_at_end(), last_character(text.substr(0, begin))) &&
         !matches(word_at_begin(), first_character(text.substr(end)));
}

AddedToken read_added_token(const Json& json, const std::string& field, std::string_view source) {
  require(json.is_object(), source, "field '{}': expected an object, found {}", field, json.type_name());
  const std::string where = fmt::format("{}: {}", source, field);
  AddedToken token;
  token.content = get_field<std::string>(json, "content", where);
  const auto id = json.find("id");
  require(id != json.end(), source, "field '{}.id': missing", field);
  token.id = token_id_from_json(*id, field + ".id", source);
  token.special = get_field_or<bool>(json, "special", false, where);
  token.single_word = get_field_or<bool>(json, "single_word", false, where);
  token.lstrip = get_field_or<bool>(json, "lstrip", false, where);
  token.rstrip = get_field_or<bool>(json, "rstrip", false, where);
  token.normalized = get_field_or<bool>(json, "normalized", !token.special, where);
  require(!token.content.empty(), source, "field '{}.content': expected some text, found none", field);
  return token;
}

std::string not_its_own(std::size_t index, TokenId id) {
  return fmt::format("field 'added_tokens[{}].id': expected an id of its own, found {}, which is taken", index, id);
}

}  // namespace

std::vector<AddedToken> read_added_tokens(const Json& root, const Vocabulary& vocabulary, std::string_view source) {
  std::vector<AddedToken> tokens;
  const auto it = root.find("added_tokens");
  if (it == root.end() || it->is_null()) return tokens;
  require(it->is_array(), source, "field 'added_tokens': expected an array, found {}", it->type_name());
  std::set<std::string, std::less<>> contents;
  std::map<TokenId, std::size_t> fresh;  // ids that the vocabulary must not have, and whose they are
  for (std::size_t i = 0; i < it->size(); ++i) {
    const std::string field = fmt::format("added_tokens[{}]", i);
    AddedToken token = read_added_token((*it)[i], field, source);
    require(contents.insert(token.content).second, source,
            "field '{}.content': expected each token once, found '{}' twice", field, token.content);
    const auto known = vocabulary.find(token.content);
    if (known != vocabulary.end()) {
      require(known->second == token.id, source, "field '{}.id': expected {} as in model.vocab, found {}", field,
              known->second, token.id);
    } else {
      require(fresh.emplace(token.id, i).second, source, "{}", not_its_own(i, token.id));
    }
    tokens.push_back(std::move(token));
  }
  for (const auto& [content, id] : vocabulary) {
    const auto owner = fresh.find(id);
    if (owner != fresh.end()) fail(source, "{}", not_its_own(owner->second, id));
  }
  return tokens;
}

AddedTokenFinder::AddedTokenFinder(const std::vector<AddedToken>& tokens, bool normalized,
                                   const Normalizer& normalizer) {
  std::copy_if(tokens.begin(), tokens.end(), std::back_inserter(tokens_),
               [&](const AddedToken& token) { return token.normalized == normalized; });
  // Of two tokens with one content the first counts, special ones before others.
  std::stable_partition(tokens_.begin(), tokens_.end(), [](const AddedToken& token) { return token.special; });
  token_of_.push_back(-1);
  for (std::size_t i = 0; i < tokens_.size(); ++i) {
    insert(normalized ? normalizer.normalize(tokens_[i].content) : tokens_[i].content, static_cast<std::int32_t>(i));
  }
}

void AddedTokenFinder::insert(std::string_view content, std::int32_t token) {
  std::int32_t node = 0;
  for (const char c : content) {
    const auto byte = static_cast<unsigned char>(c);
    const auto key = static_cast<std::uint64_t>(node) << 8 | byte;
    const auto [child, fresh] = children_.emplace(key, static_cast<std::int32_t>(token_of_.size()));
    if (fresh) token_of_.push_back(-1);
    node = child->second;
  }
  if (node == 0) return;
  begins_[static_cast<unsigned char>(content[0])] = true;
  auto& end = token_of_[static_cast<std::size_t>(node)];
  if (end < 0) end = token;
}

std::optional<AddedTokenFinder::Match> AddedTokenFinder::longest_at(std::string_view text, std::size_t begin) const {
  std::optional<Match> longest;
  std::int32_t node = 0;
  for (std::size_t at = begin; at < text.size(); ++at) {
    const auto child = children_.find(static_cast<std::uint64_t>(node) << 8 | static_cast<unsigned char>(text[at]));
    if (child == children_.end()) break;
    node = child->second;
    const std::int32_t token = token_of_[static_cast<std::size_t>(node)];
    if (token >= 0) longest = Match{&tokens_[static_cast<std::size_t>(token)], at + 1 - begin};
  }
  return longest;
}

void AddedTokenFinder::for_each_piece(
    std::string_view text, const std::function<void(std::string_view, std::optional<TokenId>)>& piece) const {
  std::size_t behind = 0;  // what was handed out ends here
  for (std::size_t at = 0; at < text.size();) {
    const auto match = begins_[static_cast<unsigned char>(text[at])] ? longest_at(text, at) : std::nullopt;
    if (!match) {
      ++at;
      continue;
    }
    std::size_t begin = at;
    std::size_t end = at + match->length;
    at = end;
    if (match->token->single_word && !stands_alone(text, begin, end)) continue;
    if (match->token->lstrip) begin = std::max(begin - trailing_space(text.substr(0, begin)), behind);
    if (match->token->rstrip) end += leading_space(text.substr(end));
    // The next match may begin in white space that the last one took; tokenizers counts both.
    if (behind < begin) piece(text.substr(behind, begin - behind), std::nullopt);
    if (begin < end) piece(text.substr(begin, end - begin), match->token->id);
    behind = end;
  }
  if (behind < text.size()) piece(text.substr(behind), std::nullopt);
}

}  // namespace halftone
