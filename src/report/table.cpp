#include "report/table.h"

#include <algorithm>

#include "base/error.h"

namespace halftone {
namespace {

// Characters, not bytes, of UTF-8.
std::size_t length(const std::string& text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

std::string escape(const std::string& cell) {
  std::string out;
  for (const char c : cell) {
    if (c == '|') out += '\\';
    out += c == '\n' ? ' ' : c;
  }
  return out;
}

}  // namespace

Table::Table(std::vector<std::string> header, bool left) : left_(left) { rows_.push_back(std::move(header)); }

void Table::add(std::vector<std::string> cells) {
  require(cells.size() == rows_.front().size(), "table", "expected {} cells, found {}", rows_.front().size(),
          cells.size());
  std::transform(cells.begin(), cells.end(), cells.begin(), escape);
  rows_.push_back(std::move(cells));
}

std::string Table::markdown() const {
  const std::size_t columns = rows_.front().size();
  std::vector<std::size_t> widths(columns, 3);
  for (const auto& row : rows_) {
    for (std::size_t c = 0; c < columns; ++c) widths[c] = std::max(widths[c], length(row[c]));
  }
  std::string out;
  const auto is_left = [&](std::size_t column) { return left_ || column == 0; };
  for (std::size_t r = 0; r < rows_.size(); ++r) {
    for (std::size_t c = 0; c < columns; ++c) {
      const std::string space(widths[c] - length(rows_[r][c]), ' ');
      out += is_left(c) ? "| " + rows_[r][c] + space + " " : "| " + space + rows_[r][c] + " ";
    }
    out += "|\n";
    if (r > 0) continue;
    for (std::size_t c = 0; c < columns; ++c) {
      out += is_left(c) ? "|" + std::string(widths[c] + 2, '-') : "|" + std::string(widths[c] + 1, '-') + ":";
    }
    out += "|\n";
  }
  return out;
}

}  // namespace halftone
