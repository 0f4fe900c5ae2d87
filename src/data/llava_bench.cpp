// LLaVA-Bench (in the wild).  Source: haotian-liu/LLaVA docs/LLaVA_Bench.md (file layout).

#include <map>

#include "data/readers.h"
#include "data/source.h"

namespace halftone {

namespace fs = std::filesystem;

namespace {

constexpr std::size_t kPublishedQuestions = 60;

// Captions by picture; one that is a list of lines is joined.
std::map<std::string, std::string> read_captions(DataSource& files, const fs::path& path) {
  std::map<std::string, std::string> captions;
  for (const auto& [source, row] : files.json_lines(path)) {
    std::string& caption = captions[text_field(row, "image", source)];
    if (!row.contains("caption") || !row["caption"].is_array()) {
      caption = text_field(row, "caption", source);
      continue;
    }
    for (const Json& line : row["caption"]) {
      require(line.is_string(), source, "field 'caption': expected strings, found {}", line.dump().substr(0, 80));
      caption += (caption.empty() ? "" : "\n") + line.get<std::string>();
    }
  }
  return captions;
}

}  // namespace

TaskData read_llava_bench(const fs::path& folder) {
  const fs::path path = find_data_file(folder, "llava-bench", "questions.jsonl");
  DataSource files;
  const std::vector<JsonLine> rows = files.json_lines(path);
  const fs::path context = path.parent_path() / "context.jsonl";
  std::map<std::string, std::string> captions;
  if (fs::is_regular_file(context)) captions = read_captions(files, context);
  const std::string_view subfolders[] = {"images"};
  PictureFolder pictures(path.parent_path(), subfolders);

  TaskData data{"llava_bench", {}, {}, {}};
  for (const auto& [source, row] : rows) {
    const std::string picture = text_field(row, "image", source);
    data.samples.push_back(
        {"llava_bench/" + id_field(row, "question_id", source),
         {pictures.find(picture, source, "image")},
         text_field(row, "text", source),
         {{"category", get_field_or<std::string>(row, "category", "", source)}, {"caption", captions[picture]}}});
  }
  require(!data.samples.empty(), path.string(), "expected questions, found none");
  require_unique_ids(data);
  note_row_count(data, "questions", data.samples.size(), kPublishedQuestions);
  data.data_hash = files.hash();
  return data;
}

}  // namespace halftone
