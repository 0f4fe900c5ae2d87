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

// Answers of one split: shares, and what F1 is made of.
struct Split {
  std::vector<Observation> accuracy, precision, recall, yes_ratio, invalid;
  std::int64_t true_yes = 0, said_yes = 0, is_yes = 0;

  void add(const JudgedSample& judged) {
    const bool said = judged.verdict->score.at("said") == "yes", is = judged.sample->truth.at("label") == "yes";
    accuracy.push_back(judged.observe(said == is));
    if (said) precision.push_back(judged.observe(is));
    if (is) recall.push_back(judged.observe(said));
    yes_ratio.push_back(judged.observe(said));
    invalid.push_back(judged.observe(judged.verdict->score.at("invalid").get<bool>()));
    true_yes += said && is;
    said_yes += said;
    is_yes += is;
  }

  // 2 TP / (2 TP + FP + FN), in percent; 0 where nobody said or meant yes.
  double f1() const {
    return 200.0 * static_cast<double>(true_yes) / static_cast<double>(std::max<std::int64_t>(1, said_yes + is_yes));
  }
};

void add_figures(std::vector<Figure>& figures, const std::string& name, const Split& split) {
  figures.push_back(percent_of(name, "accuracy", split.accuracy));
  figures.push_back(percent_of(name, "precision", split.precision));
  figures.push_back(percent_of(name, "recall", split.recall));
  figures.push_back({name, "f1", split.f1(), std::ssize(split.accuracy), std::nullopt});
  figures.push_back(percent_of(name, "yes_ratio", split.yes_ratio));
  figures.push_back(percent_of(name, "invalid", split.invalid));
}

Split collect_split(std::span<const JudgedSample> samples, const std::string& name) {
  Split split;
  for (const JudgedSample& judged : samples) {
    for (const Json& ask : judged.sample->truth.at("asks")) {
      if (ask.get_ref<const std::string&>().starts_with(name + "/")) split.add(judged);
    }
  }
  return split;
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
  Figure f1{"", "f1", 0, 0, std::nullopt}, accuracy{"", "accuracy", 0, 0, std::nullopt};
  int found = 0;
  for (const std::string_view name : kPopeSplits) {
    const Split split = collect_split(samples, std::string(name));
    if (split.accuracy.empty()) continue;
    add_figures(splits, std::string(name), split);
    ++found;
  }
  for (const Figure& figure : splits) {
    for (Figure* mean : {&f1, &accuracy}) {
      if (figure.metric != mean->metric) continue;
      mean->value += figure.value / found;
      mean->samples += figure.samples;
    }
  }
  std::vector<Observation> invalid;
  for (const JudgedSample& judged : samples) {
    invalid.push_back(judged.observe(judged.verdict->score.at("invalid").get<bool>()));
  }
  std::vector<Figure> figures = {f1, accuracy, percent_of("", "invalid", invalid)};
  figures.insert(figures.end(), splits.begin(), splits.end());
  return figures;
}

}  // namespace halftone
