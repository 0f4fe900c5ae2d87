// POPE.  Source: AoiDragon/POPE output/coco (file layout).

#include <map>
#include <set>

#include "data/readers.h"
#include "data/source.h"

namespace halftone {

namespace fs = std::filesystem;

namespace {

constexpr std::size_t kPublishedRows = 3'000;  // of each split

class PopeReader {
 public:
  explicit PopeReader(const fs::path& folder) : pictures_(coco_pictures(folder)) {}

  void add_split(DataSource& files, std::string_view split, const fs::path& path) {
    std::set<std::string> ids;
    const std::vector<JsonLine> lines = files.json_lines(path);
    for (const auto& [source, row] : lines) {
      const std::string id = id_field(row, "question_id", source);
      require(ids.insert(id).second, source, "field 'question_id': expected each id once, found {} twice", id);
      add_row(row, source, fmt::format("{}/{}", split, id));
    }
    note_row_count(data_, fmt::format("rows of the {} split", split), lines.size(), kPublishedRows);
  }

  TaskData finish(DataSource& files) {
    data_.data_hash = files.hash();
    return std::move(data_);
  }

 private:
  void add_row(const Json& row, const std::string& source, const std::string& ask) {
    const std::string picture = text_field(row, "image", source), question = text_field(row, "text", source);
    const std::string label = text_field(row, "label", source);
    require(label == "yes" || label == "no", source, "field 'label': expected yes or no, found '{}'", label);
    const auto [known, is_new] = sample_of_.emplace(std::pair(picture, question), data_.samples.size());
    if (is_new) {
      data_.samples.push_back({"pope/" + ask,
                               {pictures_.find(picture, source, "image")},
                               question,
                               {{"label", label}, {"asks", Json::array()}}});
    }
    Json& truth = data_.samples[known->second].truth;
    if (truth["label"] != label) {
      fail(source, "field 'label': expected {} as in row {}, found {}", truth["label"].get<std::string>(),
           truth["asks"].front().get<std::string>(), label);
    }
    truth["asks"].push_back(ask);
  }

  PictureFolder pictures_;
  TaskData data_{"pope", {}, {}, {}};
  std::map<std::pair<std::string, std::string>, std::size_t> sample_of_;  // by picture and question
};

}  // namespace

TaskData read_pope(const fs::path& folder) {
  DataSource files;
  PopeReader reader(folder);
  std::string missing;
  std::size_t found = 0;
  for (const std::string_view split : kPopeSplits) {
    const fs::path path = find_data_file_if_any(folder, "pope", fmt::format("coco_pope_{}.json", split));
    if (path.empty()) {
      missing += fmt::format(" {}", split);
      continue;
    }
    reader.add_split(files, split, path);
    ++found;
  }
  require(found > 0, "pope",
          "expected coco_pope_{{random,popular,adversarial}}.json in {} or its folder pope, found none",
          folder.string());
  TaskData data = reader.finish(files);
  require(!data.samples.empty(), "pope", "expected questions in {}, found none", folder.string());
  if (!missing.empty()) data.notes.push_back("pope: splits missing:" + missing);
  return data;
}

}  // namespace halftone
