// GQA.  Source: cs.stanford.edu/people/dorarad/gqa/download.html (file layout).

#include "data/readers.h"
#include "data/source.h"

namespace halftone {

namespace fs = std::filesystem;

namespace {

constexpr std::size_t kPublishedQuestions = 12'578;  // testdev, balanced

}  // namespace

TaskData read_gqa(const fs::path& folder) {
  const fs::path path = find_data_file(folder, "gqa", "testdev_balanced_questions.json");
  DataSource files;
  const Json root = files.json(path);
  require(root.is_object(), path.string(), "expected an object of questions by id, found {}", root.type_name());
  PictureFolder pictures = coco_pictures(folder);

  TaskData data{"gqa", {}, {}, {}};
  data.samples.reserve(root.size());
  for (const auto& [id, row] : root.items()) {
    const std::string source = fmt::format("{}: {}", path.string(), id);
    const std::string picture = id_field(row, "imageId", source) + ".jpg";
    const Json types = get_field_or<Json>(row, "types", Json::object(), source);
    const std::string structural = get_field_or<std::string>(types, "structural", "", source + ".types");
    data.samples.push_back({"gqa/" + id,
                            {pictures.find(picture, source, "imageId")},
                            text_field(row, "question", source),
                            {{"answer", text_field(row, "answer", source)}, {"structural", structural}}});
  }
  require(!data.samples.empty(), path.string(), "expected questions, found none");
  note_row_count(data, "questions", data.samples.size(), kPublishedQuestions);
  data.data_hash = files.hash();
  return data;
}

}  // namespace halftone
