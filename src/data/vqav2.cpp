// VQA v2.0.  Source: visualqa.org/download.html, GT-Vision-Lab/VQA PythonHelperTools/vqaTools/vqa.py (file layout).

#include <map>

#include "data/readers.h"
#include "data/source.h"

namespace halftone {

namespace fs = std::filesystem;

namespace {

constexpr std::size_t kPublishedQuestions = 214'354;  // val2014

Json truth_of(const Json& annotation, const std::string& source) {
  Json truth = {{"answers", Json::array()},
                {"answer_type", text_field(annotation, "answer_type", source)},
                {"question_type", text_field(annotation, "question_type", source)}};
  const Json& answers = array_field(annotation, "answers", source);
  require(!answers.empty(), source, "field 'answers': expected ten answers, found none");
  const std::string place = source + ".answers[]";
  for (const Json& answer : answers) truth["answers"].push_back(text_field(answer, "answer", place));
  return truth;
}

std::map<std::string, Json> read_annotations(DataSource& files, const fs::path& path) {
  const Json root = files.json(path);
  const Json& rows = array_field(root, "annotations", path.string());
  std::map<std::string, Json> truths;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const std::string source = fmt::format("{}: annotations[{}]", path.string(), i);
    const std::string id = id_field(rows[i], "question_id", source);
    require(truths.emplace(id, truth_of(rows[i], source)).second, source,
            "field 'question_id': expected each id once, found {} twice", id);
  }
  return truths;
}

}  // namespace

TaskData read_vqav2(const fs::path& folder) {
  const fs::path questions = find_data_file(folder, "vqav2", "v2_OpenEnded_mscoco_val2014_questions.json");
  const fs::path annotations = find_data_file(folder, "vqav2", "v2_mscoco_val2014_annotations.json");
  DataSource files;
  const Json root = files.json(questions);
  const Json& rows = array_field(root, "questions", questions.string());
  std::map<std::string, Json> truths = read_annotations(files, annotations);
  PictureFolder pictures = coco_pictures(folder);

  TaskData data{"vqav2", {}, {}, {}};
  data.samples.reserve(rows.size());
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const std::string source = fmt::format("{}: questions[{}]", questions.string(), i);
    const std::string id = id_field(rows[i], "question_id", source);
    const auto truth = truths.find(id);
    require(truth != truths.end(), source,
            "field 'question_id': expected an annotation of question {} in {}, found none", id, annotations.string());
    const std::string picture = fmt::format("COCO_val2014_{:012}.jpg", index_field(rows[i], "image_id", source));
    data.samples.push_back({"vqav2/" + id,
                            {pictures.find(picture, source, "image_id")},
                            text_field(rows[i], "question", source),
                            truth->second});
  }
  require(!data.samples.empty(), questions.string(), "field 'questions': expected questions, found none");
  require_unique_ids(data);
  note_row_count(data, "questions", data.samples.size(), kPublishedQuestions);
  data.data_hash = files.hash();
  return data;
}

}  // namespace halftone
