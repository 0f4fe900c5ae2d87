// Pictures without text, and text without pictures.

#include <algorithm>
#include <cctype>

#include "data/calibration_sources.h"
#include "data/text_file.h"

namespace halftone {

namespace fs = std::filesystem;

namespace {

constexpr std::string_view kQuestion = "Describe the image.";
constexpr std::size_t kPieceBytes = 2'048;  // about 512 tokens of English

bool is_picture(const fs::path& path) {
  std::string extension = path.extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return extension == ".jpg" || extension == ".jpeg" || extension == ".png" || extension == ".webp";
}

}  // namespace

std::vector<CalibrationSample> picture_samples(const fs::path& folder, DataSource& files) {
  std::vector<fs::path> pictures;
  for (const auto& entry : fs::recursive_directory_iterator(folder, fs::directory_options::skip_permission_denied)) {
    if (entry.is_regular_file() && is_picture(entry.path())) pictures.push_back(entry.path());
  }
  require(!pictures.empty(), folder.string(),
          "expected calibration.json, captions_*.json or pictures (.jpg, .jpeg, .png, .webp), found none");
  std::sort(pictures.begin(), pictures.end());
  std::vector<CalibrationSample> samples;
  for (const fs::path& picture : pictures) {
    const std::string id = picture.lexically_relative(folder).generic_string();
    files.add_name(id);
    samples.push_back({id, {user_message(std::string(kQuestion), 1)}, {picture}, {}});
  }
  return samples;
}

std::vector<CalibrationSample> text_samples(const std::string& text) {
  std::vector<std::string_view> pieces = split_conversations(text);
  if (pieces.empty()) pieces = split_lines(text, kPieceBytes);
  std::vector<CalibrationSample> samples;
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    samples.push_back({fmt::format("text/{}", i), {}, {}, std::string(pieces[i])});
  }
  return samples;
}

}  // namespace halftone
