#include "study/store.h"

#include <fmt/ranges.h>

#include "study/schema.h"
#include "study/store_state.h"

namespace halftone {

namespace fs = std::filesystem;

namespace {

void check_is_study(const Database& database) {
  const std::string where = database.path().string();
  std::int64_t application = 0;
  try {
    application = database.query_integer("PRAGMA application_id");
  } catch (const Error&) {
    fail(where, "expected a study, found a file that is no SQLite database");
  }
  require(application == kApplicationId, where, "expected a study, found an SQLite file of another program");
  const std::int64_t version = database.query_integer("PRAGMA user_version");
  require(version == kSchemaVersion, where, "expected a study of schema version {}, found version {}: {}",
          kSchemaVersion, version,
          version > kSchemaVersion
              ? "written by a newer program; use that one"
              : "written by an older program; use that one, or run the study again into a new file");
}

void create_tables(Database& database, const StudyInfo& info) {
  Transaction transaction(database);
  database.execute(kSchema);
  database.execute(fmt::format("PRAGMA application_id = {}; PRAGMA user_version = {}", kApplicationId, kSchemaVersion));
  database.prepare("INSERT INTO study VALUES(1, ?, ?, ?, ?, ?, ?)")
      .bind(info.name, info.program, info.program_hash, info.created, info.settings.dump(), info.machine.dump())
      .run();
  transaction.commit();
}

// What must be equal for a study to be continued.
Json identity(const StudyInfo& info) {
  return {{"name", info.name},
          {"program", info.program},
          {"program_hash", info.program_hash},
          {"settings", info.settings},
          {"machine", info.machine}};
}

bool has_content(const fs::path& path) {
  std::error_code error;
  return fs::exists(path, error) && fs::file_size(path, error) > 0;
}

// A process that dies while it makes the tables leaves an empty database behind, which counts as none.
bool is_blank(const Database& database) {
  try {
    return database.query_integer("SELECT count(*) FROM sqlite_schema") == 0;
  } catch (const Error&) {
    return false;
  }
}

}  // namespace

Store::Store(std::unique_ptr<State> state) : state_(std::move(state)) {}
Store::Store(Store&&) noexcept = default;
Store& Store::operator=(Store&&) noexcept = default;
Store::~Store() = default;

Store Store::create_or_resume(const fs::path& path, const StudyInfo& info) {
  auto lock = std::make_unique<FileLock>(path.string() + "-lock");
  Database database(path, Database::Access::kCreate);
  if (!is_blank(database)) {
    check_is_study(database);
  } else {
    create_tables(database, info);
  }
  database.execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON");
  Store store(std::make_unique<State>(State{std::move(lock), std::move(database), {}, {}}));
  const auto differ = differences(identity(store.info()), identity(info), "");
  require(differ.empty(), path.string(),
          "cannot go on with this study, it was begun with something else; use another "
          "file or what it was begun with:\n  {}",
          fmt::join(differ, "\n  "));
  return store;
}

Store Store::open(const fs::path& path) {
  require(has_content(path), path.string(), "expected a study, found {}",
          fs::exists(path) ? "an empty file" : "no file");
  Database database(path, Database::Access::kRead);
  check_is_study(database);
  return Store(std::make_unique<State>(State{nullptr, std::move(database), {}, {}}));
}

void Store::write_together(const std::function<void()>& writes) {
  Transaction transaction(state_->database);
  writes();
  transaction.commit();
}

StudyInfo Store::info() const {
  Statement row = state_->database.prepare(
      "SELECT name, program, program_hash, created, settings, machine FROM study WHERE id = 1");
  const std::string where = state_->database.path().string();
  require(row.step(), where, "the study has no row about itself");
  return {row.text(0),
          row.text(1),
          row.text(2),
          row.text(3),
          parse_json(row.text(4), where),
          parse_json(row.text(5), where)};
}

std::string_view to_string(TaskKind kind) {
  switch (kind) {
    case TaskKind::kAccuracy:
      return "accuracy";
    case TaskKind::kKl:
      return "kl";
    case TaskKind::kPerplexity:
      return "perplexity";
  }
  fail("study", "task kind {} does not exist", static_cast<int>(kind));
}

}  // namespace halftone
