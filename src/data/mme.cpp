// MME.  Source: BradyFU/Awesome-Multimodal-Large-Language-Models, branch Evaluation (folder layout).

#include <algorithm>

#include "data/readers.h"
#include "data/source.h"

namespace halftone {

namespace fs = std::filesystem;

namespace {

constexpr std::size_t kPublishedQuestions = 2'374;

fs::path find_root(const fs::path& folder) {
  for (const fs::path& root : {folder, folder / "MME_Benchmark_release_version", folder / "mme",
                               folder / "mme" / "MME_Benchmark_release_version"}) {
    for (const std::string_view subtask : kMmeSubtasks) {
      if (fs::is_directory(root / subtask)) return root;
    }
  }
  fail("mme", "expected folders named after MME's subtasks (existence, ...) in {}, found none", folder.string());
}

std::vector<fs::path> sorted_files(const fs::path& folder, bool texts) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.is_regular_file() && (entry.path().extension() == ".txt") == texts) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

fs::path picture_of(const std::vector<fs::path>& pictures, const fs::path& text) {
  const auto it = std::find_if(pictures.begin(), pictures.end(),
                               [&](const fs::path& picture) { return picture.stem() == text.stem(); });
  require(it != pictures.end(), text.string(), "expected a picture of the same name beside it, found none");
  return *it;
}

void add_questions(TaskData& data, DataSource& files, std::string_view subtask, const fs::path& text,
                   const fs::path& picture) {
  const std::string content = files.text(text);
  files.add_name(picture.filename().string());
  std::string_view rest = content;
  if (rest.starts_with("\xef\xbb\xbf")) rest.remove_prefix(3);
  int count = 0;
  while (!rest.empty()) {
    const std::size_t end = rest.find('\n');
    const std::string_view line = trim_ascii(rest.substr(0, end));
    rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
    if (line.empty()) continue;
    const std::size_t tab = line.rfind('\t');
    const std::string source = fmt::format("{}, question {}", text.string(), count + 1);
    require(tab != std::string_view::npos, source, "expected 'question<TAB>Yes|No', found '{}'", line.substr(0, 80));
    const std::string_view answer = trim_ascii(line.substr(tab + 1));
    require(answer == "Yes" || answer == "No", source, "expected the answer Yes or No, found '{}'",
            answer.substr(0, 80));
    const std::string name = picture.filename().string();
    data.samples.push_back({fmt::format("mme/{}/{}/{}", subtask, name, count++),
                            {picture},
                            std::string(trim_ascii(line.substr(0, tab))),
                            {{"answer", answer == "Yes" ? "yes" : "no"}, {"subtask", subtask}, {"picture", name}}});
  }
  require(count == 2, text.string(), "expected two questions, found {}", count);
}

void add_subtask(TaskData& data, DataSource& files, const fs::path& root, std::string_view subtask) {
  const fs::path place = root / subtask;
  if (!fs::is_directory(place)) {
    data.notes.push_back(fmt::format("mme: the subtask {} is missing", subtask));
    return;
  }
  files.add_name(subtask);
  const bool split = fs::is_directory(place / "images");
  const fs::path texts = split ? place / "questions_answers_YN" : place;
  require(fs::is_directory(texts), place.string(),
          "expected the folder questions_answers_YN beside images, found none");
  const std::vector<fs::path> pictures = sorted_files(split ? place / "images" : place, false);
  for (const fs::path& text : sorted_files(texts, true)) {
    add_questions(data, files, subtask, text, picture_of(pictures, text));
  }
}

}  // namespace

TaskData read_mme(const fs::path& folder) {
  const fs::path root = find_root(folder);
  DataSource files;
  TaskData data{"mme", {}, {}, {}};
  for (const std::string_view subtask : kMmeSubtasks) add_subtask(data, files, root, subtask);
  require(!data.samples.empty(), "mme", "expected .txt files with questions in {}, found none", root.string());
  require_unique_ids(data);
  note_row_count(data, "questions", data.samples.size(), kPublishedQuestions);
  data.data_hash = files.hash();
  return data;
}

}  // namespace halftone
