// COCO captions.  Source: cocodataset.org/#format-data, "Image Captioning" (file layout).

#include <map>

#include "data/calibration_sources.h"

namespace halftone {

namespace {

constexpr std::string_view kQuestion = "Write a short caption for the image.";

// The caption with the smallest annotation id of each picture, by picture id.
std::map<std::string, std::pair<std::int64_t, std::string>> first_captions(const Json& root, const std::string& file) {
  std::map<std::string, std::pair<std::int64_t, std::string>> first;
  const Json& rows = array_field(root, "annotations", file);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const std::string source = fmt::format("{}: annotations[{}]", file, i);
    const std::int64_t id = index_field(rows[i], "id", source);
    const auto [it, is_new] = first.try_emplace(id_field(rows[i], "image_id", source));
    if (is_new || id < it->second.first) it->second = {id, text_field(rows[i], "caption", source)};
  }
  return first;
}

}  // namespace

std::vector<CalibrationSample> caption_samples(const Json& root, const std::filesystem::path& path) {
  const std::string_view subfolders[] = {"train2014", "val2014", "train2017", "val2017", "images"};
  PictureFolder pictures(path.parent_path(), subfolders);
  const auto captions = first_captions(root, path.string());
  std::vector<CalibrationSample> samples;
  const Json& rows = array_field(root, "images", path.string());
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const std::string source = fmt::format("{}: images[{}]", path.string(), i);
    const std::string id = id_field(rows[i], "id", source);
    const auto caption = captions.find(id);
    if (caption == captions.end()) continue;
    CalibrationSample sample{id, {user_message(std::string(kQuestion), 1)}, {}, {}};
    sample.messages.push_back({"assistant", {{ContentPart::Kind::kText, caption->second.second}}});
    sample.pictures.push_back(pictures.find(text_field(rows[i], "file_name", source), source, "file_name"));
    samples.push_back(std::move(sample));
  }
  return samples;
}

}  // namespace halftone
