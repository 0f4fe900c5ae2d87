// The stored answers of the demo model, scored again: every verdict and every score of demo/reference/reference.json.

#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "eval/task.h"

namespace halftone {
namespace {

const std::filesystem::path kDemo = std::filesystem::path(HALFTONE_SOURCE_DIR) / "demo";

const Json& reference() {
  static const Json json = read_json(kDemo / "reference/reference.json");
  return json;
}

// The reference's ids of what a sample stands for.
std::vector<std::string> reference_ids(const Sample& sample) {
  if (sample.truth.contains("asks")) return sample.truth["asks"].get<std::vector<std::string>>();
  return {sample.id.substr(sample.id.find('/') + 1)};
}

class Rescored {
 public:
  explicit Rescored(const std::string& name) : task_(find_task(name)), data_(task_.read(kDemo / "suite")) {
    std::map<std::string, const Json*> rows;
    for (const Json& row : reference()["samples"]) {
      if (row["task"] != name) continue;
      rows[row["id"].is_string() ? row["id"].get<std::string>() : row["id"].dump()] = &row;
    }
    std::size_t used = 0;
    for (const Sample& sample : data_.samples) {
      const std::vector<std::string> ids = reference_ids(sample);
      used += ids.size();
      const Json& row = *rows.at(ids.front());
      verdicts_.push_back({sample.id, judge_answer(task_, sample, row["prediction"].get<std::string>())});
      compare(sample, verdicts_.back().verdict, row);
    }
    EXPECT_EQ(used, rows.size());
    figures_ = aggregate(task_, data_, verdicts_);
  }

  void expect(const std::string& group, const std::string& metric, const Json& expected) const {
    for (const Figure& figure : figures_) {
      if (figure.group != group || figure.metric != metric) continue;
      EXPECT_EQ(std::nearbyint(figure.value * 1e4), std::nearbyint(expected.get<double>() * 1e4))
          << group << " " << metric;
      return;
    }
    ADD_FAILURE() << "no figure " << metric << " of '" << group << "'";
  }

 private:
  static void compare(const Sample& sample, const Verdict& verdict, const Json& row) {
    const double correct =
        row["correct"].is_boolean() ? (row["correct"].get<bool>() ? 1 : 0) : row["correct"].get<double>();
    EXPECT_EQ(verdict.value, correct) << sample.id;
    if (row.contains("correct_head")) {
      EXPECT_EQ(verdict.score["vqav2_upstream"], row["correct_head"]) << sample.id;
    }
    if (row.contains("iou")) {
      EXPECT_EQ(verdict.score["iou"], row["iou"]) << sample.id;
    }
  }

  const Task& task_;
  TaskData data_;
  std::vector<StoredVerdict> verdicts_;
  std::vector<Figure> figures_;
};

TEST(Reference, Vqav2) {
  const Json& scores = reference()["scores"]["vqav2"];
  const Rescored task("vqav2");
  task.expect("", "vqav2", scores["accuracy"]);
  task.expect("", "vqav2_upstream", scores["accuracy_head"]);
  for (const auto& [type, value] : scores["per_answer_type"].items()) task.expect(type, "vqav2", value);
}

TEST(Reference, Gqa) {
  const Json& scores = reference()["scores"]["gqa"];
  const Rescored task("gqa");
  task.expect("", "accuracy", scores["accuracy"]);
  task.expect("verify", "accuracy", scores["verify"]);
  task.expect("query", "accuracy", scores["query"]);
}

TEST(Reference, Pope) {
  const Rescored task("pope");
  for (const auto& [split, values] : reference()["scores"]["pope"].items()) {
    for (const auto& [metric, value] : values.items()) task.expect(split, metric, value);
  }
}

TEST(Reference, Mme) {
  const Rescored task("mme");
  std::size_t subtasks = 0;
  for (const auto& [name, value] : reference()["scores"]["mme"].items()) {
    if (value.is_number()) {
      task.expect("", name, value);
      continue;
    }
    ++subtasks;
    for (const auto& [metric, number] : value.items()) task.expect(name, metric, number);
  }
  EXPECT_EQ(subtasks, 14u);
}

TEST(Reference, Grounding) {
  const Json& scores = reference()["scores"]["grounding"];
  const Rescored task("grounding");
  task.expect("", "iou_50", scores["iou_50"]);
  task.expect("", "mean_iou", scores["mean_iou"]);
}

}  // namespace
}  // namespace halftone
