#include "data/calibration.h"

#include <algorithm>

#include "base/log.h"
#include "base/random.h"
#include "data/calibration_sources.h"

namespace halftone {

namespace fs = std::filesystem;

namespace {

// The calibration file of a folder; empty when it holds pictures only.
fs::path file_in(const fs::path& folder) {
  if (fs::is_regular_file(folder / "calibration.json")) return folder / "calibration.json";
  std::vector<fs::path> found;
  for (const fs::path& place : {folder, folder / "annotations"}) {
    if (!fs::is_directory(place)) continue;
    for (const auto& entry : fs::directory_iterator(place)) {
      const std::string name = entry.path().filename().string();
      if (name.starts_with("captions_") && name.ends_with(".json")) found.push_back(entry.path());
    }
  }
  require(found.size() <= 1, folder.string(), "expected one captions_*.json, found {}: name the file", found.size());
  return found.empty() ? fs::path() : found.front();
}

void read_json_source(CalibrationData& data, const fs::path& path, DataSource& files) {
  const Json root = files.json(path);
  if (root.is_array()) {
    data.source = "LLaVA conversations";
    data.samples = llava_samples(root, path);
    return;
  }
  require(root.is_object() && root.contains("annotations"), path.string(),
          "expected an array of conversations or an object with 'images' and 'annotations' (COCO captions), found {}",
          root.type_name());
  data.source = "COCO captions";
  data.samples = caption_samples(root, path);
}

void read_source(CalibrationData& data, const fs::path& path, DataSource& files) {
  const fs::path file = fs::is_directory(path) ? file_in(path) : path;
  if (file.empty()) {
    data.source = "pictures";
    data.samples = picture_samples(path, files);
  } else if (file.extension() == ".json") {
    read_json_source(data, file, files);
  } else {
    data.source = "text";
    data.samples = text_samples(files.text(file));
  }
}

}  // namespace

CalibrationData read_calibration(const fs::path& path, const CalibrationOptions& options) {
  require(fs::exists(path), path.string(), "expected calibration data, found nothing there");
  require(options.count >= 0, "calibration", "expected a number of samples, found {}", options.count);
  CalibrationData data;
  DataSource files;
  read_source(data, path, files);
  const auto available = static_cast<std::int64_t>(data.samples.size());
  require(available > 0, path.string(), "expected calibration samples, found none");
  const std::int64_t count = options.count == 0 ? available : std::min(options.count, available);
  if (options.count > available) {
    data.notes.push_back(
        fmt::format("calibration: {} samples asked for, {} has {}", options.count, path.string(), available));
    log_warning("{}", data.notes.back());
  }
  std::vector<CalibrationSample> drawn;
  for (const std::int64_t i : Random(options.seed).permutation(available)) {
    if (static_cast<std::int64_t>(drawn.size()) == count) break;
    drawn.push_back(std::move(data.samples[static_cast<std::size_t>(i)]));
    files.add_name(drawn.back().id);
  }
  data.samples = std::move(drawn);
  data.data_hash = files.hash();
  return data;
}

}  // namespace halftone
