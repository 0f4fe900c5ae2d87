#pragma once
// A table as Markdown whose columns also line up in a terminal.

#include <string>
#include <vector>

namespace halftone {

class Table {
 public:
  // The first column is aligned left, the others right, unless `left` says otherwise for all.
  explicit Table(std::vector<std::string> header, bool left = false);
  // Throws Error unless there are as many cells as columns. A "|" in a cell is escaped.
  void add(std::vector<std::string> cells);
  bool empty() const { return rows_.size() == 1; }
  std::string markdown() const;

 private:
  std::vector<std::vector<std::string>> rows_;
  bool left_;
};

}  // namespace halftone
