#include "study/store_state.h"

namespace halftone {
namespace {

Json columns(const ConfigurationRow& row) {
  return {{"recipe", row.recipe},
          {"weights", row.weights},
          {"inputs", row.inputs},
          {"kv_format", row.kv_format},
          {"weights_hash", row.weights_hash},
          {"numerics", row.numerics},
          {"products", row.products},
          {"instruction_set", row.instruction_set},
          {"min_pixels", row.min_pixels},
          {"max_pixels", row.max_pixels},
          {"kv_bytes_per_token", row.kv_bytes_per_token},
          {"calibrated", row.calibrated}};
}

Json columns(const TaskRow& row) {
  return {{"title", row.title},
          {"kind", to_string(row.kind)},
          {"data_hash", row.data_hash},
          {"prompts", row.prompts},
          {"prompt_hash", row.prompt_hash},
          {"samples", row.samples},
          {"max_new_tokens", row.max_new_tokens},
          {"metrics", row.metrics},
          {"headline", row.headline},
          {"part_metric", row.part_metric},
          {"part_note", row.part_note},
          {"note", row.note}};
}

// True when `name` is among `rows` already, and the same there.
template <typename Row>
bool is_there(const std::vector<Row>& rows, const Row& row, const Database& database) {
  for (const Row& other : rows) {
    if (other.name != row.name) continue;
    const auto differ = differences(columns(other), columns(row), row.name);
    require(differ.empty(), database.path().string(), "{}", differ.empty() ? "" : differ.front());
    return true;
  }
  return false;
}

}  // namespace

void Store::add_configuration(const ConfigurationRow& row) {
  const auto rows = configurations();
  if (is_there(rows, row, state_->database)) return;
  state_->database.prepare("INSERT INTO configurations VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")
      .bind(row.name, static_cast<std::int64_t>(rows.size()), row.recipe, row.weights, row.inputs, row.kv_format,
            row.weights_hash, row.numerics, row.products, row.instruction_set, row.min_pixels, row.max_pixels,
            row.kv_bytes_per_token, std::int64_t{row.calibrated})
      .run();
}

void Store::add_task(const TaskRow& row) {
  const auto rows = tasks();
  if (is_there(rows, row, state_->database)) return;
  state_->database.prepare("INSERT INTO tasks VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")
      .bind(row.name, static_cast<std::int64_t>(rows.size()), row.title, to_string(row.kind), row.data_hash,
            row.prompts, row.prompt_hash, row.samples, row.max_new_tokens, Json(row.metrics).dump(),
            Json(row.headline).dump(), row.part_metric, row.part_note, row.note)
      .run();
}

void Store::add_sample(const SampleRow& row) {
  auto& insert = state_->insert_sample;
  if (!insert) insert = state_->database.prepare("INSERT INTO samples VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)");
  insert
      ->bind(row.configuration, row.task, row.id, row.picture, row.answer, Json(row.tokens).dump(), row.value,
             Json(row.groups).dump(), row.score.dump(), row.seconds)
      .run();
}

void Store::add_likelihood(const LikelihoodRow& row) {
  auto& insert = state_->insert_likelihood;
  if (!insert) insert = state_->database.prepare("INSERT INTO likelihoods VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?)");
  insert
      ->bind(row.configuration, row.task, row.id, row.picture, row.tokens, row.nll, row.kl, row.top1_agree, row.seconds)
      .run();
}

void Store::add_timing(const TimingRow& row) {
  state_->database.prepare("INSERT INTO timings VALUES(?, ?, ?, ?)")
      .bind(row.configuration, row.workload, row.repeat, row.stages.dump())
      .run();
}

void Store::add_quantization(const QuantizationRow& row) {
  state_->database.prepare("INSERT INTO quantizations VALUES(?, ?, ?, ?)")
      .bind(row.configuration, row.folder, row.report.dump(), row.seconds)
      .run();
}

void Store::set_scores(std::string_view configuration, std::string_view task, std::span<const ScoreRow> rows) {
  Transaction transaction(state_->database);
  state_->database.prepare("DELETE FROM scores WHERE configuration = ? AND task = ?").bind(configuration, task).run();
  Statement insert = state_->database.prepare("INSERT INTO scores VALUES(?, ?, ?, ?, ?, ?, ?)");
  std::int64_t position = 0;
  for (const ScoreRow& row : rows) {
    insert.bind(configuration, task, row.group, row.metric, position++, row.value, row.samples).run();
  }
  transaction.commit();
}

void Store::set_memory(const MemoryRow& row) {
  // A replaced component keeps its place.
  state_->database
      .prepare(
          "INSERT INTO memory VALUES(?1, ?2, (SELECT count(*) FROM memory WHERE configuration = ?1), ?3, ?4) "
          "ON CONFLICT(configuration, component) DO UPDATE SET bytes = ?3, measured = ?4")
      .bind(row.configuration, row.component, row.bytes, std::int64_t{row.measured})
      .run();
}

void Store::set_note(std::string_view key, std::string_view note) {
  state_->database.prepare("INSERT OR REPLACE INTO notes VALUES(?, ?)").bind(key, note).run();
}

}  // namespace halftone
