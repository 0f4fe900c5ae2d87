#pragma once
// The part of SQLite that a study needs: a connection, a prepared statement, a transaction. Each closes itself.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

struct sqlite3;
struct sqlite3_stmt;

namespace halftone {

// One prepared statement. Parameters are numbered from 1, columns from 0, as in SQLite.
class Statement {
 public:
  Statement(sqlite3* connection, std::string_view sql);

  // Binds all parameters in order: integers, doubles, text, or std::optional of these (none becomes NULL).
  template <typename... Values>
  Statement& bind(const Values&... values) {
    reset();
    int index = 0;
    (bind_value(++index, values), ...);
    return *this;
  }
  // True while there is a row.
  bool step();
  // Runs a statement that returns no row.
  void run();

  bool is_null(int column) const;
  std::int64_t integer(int column) const;
  double real(int column) const;
  std::string text(int column) const;
  std::optional<double> optional_real(int column) const;

 private:
  struct Finalize {
    void operator()(sqlite3_stmt* statement) const;
  };
  void reset();
  void check(int code) const;
  void bind_value(int index, std::int64_t value);
  void bind_value(int index, int value) { bind_value(index, std::int64_t{value}); }
  void bind_value(int index, double value);
  void bind_value(int index, std::string_view value);
  void bind_value(int index, const std::string& value) { bind_value(index, std::string_view(value)); }
  void bind_value(int index, const char* value) { bind_value(index, std::string_view(value)); }
  template <typename T>
  void bind_value(int index, const std::optional<T>& value) {
    if (value) bind_value(index, *value);
  }

  std::unique_ptr<sqlite3_stmt, Finalize> statement_;
};

// A connection. Not for several threads at once.
class Database {
 public:
  enum class Access { kRead, kWrite, kCreate };

  // Throws Error naming the file.
  Database(const std::filesystem::path& path, Access access);

  // Runs statements that return nothing.
  void execute(const std::string& sql);
  Statement prepare(std::string_view sql) const { return Statement(connection_.get(), sql); }
  // The first column of the first row of a query.
  std::int64_t query_integer(std::string_view sql) const;
  const std::filesystem::path& path() const { return path_; }

 private:
  struct Close {
    void operator()(sqlite3* connection) const;
  };
  std::filesystem::path path_;
  std::unique_ptr<sqlite3, Close> connection_;
};

// All or nothing: rolled back unless commit() is reached.
class Transaction {
 public:
  explicit Transaction(Database& database);
  ~Transaction();
  Transaction(const Transaction&) = delete;
  Transaction& operator=(const Transaction&) = delete;
  void commit();

 private:
  Database& database_;
  bool open_ = true;
};

}  // namespace halftone
