#pragma once
// One study in one SQLite file. Each row is a transaction of its own: whatever kills the process, what add_*() has
// returned from is in the file. (WAL with synchronous = NORMAL: a power cut or a crash of the operating system may lose
// the last few seconds of rows, never the file. Both are made up for by running the study again.)

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "study/rows.h"

namespace halftone {

class Store {
 public:
  // Makes the file, or opens it to go on. One writer at a time; readers may look on.
  // Throws Error when the file is no study, has another schema version, is written by another process, or was begun
  // with other settings or by another program; the message names every difference.
  static Store create_or_resume(const std::filesystem::path& path, const StudyInfo& info);
  // For reading. Throws Error when it is missing, no study, or of another schema version.
  static Store open(const std::filesystem::path& path);
  Store(Store&&) noexcept;
  Store& operator=(Store&&) noexcept;
  ~Store();

  // Several rows at once: all of them or none.
  void write_together(const std::function<void()>& writes);

  // A configuration or task that is there already must be the same: throws Error naming the column that differs.
  void add_configuration(const ConfigurationRow& row);
  void add_task(const TaskRow& row);
  // These throw Error when the row is there already.
  void add_sample(const SampleRow& row);
  void add_likelihood(const LikelihoodRow& row);
  void add_timing(const TimingRow& row);
  void add_quantization(const QuantizationRow& row);
  // These replace.
  void set_scores(std::string_view configuration, std::string_view task, std::span<const ScoreRow> rows);
  void set_memory(const MemoryRow& row);
  void set_note(std::string_view key, std::string_view note);

  StudyInfo info() const;
  std::vector<ConfigurationRow> configurations() const;  // in the order of their adding
  std::vector<TaskRow> tasks() const;
  std::vector<SampleRow> samples(std::string_view configuration, std::string_view task) const;  // by id
  std::vector<LikelihoodRow> likelihoods(std::string_view configuration, std::string_view task) const;
  std::vector<ScoreRow> scores(std::string_view configuration, std::string_view task) const;
  std::vector<std::string> workloads() const;
  std::vector<TimingRow> timings(std::string_view configuration, std::string_view workload) const;
  std::vector<MemoryRow> memory(std::string_view configuration) const;
  std::vector<QuantizationRow> quantizations() const;
  std::map<std::string, std::string> notes() const;

  // Ids that need not be done again.
  std::set<std::string> finished_samples(std::string_view configuration, std::string_view task) const;
  std::set<std::string> finished_likelihoods(std::string_view configuration, std::string_view task) const;

 private:
  struct State;
  explicit Store(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// The paths whose values differ, one line each: "settings.tasks.vqav2.data_hash: the file has ..., asked for is ...".
std::vector<std::string> differences(const Json& found, const Json& asked, const std::string& path);

std::string_view to_string(TaskKind kind);

}  // namespace halftone
