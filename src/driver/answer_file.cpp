#include "driver/answer_file.h"

#include "base/file.h"

namespace halftone {
namespace {

Json to_line(const AnswerResult& result) {
  return {{"id", result.id},
          {"answer", result.answer},
          {"tokens", result.tokens},
          {"picture", result.picture},
          {"value", result.verdict.value},
          {"groups", result.verdict.groups},
          {"score", result.verdict.score},
          {"gap", result.smallest_gap},
          {"seconds", result.seconds}};
}

// A file may be the user's own, given by mistake: nothing of it is touched before its first line has been understood.
void check_header(std::string_view line, const Json& conditions, const std::string& file) {
  const Json header = Json::parse(line.begin(), line.end(), nullptr, false);
  const bool is_header = header.is_object() && header.size() == 1 && header.contains("conditions");
  require(is_header, file, "expected a file of answers, whose first line is {{\"conditions\": ...}}, found '{}'",
          line.substr(0, 80));
  require(header["conditions"] == conditions, file, "expected the conditions {}, found {}", conditions.dump(),
          header["conditions"].dump());
}

}  // namespace

AnswerFile::AnswerFile(std::filesystem::path path, const Json& conditions) : path_(std::move(path)) {
  if (path_.empty()) return;
  lock_ = std::make_unique<FileLock>(path_.string() + "-lock");
  const Json header = {{"conditions", conditions}};
  const std::uint64_t valid = std::filesystem::exists(path_) ? read(header.dump()) : 0;
  if (valid > 0) std::filesystem::resize_file(path_, valid);
  out_.open(path_, valid > 0 ? std::ios::app : std::ios::trunc);
  require(out_.good(), path_.string(), "cannot open for writing");
  if (valid == 0) write(header.dump());
}

std::uint64_t AnswerFile::read(const std::string& header) {
  const std::string text = read_file(path_);
  if (header.starts_with(text)) return 0;  // empty, or a first line that a crash cut off
  auto end = text.find('\n');
  check_header(std::string_view(text).substr(0, end), Json::parse(header).at("conditions"), path_.string());
  if (end == std::string::npos) return 0;
  std::uint64_t begin = end + 1, number = 1;
  for (end = text.find('\n', begin); end != std::string::npos; end = text.find('\n', begin)) {
    read_line(std::string_view(text).substr(begin, end - begin), fmt::format("{}, line {}", path_.string(), ++number));
    begin = end + 1;
  }
  return begin;
}

void AnswerFile::read_line(std::string_view line, const std::string& source) {
  const Json answer = parse_json(line, source);
  found_.push_back(
      {get_field<std::string>(answer, "id", source),
       {get_field<double>(answer, "value", source), get_field<std::vector<std::string>>(answer, "groups", source),
        get_field<Json>(answer, "score", source)}});
}

void AnswerFile::add(const AnswerResult& result) {
  if (!path_.empty()) write(to_line(result).dump());
}

void AnswerFile::write(const std::string& line) {
  out_ << line << '\n' << std::flush;
  require(out_.good(), path_.string(), "cannot write");
}

}  // namespace halftone
