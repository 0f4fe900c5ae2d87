#include "study/store_state.h"

namespace halftone {
namespace {

TaskKind task_kind(const std::string& text) {
  for (const TaskKind kind : {TaskKind::kAccuracy, TaskKind::kKl, TaskKind::kPerplexity}) {
    if (text == to_string(kind)) return kind;
  }
  fail("study", "task kind '{}' does not exist", text);
}

std::set<std::string> finished(const Database& database, std::string_view sql, std::string_view configuration,
                               std::string_view task) {
  std::set<std::string> ids;
  for (Statement row = std::move(database.prepare(sql).bind(configuration, task)); row.step();) ids.insert(row.text(0));
  return ids;
}

}  // namespace

std::vector<ConfigurationRow> Store::configurations() const {
  std::vector<ConfigurationRow> rows;
  Statement row = state_->database.prepare(
      "SELECT name, recipe, weights, inputs, kv_format, weights_hash, numerics, products, instruction_set, min_pixels, "
      "max_pixels, kv_bytes_per_token, calibrated FROM configurations ORDER BY position");
  while (row.step()) {
    rows.push_back({row.text(0), row.text(1), row.text(2), row.text(3), row.text(4), row.text(5), row.text(6),
                    row.text(7), row.text(8), row.integer(9), row.integer(10), row.integer(11), row.integer(12) != 0});
  }
  return rows;
}

std::vector<TaskRow> Store::tasks() const {
  std::vector<TaskRow> rows;
  Statement row = state_->database.prepare(
      "SELECT name, title, kind, data_hash, prompts, prompt_hash, samples, max_new_tokens, metrics, headline, "
      "part_metric, part_note, note FROM tasks ORDER BY position");
  const auto names = [&](int column) { return parse_json(row.text(column), "tasks").get<std::vector<std::string>>(); };
  while (row.step()) {
    rows.push_back({row.text(0), row.text(1), task_kind(row.text(2)), row.text(3), row.text(4), row.text(5),
                    row.integer(6), row.integer(7), names(8), names(9), row.text(10), row.text(11), row.text(12)});
  }
  return rows;
}

std::vector<SampleRow> Store::samples(std::string_view configuration, std::string_view task) const {
  const std::string where = state_->database.path().string();
  std::vector<SampleRow> rows;
  Statement row = state_->database.prepare(
      "SELECT id, picture, answer, tokens, value, groups, score, seconds FROM samples "
      "WHERE configuration = ? AND task = ? ORDER BY id");
  row.bind(configuration, task);
  while (row.step()) {
    rows.push_back({std::string(configuration), std::string(task), row.text(0), row.text(1), row.text(2),
                    parse_json(row.text(3), where).get<std::vector<std::int32_t>>(), row.real(4),
                    parse_json(row.text(5), where).get<std::vector<std::string>>(), parse_json(row.text(6), where),
                    row.real(7)});
  }
  return rows;
}

std::vector<LikelihoodRow> Store::likelihoods(std::string_view configuration, std::string_view task) const {
  std::vector<LikelihoodRow> rows;
  Statement row = state_->database.prepare(
      "SELECT id, picture, tokens, nll, kl, top1_agree, seconds FROM likelihoods "
      "WHERE configuration = ? AND task = ? ORDER BY id");
  row.bind(configuration, task);
  while (row.step()) {
    rows.push_back({std::string(configuration), std::string(task), row.text(0), row.text(1), row.integer(2),
                    row.real(3), row.optional_real(4), row.integer(5), row.real(6)});
  }
  return rows;
}

std::vector<ScoreRow> Store::scores(std::string_view configuration, std::string_view task) const {
  std::vector<ScoreRow> rows;
  Statement row = state_->database.prepare(
      "SELECT part, metric, value, samples FROM scores WHERE configuration = ? AND task = ? ORDER BY position");
  row.bind(configuration, task);
  while (row.step()) rows.push_back({row.text(0), row.text(1), row.real(2), row.integer(3)});
  return rows;
}

std::vector<std::string> Store::workloads() const {
  std::vector<std::string> names;
  Statement row = state_->database.prepare("SELECT DISTINCT workload FROM timings ORDER BY workload");
  while (row.step()) names.push_back(row.text(0));
  return names;
}

std::vector<TimingRow> Store::timings(std::string_view configuration, std::string_view workload) const {
  std::vector<TimingRow> rows;
  Statement row = state_->database.prepare(
      "SELECT repeat, stages FROM timings WHERE configuration = ? AND workload = ? ORDER BY repeat");
  row.bind(configuration, workload);
  while (row.step()) {
    rows.push_back({std::string(configuration), std::string(workload), row.integer(0),
                    parse_json(row.text(1), state_->database.path().string())});
  }
  return rows;
}

std::vector<MemoryRow> Store::memory(std::string_view configuration) const {
  std::vector<MemoryRow> rows;
  Statement row = state_->database.prepare(
      "SELECT component, bytes, measured FROM memory WHERE configuration = ? ORDER BY position");
  row.bind(configuration);
  while (row.step()) {
    rows.push_back({std::string(configuration), row.text(0), row.integer(1), row.integer(2) != 0});
  }
  return rows;
}

std::vector<QuantizationRow> Store::quantizations() const {
  std::vector<QuantizationRow> rows;
  Statement row = state_->database.prepare(
      "SELECT configuration, folder, report, seconds FROM quantizations ORDER BY configuration");
  while (row.step()) {
    rows.push_back({row.text(0), row.text(1), parse_json(row.text(2), state_->database.path().string()), row.real(3)});
  }
  return rows;
}

std::map<std::string, std::string> Store::notes() const {
  std::map<std::string, std::string> notes;
  for (Statement row = state_->database.prepare("SELECT key, note FROM notes"); row.step();) {
    notes.emplace(row.text(0), row.text(1));
  }
  return notes;
}

std::set<std::string> Store::finished_samples(std::string_view configuration, std::string_view task) const {
  return finished(state_->database, "SELECT id FROM samples WHERE configuration = ? AND task = ?", configuration, task);
}

std::set<std::string> Store::finished_likelihoods(std::string_view configuration, std::string_view task) const {
  return finished(state_->database, "SELECT id FROM likelihoods WHERE configuration = ? AND task = ?", configuration,
                  task);
}

}  // namespace halftone
