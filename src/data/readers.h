#pragma once
// Readers of task data in the benchmarks' own file formats. One file a reader.
//
// `folder` is what the user named. Files are looked for in it, then in its subfolder of the task's name, so that
// "vqav2=suite/vqav2" and "vqav2=suite" both work. COCO pictures are looked for in val2014, images and images/val2014
// of that folder, in the folder itself, and then in the same places of the two folders around it; the first place that
// has the first sample's picture is used for all.
//
// All throw Error naming the file, the field, what was expected and what was found. A row count that differs from the
// published one is a warning and a note in TaskData, not an error.

#include <array>
#include <filesystem>
#include <string_view>

#include "data/sample.h"

namespace halftone {

// v2_OpenEnded_mscoco_val2014_questions.json and v2_mscoco_val2014_annotations.json; pictures COCO_val2014_%012d.jpg.
// truth: {"answers": [string], "answer_type": string, "question_type": string}.
TaskData read_vqav2(const std::filesystem::path& folder);

// coco_pope_{random,popular,adversarial}.json, JSON lines; those that exist. A question on a picture that several
// splits ask is one sample.  truth: {"label": "yes"|"no", "asks": ["split/question_id"]}: every row that it stands for.
TaskData read_pope(const std::filesystem::path& folder);

inline constexpr std::array<std::string_view, 3> kPopeSplits = {"random", "popular", "adversarial"};

// MME_Benchmark_release_version: a folder for each of the 14 subtasks, pictures and .txt files together or in images/
// and questions_answers_YN/. A .txt has two lines "question<TAB>Yes|No". truth: {"answer": "yes"|"no", "subtask":
// string, "picture": string}.
TaskData read_mme(const std::filesystem::path& folder);

// Perception, then cognition.
inline constexpr std::array<std::string_view, 14> kMmeSubtasks = {"existence",
                                                                  "count",
                                                                  "position",
                                                                  "color",
                                                                  "posters",
                                                                  "celebrity",
                                                                  "scene",
                                                                  "landmark",
                                                                  "artwork",
                                                                  "OCR",
                                                                  "commonsense_reasoning",
                                                                  "numerical_calculation",
                                                                  "text_translation",
                                                                  "code_reasoning"};
inline constexpr std::size_t kMmePerceptionSubtasks = 10;

// testdev_balanced_questions.json; pictures <imageId>.jpg.  truth: {"answer": string, "structural": string}.
TaskData read_gqa(const std::filesystem::path& folder);

// grounding.jsonl: {"question_id", "image", "question", "bbox": [left, top, right, bottom] as fractions}.
// truth: {"bbox": [4 numbers]}.
TaskData read_grounding(const std::filesystem::path& folder);

// LLaVA-Bench: questions.jsonl, context.jsonl (may be missing), images/.  truth: {"category": string, "caption":
// string}.
TaskData read_llava_bench(const std::filesystem::path& folder);

}  // namespace halftone
