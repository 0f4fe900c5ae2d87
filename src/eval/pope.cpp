#include <algorithm>
#include <array>

#include "data/readers.h"
#include "eval/scorers.h"

namespace halftone {

namespace {

// Lower-case words of letters.
bool has_word(std::string_view text, std::string_view wanted) {
  std::string word;
  for (const char c : std::string(text) + " ") {
    const char lower = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    if (lower >= 'a' && lower <= 'z') {
      word.push_back(lower);
      continue;
    }
    if (word == wanted) return true;
    word.clear();
  }
  return false;
}

bool is_invalid(std::string_view answer) {
  return has_word(answer, "yes") == (has_word(answer, "no") || has_word(answer, "not"));
}

// Answers of one split by what was said and what is true.
struct Counts {
  std::int64_t true_yes = 0, false_yes = 0, true_no = 0, false_no = 0, invalid = 0;
  std::int64_t total() const { return true_yes + false_yes + true_no + false_no; }
};

double ratio(std::int64_t part, std::int64_t whole) {
  return 100.0 * static_cast<double>(part) / static_cast<double>(std::max<std::int64_t>(1, whole));
}

void add_split(std::vector<Figure>& figures, const std::string& split, const Counts& n) {
  figures.push_back(percent_of(split, "accuracy", n.true_yes + n.true_no, n.total()));
  figures.push_back(percent_of(split, "precision", n.true_yes, n.true_yes + n.false_yes));
  figures.push_back(percent_of(split, "recall", n.true_yes, n.true_yes + n.false_no));
  const double f1 = ratio(2 * n.true_yes, 2 * n.true_yes + n.false_yes + n.false_no);
  figures.push_back({split, "f1", f1, n.total(), std::nullopt, ""});
  figures.push_back(percent_of(split, "yes_ratio", n.true_yes + n.false_yes, n.total()));
  figures.push_back(percent_of(split, "invalid", n.invalid, n.total()));
}

Counts count_split(std::span<const JudgedSample> samples, const std::string& split) {
  Counts counts;
  for (const JudgedSample& judged : samples) {
    const bool said_yes = judged.verdict->score.at("said") == "yes", is_yes = judged.sample->truth.at("label") == "yes";
    for (const Json& ask : judged.sample->truth.at("asks")) {
      if (!ask.get_ref<const std::string&>().starts_with(split + "/")) continue;
      ++(said_yes ? (is_yes ? counts.true_yes : counts.false_yes) : (is_yes ? counts.false_no : counts.true_no));
      counts.invalid += judged.verdict->score.at("invalid").get<bool>() ? 1 : 0;
    }
  }
  return counts;
}

}  // namespace

std::string_view parse_pope(std::string_view answer) {
  std::string words;
  for (const char c : answer.substr(0, answer.find('.'))) {
    if (c != ',') words.push_back(c);
  }
  words = " " + words + " ";
  for (const char* no : {" No ", " not ", " no "}) {
    if (words.find(no) != std::string::npos) return "no";
  }
  return "yes";
}

Verdict judge_pope(const Sample& sample, std::string_view answer) {
  const std::string_view said = parse_pope(answer);
  Verdict verdict{sample.truth.at("label") == said ? 1.0 : 0.0, {}, {{"said", said}, {"invalid", is_invalid(answer)}}};
  for (const Json& ask : sample.truth.at("asks")) {
    std::string split = ask.get<std::string>();
    split.resize(split.find('/'));
    verdict.groups.push_back(std::move(split));
  }
  return verdict;
}

std::vector<Figure> aggregate_pope(std::span<const JudgedSample> samples) {
  std::vector<Figure> splits;
  Figure f1{"", "f1", 0, 0, std::nullopt, ""}, accuracy{"", "accuracy", 0, 0, std::nullopt, ""};
  int found = 0;
  for (const std::string_view name : kPopeSplits) {
    const std::string split(name);
    const Counts counts = count_split(samples, split);
    if (counts.total() == 0) continue;
    add_split(splits, split, counts);
    ++found;
  }
  for (const Figure& figure : splits) {
    for (Figure* mean : {&f1, &accuracy}) {
      if (figure.metric != mean->metric) continue;
      mean->value += figure.value / found;
      mean->samples += figure.samples;
    }
  }
  const auto invalid = std::count_if(samples.begin(), samples.end(), [](const JudgedSample& judged) {
    return judged.verdict->score.at("invalid").get<bool>();
  });
  std::vector<Figure> figures = {f1, accuracy, percent_of("", "invalid", invalid, std::ssize(samples))};
  figures.insert(figures.end(), splits.begin(), splits.end());
  return figures;
}

}  // namespace halftone
