#include "text/bpe.h"

#include <algorithm>
#include <queue>
#include <tuple>

#include "text/byte_level.h"

namespace halftone {
namespace {

constexpr TokenId kAbsent = -1;

// A merge as a pair of tokens, from "a b" or ["a", "b"]; they borrow from `json`.
std::pair<std::string_view, std::string_view> merge_from_json(const Json& json, std::size_t index,
                                                              std::string_view source) {
  if (json.is_array() && json.size() == 2 && json[0].is_string() && json[1].is_string()) {
    return {json[0].get_ref<const std::string&>(), json[1].get_ref<const std::string&>()};
  }
  if (json.is_string()) {
    const std::string_view text = json.get_ref<const std::string&>();
    const std::size_t space = text.find(' ');
    if (space != std::string_view::npos && text.find(' ', space + 1) == std::string_view::npos) {
      return {text.substr(0, space), text.substr(space + 1)};
    }
  }
  fail(source, "field 'model.merges[{}]': expected two tokens, found {}", index,
       json.dump(-1, ' ', false, Json::error_handler_t::replace).substr(0, 80));
}

void require_absent(const Json& model, std::string_view field, std::string_view source) {
  const auto it = model.find(field);
  const bool absent =
      it == model.end() || it->is_null() || (it->is_string() && it->get_ref<const std::string&>().empty());
  require(absent, source, "field 'model.{}': expected null (not supported), found a value", field);
}

}  // namespace

TokenId token_id_from_json(const Json& json, std::string_view field, std::string_view source) {
  require(json.is_number_integer(), source, "field '{}': expected an integer, found {}", field, json.type_name());
  const bool in_range = json.is_number_unsigned() && json.get<std::uint64_t>() <= std::uint64_t{kMaxTokenId};
  require(in_range, source, "field '{}': expected a token id from 0 to {}, found {}", field, kMaxTokenId, json.dump());
  return json.get<TokenId>();
}

Bpe Bpe::from_json(const Json& model, std::string_view source) {
  require(model.is_object(), source, "field 'model': expected an object, found {}", model.type_name());
  const auto type = get_field_or<std::string>(model, "type", "BPE", source);
  require(type == "BPE", source, "field 'model.type': expected BPE, found '{}'", type);
  require_absent(model, "continuing_subword_prefix", source);
  require_absent(model, "end_of_word_suffix", source);
  require(get_field_or<double>(model, "dropout", 0.0, source) == 0.0, source,
          "field 'model.dropout': expected null (not supported), found a value");
  require(!get_field_or<bool>(model, "byte_fallback", false, source), source,
          "field 'model.byte_fallback': expected false (only byte-level BPE is supported), found true");
  Bpe bpe;
  bpe.ignore_merges_ = get_field_or<bool>(model, "ignore_merges", false, source);
  bpe.fuse_unknown_ = get_field_or<bool>(model, "fuse_unk", false, source);
  bpe.read_vocabulary(model, source);
  bpe.read_merges(model, source);
  bpe.read_bytes();
  const auto unknown = get_field_or<std::string>(model, "unk_token", "", source);
  if (!unknown.empty()) {
    const auto it = bpe.vocabulary_.find(unknown);
    require(it != bpe.vocabulary_.end(), source,
            "field 'model.unk_token': expected a token of the vocabulary, found '{}'", unknown);
    bpe.unknown_ = it->second;
  }
  return bpe;
}

void Bpe::read_vocabulary(const Json& model, std::string_view source) {
  const auto it = model.find("vocab");
  require(it != model.end() && it->is_object(), source, "field 'model.vocab': expected an object of tokens and ids");
  vocabulary_.reserve(it->size());
  std::vector<std::pair<TokenId, std::string_view>> owners;
  owners.reserve(it->size());
  for (const auto& [token, json] : it->get_ref<const Json::object_t&>()) {
    const TokenId id = token_id_from_json(json, "model.vocab." + token, source);
    owners.emplace_back(id, token);
    vocabulary_.emplace(token, id);
  }
  std::sort(owners.begin(), owners.end());
  const auto twice =
      std::adjacent_find(owners.begin(), owners.end(), [](const auto& a, const auto& b) { return a.first == b.first; });
  if (twice != owners.end()) {
    fail(source, "field 'model.vocab': expected one token for each id, found '{}' and '{}' with id {}", twice->second,
         (twice + 1)->second, twice->first);
  }
}

void Bpe::read_merges(const Json& model, std::string_view source) {
  const auto it = model.find("merges");
  require(it != model.end() && it->is_array(), source, "field 'model.merges': expected an array of pairs");
  merges_.reserve(it->size());
  const auto find = [&](std::string_view token, std::size_t index) {
    const auto found = vocabulary_.find(token);
    require(found != vocabulary_.end(), source,
            "field 'model.merges[{}]': expected tokens of the vocabulary, found '{}'", index, token);
    return found->second;
  };
  std::string merged;
  for (std::size_t i = 0; i < it->size(); ++i) {
    const auto [left, right] = merge_from_json((*it)[i], i, source);
    merged.assign(left).append(right);
    const Merge merge{static_cast<std::int32_t>(i), find(merged, i)};
    merges_.insert_or_assign(key_of(find(left, i), find(right, i)), merge);
  }
}

void Bpe::read_bytes() {
  for (std::size_t byte = 0; byte < byte_ids_.size(); ++byte) {
    const auto found = vocabulary_.find(byte_level_alphabet()[byte]);
    byte_ids_[byte] = found == vocabulary_.end() ? kAbsent : found->second;
  }
}

const Bpe::Merge* Bpe::find_merge(TokenId left, TokenId right) const {
  const auto found = merges_.find(key_of(left, right));
  return found == merges_.end() ? nullptr : &found->second;
}

// One unknown token for each byte without an id, or for each run of them.
std::vector<TokenId> Bpe::symbols_of(std::string_view bytes) const {
  std::vector<TokenId> symbols;
  symbols.reserve(bytes.size());
  bool after_unknown = false;
  for (const char c : bytes) {
    const TokenId id = byte_ids_[static_cast<unsigned char>(c)];
    const bool unknown = id == kAbsent;
    if (!unknown) {
      symbols.push_back(id);
    } else if (unknown_ && !(fuse_unknown_ && after_unknown)) {
      symbols.push_back(*unknown_);
    }
    after_unknown = unknown;
  }
  return symbols;
}

// The symbols of a word as a linked list, with a queue of the merges that are possible.
class Bpe::Word {
 public:
  Word(const Bpe& bpe, const std::vector<TokenId>& ids) : bpe_(bpe) {
    symbols_.reserve(ids.size());
    const auto count = static_cast<std::int32_t>(ids.size());
    for (std::int32_t i = 0; i < count; ++i) {
      symbols_.push_back({ids[static_cast<std::size_t>(i)], i - 1, i + 1 < count ? i + 1 : kNone});
    }
    for (std::int32_t i = 0; i + 1 < count; ++i) enqueue(i);
  }

