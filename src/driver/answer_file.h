#pragma once
// The answers of one evaluation as JSON lines: the conditions first, then an answer a line, each written as it comes.

#include <filesystem>
#include <fstream>
#include <memory>
#include <vector>

#include "base/json.h"
#include "eval/answer.h"
#include "eval/task.h"
#include "study/file_lock.h"

namespace halftone {

class AnswerFile {
 public:
  // Makes the file, or goes on with one that was made under the same conditions: found() is what it holds, and a line
  // that a crash cut off is dropped. Throws Error for other conditions and for a file that holds anything else; then
  // the file is as it was. One that another process writes is an error, too. An empty path keeps nothing.
  AnswerFile(std::filesystem::path path, const Json& conditions);

  const std::vector<StoredVerdict>& found() const { return found_; }
  void add(const AnswerResult& result);

 private:
  // Returns where the last whole line ends.
  std::uint64_t read(const std::string& header);
  void read_line(std::string_view line, const std::string& source);
  void write(const std::string& line);

  std::filesystem::path path_;
  std::unique_ptr<FileLock> lock_;
  std::ofstream out_;
  std::vector<StoredVerdict> found_;
};

}  // namespace halftone
