#pragma once
// The tables of a study file. A change of their meaning raises kSchemaVersion.

namespace halftone {

inline constexpr int kApplicationId = 0x48544f4e;  // "HTON" in the file's header: this SQLite file is a study
inline constexpr int kSchemaVersion = 3;           // PRAGMA user_version

// Every row names its configuration and task; these carry the hashes of weights, pixel budget, data and prompts, and
// the only row of `study` that of the program.
inline constexpr const char* kSchema = R"sql(
CREATE TABLE study(
  id INTEGER PRIMARY KEY CHECK(id = 1),
  name TEXT NOT NULL, program TEXT NOT NULL, program_hash TEXT NOT NULL, created TEXT NOT NULL,
  settings TEXT NOT NULL, machine TEXT NOT NULL) STRICT;
CREATE TABLE configurations(
  name TEXT PRIMARY KEY, position INTEGER NOT NULL,
  recipe TEXT NOT NULL, weights TEXT NOT NULL, inputs TEXT NOT NULL, kv_format TEXT NOT NULL,
  weights_hash TEXT NOT NULL,
  numerics TEXT NOT NULL, products TEXT NOT NULL, instruction_set TEXT NOT NULL,
  min_pixels INTEGER NOT NULL, max_pixels INTEGER NOT NULL, kv_bytes_per_token INTEGER NOT NULL,
  calibrated INTEGER NOT NULL) STRICT;
CREATE TABLE tasks(
  name TEXT PRIMARY KEY, position INTEGER NOT NULL, title TEXT NOT NULL,
  kind TEXT NOT NULL CHECK(kind IN ('accuracy', 'kl', 'perplexity')),
  data_hash TEXT NOT NULL, prompts TEXT NOT NULL, prompt_hash TEXT NOT NULL,
  samples INTEGER NOT NULL, max_new_tokens INTEGER NOT NULL, metrics TEXT NOT NULL, headline TEXT NOT NULL,
  part_metric TEXT NOT NULL, part_note TEXT NOT NULL, note TEXT NOT NULL) STRICT;
CREATE TABLE samples(
  configuration TEXT NOT NULL REFERENCES configurations, task TEXT NOT NULL REFERENCES tasks, id TEXT NOT NULL,
  picture TEXT NOT NULL, answer TEXT NOT NULL, tokens TEXT NOT NULL,
  value REAL NOT NULL, groups TEXT NOT NULL, score TEXT NOT NULL, seconds REAL NOT NULL,
  PRIMARY KEY(configuration, task, id)) STRICT, WITHOUT ROWID;
CREATE TABLE likelihoods(
  configuration TEXT NOT NULL REFERENCES configurations, task TEXT NOT NULL REFERENCES tasks, id TEXT NOT NULL,
  picture TEXT NOT NULL, tokens INTEGER NOT NULL, nll REAL NOT NULL, kl REAL, top1_agree INTEGER NOT NULL,
  seconds REAL NOT NULL,
  PRIMARY KEY(configuration, task, id)) STRICT, WITHOUT ROWID;
CREATE TABLE scores(
  configuration TEXT NOT NULL REFERENCES configurations, task TEXT NOT NULL REFERENCES tasks,
  part TEXT NOT NULL, metric TEXT NOT NULL, position INTEGER NOT NULL, value REAL NOT NULL, samples INTEGER NOT NULL,
  PRIMARY KEY(configuration, task, part, metric)) STRICT, WITHOUT ROWID;
CREATE TABLE timings(
  configuration TEXT NOT NULL REFERENCES configurations, workload TEXT NOT NULL, repeat INTEGER NOT NULL,
  stages TEXT NOT NULL,
  PRIMARY KEY(configuration, workload, repeat)) STRICT, WITHOUT ROWID;
CREATE TABLE memory(
  configuration TEXT NOT NULL REFERENCES configurations, component TEXT NOT NULL, position INTEGER NOT NULL,
  bytes INTEGER NOT NULL, measured INTEGER NOT NULL,
  PRIMARY KEY(configuration, component)) STRICT, WITHOUT ROWID;
CREATE TABLE quantizations(
  configuration TEXT PRIMARY KEY REFERENCES configurations, folder TEXT NOT NULL, report TEXT NOT NULL,
  seconds REAL NOT NULL) STRICT;
CREATE TABLE notes(key TEXT PRIMARY KEY, note TEXT NOT NULL) STRICT;
)sql";

}  // namespace halftone
