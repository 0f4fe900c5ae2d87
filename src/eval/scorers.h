#pragma once
// The scorers of the tasks, each in a file of its own; all are pure. Percentages are 0 to 100.

#include <array>
#include <optional>
#include <string_view>

#include "eval/task.h"

namespace halftone {

// VQAv2: the mean over the ten people of min(1, matches among the other nine / 3).
//   vqav2           both sides always normalised, as lmms-eval and the published numbers
//   vqav2_upstream  not normalised where all ten answers are the same string, as the newest official code (2021-03-11)
// Groups: "yes/no", "number", "other" (answer types) and "question type: ...".  value: vqav2 of the answer.
// score: {"vqav2", "vqav2_upstream"}, multiples of 1/30.  Source: GT-Vision-Lab/VQA vqaEvaluation/vqaEval.py.
Verdict judge_vqav2(const Sample& sample, std::string_view answer);
std::vector<Figure> aggregate_vqav2(std::span<const JudgedSample> samples);

// POPE, positive = yes: accuracy, precision, recall, f1, yes_ratio (of the answers, not of the labels) and invalid
// (neither or both of yes and no said) of each split; of the whole: f1 and accuracy, the means over the splits, and
// invalid. Groups: "random", "popular", "adversarial".  score: {"said": "yes"|"no", "invalid": bool}. Source:
// AoiDragon/POPE evaluate.py; LLaVA eval_pope.py (mean of the three F1).
Verdict judge_pope(const Sample& sample, std::string_view answer);
std::vector<Figure> aggregate_pope(std::span<const JudgedSample> samples);
// "no" when the text before the first full stop, without commas, has the word No, not or no; else "yes", whatever it
// says.
std::string_view parse_pope(std::string_view answer);

// MME: of each subtask accuracy (questions), accuracy_plus (pictures with both answers right) and score, their sum; of
// the whole perception and cognition (sums of scores), correct (the plain count that others call the total), accuracy,
// invalid. Groups: the subtasks.  score: {"said": "yes"|"no"|"other"}.  Source: MME eval_tool/calculation.py.
Verdict judge_mme(const Sample& sample, std::string_view answer);
std::vector<Figure> aggregate_mme(std::span<const JudgedSample> samples);
// Lower case: exactly yes or no, else the one that is in the first four characters (yes first), else "other".
std::string_view parse_mme(std::string_view answer);

// GQA: accuracy; equal after full stops at the end are dropped and the answer is lower-cased, as LLaVA's conversion for
// the official eval.py.  Groups: "binary" or "open", and the structural type ("verify", "query", ...).  score: {}.
Verdict judge_gqa(const Sample& sample, std::string_view answer);
std::vector<Figure> aggregate_gqa(std::span<const JudgedSample> samples);

// Grounding: iou_50 (boxes with an intersection over union of at least 0.5), mean_iou, and invalid (no box in the
// answer; counts as an IoU of 0).  score: {"iou": rounded to 4 decimals, "invalid": bool}.
Verdict judge_grounding(const Sample& sample, std::string_view answer);
std::vector<Figure> aggregate_grounding(std::span<const JudgedSample> samples);
using Box = std::array<double, 4>;  // left, top, right, bottom
// "[l, t, r, b]" with non-negative decimal numbers, and nothing else.
std::optional<Box> parse_box(std::string_view answer);
double intersection_over_union(const Box& a, const Box& b);

}  // namespace halftone
