#include "eval/vqa_normalize.h"

#include <algorithm>
#include <map>

#include "eval/python_text.h"

namespace halftone {

namespace {

constexpr std::u32string_view kPunctuation = U";/[]\"{}()=+\\_-><@`,?!";
constexpr int kMaxFullStops = 32;

constexpr std::string_view kNumbers[] = {"zero", "one",   "two",   "three", "four", "five",
                                         "six",  "seven", "eight", "nine",  "ten"};

// Upstream's table has each of these without one of its apostrophes as a key (and three odd entries, see below).
constexpr std::string_view kContracted =
    "ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd "
    "he'd've he's how'd how'll how's I'd've I'm I've isn't it'd it'd've it'll ma'am mightn't mightn't've might've "
    "mustn't must've needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've "
    "somebody'd've somebody'll somebody's someone'd someone'd've someone'll someone's something'd something'd've "
    "something'll that's there'd there'd've there're there's they'd they'd've they'll they're they've 'twas wasn't "
    "we'd've we've weren't what'll what're what's what've when's where'd where's where've who'd who'd've who'll who's "
    "who've why'll why're why's won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll "
    "you're you've";

using WordMap = std::map<std::u32string, std::u32string, std::less<>>;

WordMap make_contractions() {
  WordMap map;
  for (const std::u32string& word : python_split(to_code_points(kContracted))) {
    for (std::size_t i = 0; i < word.size(); ++i) {
      if (word[i] == U'\'') map[word.substr(0, i) + word.substr(i + 1)] = word;
    }
  }
  map[U"let's"] = U"let's";
  map[U"she's"] = U"she's";
  map[U"somebody'd"] = U"somebodyd";
  return map;
}

WordMap make_numbers() {
  WordMap map{{U"none", U"0"}};
  for (std::size_t i = 0; i < std::size(kNumbers); ++i)
    map[to_code_points(kNumbers[i])] = to_code_points(std::to_string(i));
  return map;
}

bool has_comma_in_number(std::u32string_view text) {
  for (std::size_t i = 1; i + 1 < text.size(); ++i) {
    if (text[i] == U',' && is_python_digit(text[i - 1]) && is_python_digit(text[i + 1])) return true;
  }
  return false;
}

std::u32string without_punctuation(const std::u32string& text) {
  const bool number = has_comma_in_number(text);
  std::u32string out = text;
  for (const char32_t p : kPunctuation) {
    const bool set_apart =
        text.find(std::u32string{p, U' '}) != text.npos || text.find(std::u32string{U' ', p}) != text.npos;
    if (number || set_apart) {
      std::erase(out, p);
    } else {
      std::replace(out.begin(), out.end(), p, U' ');
    }
  }
  return out;
}

std::u32string without_full_stops(std::u32string_view text) {
  std::u32string out;
  int deleted = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool last = i + 1 == text.size() || !is_python_digit(text[i + 1]);
    if (text[i] == U'.' && last && deleted < kMaxFullStops) {
      ++deleted;
    } else {
      out.push_back(text[i]);
    }
  }
  return out;
}

const std::u32string& mapped(const WordMap& map, const std::u32string& word) {
  const auto it = map.find(word);
  return it == map.end() ? word : it->second;
}

}  // namespace

std::string vqa_clean(std::string_view answer) {
  std::string text(answer);
  std::replace_if(
      text.begin(), text.end(), [](char c) { return c == '\n' || c == '\t'; }, ' ');
  return std::string(python_strip(text));
}

std::string vqa_normalize(std::string_view answer) {
  static const WordMap contractions = make_contractions(), numbers = make_numbers();
  const std::u32string text = without_full_stops(without_punctuation(to_code_points(answer)));
  std::u32string out;
  for (const std::u32string& word : python_split(python_lower(text))) {
    const std::u32string& number = mapped(numbers, word);
    if (number == U"a" || number == U"an" || number == U"the") continue;
    if (!out.empty()) out.push_back(U' ');
    out += mapped(contractions, number);
  }
  return to_utf8(out);
}

}  // namespace halftone