  void merge_all() {
    while (!queue_.empty()) {
      const Candidate best = queue_.top();
      queue_.pop();
      Symbol& left = at(best.position);
      if (left.id == kAbsent || left.next == kNone) continue;
      Symbol& right = at(left.next);
      // An entry is stale when its pair has changed since.
      const Merge* merge = bpe_.find_merge(left.id, right.id);
      if (merge == nullptr || merge->merged != best.merged) continue;
      left.id = best.merged;
      left.next = right.next;
      right.id = kAbsent;
      if (left.next != kNone) at(left.next).previous = best.position;
      if (left.previous != kNone) enqueue(left.previous);
      enqueue(best.position);
    }
  }

  void append_to(std::vector<TokenId>& ids) const {
    for (const Symbol& symbol : symbols_) {
      if (symbol.id != kAbsent) ids.push_back(symbol.id);
    }
  }

 private:
  static constexpr std::int32_t kNone = -1;
  struct Symbol {
    TokenId id;  // kAbsent: merged into the symbol before it
    std::int32_t previous;
    std::int32_t next;
  };
  struct Candidate {
    std::int32_t rank;
    std::int32_t position;
    TokenId merged;
    bool operator<(const Candidate& other) const {  // the queue's top is its largest
      return std::tie(other.rank, other.position) < std::tie(rank, position);
    }
  };

  Symbol& at(std::int32_t position) { return symbols_[static_cast<std::size_t>(position)]; }

  void enqueue(std::int32_t position) {
    const Symbol& left = at(position);
    if (left.next == kNone) return;
    const Merge* merge = bpe_.find_merge(left.id, at(left.next).id);
    if (merge != nullptr) queue_.push({merge->rank, position, merge->merged});
  }

  const Bpe& bpe_;
  std::vector<Symbol> symbols_;
  std::priority_queue<Candidate> queue_;
};

void Bpe::encode_word(std::string_view bytes, std::vector<TokenId>& ids) const {
  if (ignore_merges_) {
    const auto found = vocabulary_.find(to_byte_level(bytes));
    if (found != vocabulary_.end()) {
      ids.push_back(found->second);
      return;
    }
  }
  const std::vector<TokenId> symbols = symbols_of(bytes);
  Word word(*this, symbols);
  word.merge_all();
  word.append_to(ids);
}

}  // namespace halftone
