// Grounding: where is a named thing in a picture. The format is this project's own (demo/suite/README.md).

#include "data/readers.h"
#include "data/source.h"

namespace halftone {

namespace fs = std::filesystem;

namespace {

Json box_field(const Json& row, const std::string& source) {
  const Json& box = array_field(row, "bbox", source);
  bool good = box.size() == 4;
  for (const Json& edge : box) good = good && edge.is_number() && edge >= 0.0 && edge <= 1.0;
  require(good && box[0] < box[2] && box[1] < box[3], source,
          "field 'bbox': expected [left, top, right, bottom] as rising fractions in [0, 1], found {}",
          box.dump().substr(0, 80));
  return box;
}

}  // namespace

TaskData read_grounding(const fs::path& folder) {
  const fs::path path = find_data_file(folder, "grounding", "grounding.jsonl");
  DataSource files;
  PictureFolder pictures = coco_pictures(folder);
  TaskData data{"grounding", {}, {}, {}};
  for (const auto& [source, row] : files.json_lines(path)) {
    data.samples.push_back({"grounding/" + id_field(row, "question_id", source),
                            {pictures.find(text_field(row, "image", source), source, "image")},
                            text_field(row, "question", source),
                            {{"bbox", box_field(row, source)}}});
  }
  require(!data.samples.empty(), path.string(), "expected questions, found none");
  require_unique_ids(data);
  data.data_hash = files.hash();
  return data;
}

}  // namespace halftone
