#include "quant/calibration_work.h"

#include "base/file.h"
#include "base/folder_lock.h"
#include "base/hash.h"
#include "base/log.h"
#include "hf/safetensors.h"
#include "hf/safetensors_writer.h"
#include "quant/statistics_folder.h"

namespace halftone {
namespace fs = std::filesystem;
namespace {

// Everything that the statistics depend on. Pictures count by content: the data's hash knows their names alone.
std::string identity_of(const Checkpoint& checkpoint, const CalibrationData& data, const CalibrateOptions& options) {
  Json pictures = Json::array();
  for (const CalibrationSample& sample : data.samples) {
    for (const fs::path& picture : sample.pictures) pictures.push_back(sha256_file(picture));
  }
  const Json json{{"program", options.program},
                  {"weights", checkpoint.content_hash()},
                  {"files", checkpoint.files_hash()},
                  {"data", data.data_hash},
                  {"pictures", std::move(pictures)},
                  {"max_tokens", options.max_tokens},
                  {"sample_rows", options.sample_rows},
                  {"max_row_bytes", options.max_row_bytes},
                  {"seed", options.seed},
                  {"vision", options.vision},
                  {"head", options.head}};
  return json.dump(2) + "\n";
}

constexpr std::string_view kBoundary = "boundary-";

fs::path boundary(const fs::path& folder, std::int64_t layer) {
  return folder / fmt::format("{}{:03}", kBoundary, layer);
}

// Removes the hidden states but those in `kept`. Without any, no layer counts as finished.
void remove_boundaries(const fs::path& folder, const fs::path& kept = {}) {
  std::error_code error;
  std::vector<fs::path> old;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    if (entry->path().filename().string().starts_with(kBoundary) && entry->path() != kept) old.push_back(entry->path());
  }
  for (const fs::path& path : old) {
    if (!error) fs::remove_all(path, error);
  }
  require(!error, "calibration", "{}: cannot remove: {}", folder.string(), error.message());
}

bool is_calibration_file(const fs::path& path) {
  const std::string name = path.filename().string();
  return name.starts_with("identity") || name.starts_with(kBoundary) || name.starts_with("layer-") ||
         name.starts_with("embedding") || name.starts_with("head");
}

// The folder, made where there is none, for this process alone.
std::shared_ptr<const void> claim(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  require(!error, "calibration", "{}: cannot create: {}", folder.string(), error.message());
  for (const auto& entry : fs::directory_iterator(folder)) {
    require(is_calibration_file(entry.path()), folder.string(),
            "expected a folder that a calibration made, or none; found '{}' in it", entry.path().filename().string());
  }
  FolderLock lock = lock_folder(folder);
  require(lock.state != FolderLock::State::kElsewhere, folder.string(), "another calibration works here");
  return std::move(lock.held);
}

}  // namespace

CalibrationWork::CalibrationWork(fs::path folder, const Checkpoint& checkpoint, const CalibrationData& data,
                                 const CalibrateOptions& options)
    : folder_(std::move(folder)) {
  if (folder_.empty()) return;
  lock_ = claim(folder_);
  const std::string identity = identity_of(checkpoint, data, options);
  const fs::path mark = folder_ / "identity";
  const bool marked = fs::exists(mark);
  if (marked && read_file(mark) == identity) return;
  if (marked) {
    log_warning("{}: made from another checkpoint, other data or options, or by another program; starting anew",
                folder_.string());
  }
  // in this order a kill between the two leaves a folder in which nothing is finished; statistics are written over
  remove_boundaries(folder_);
  write_file_atomically(mark, identity);
}

std::optional<std::int64_t> CalibrationWork::finished_layers(std::int64_t layers) const {
  if (folder_.empty()) return {};
  for (std::int64_t layer = layers; layer >= 0; --layer) {
    if (fs::exists(boundary(folder_, layer))) return layer;
  }
  return {};
}

void CalibrationWork::save_statistics(const std::string& step, Calibration& part) const {
  if (folder_.empty()) return;
  PendingFolder pending(folder_ / step);
  write_statistics_folder(pending.path(), part);
  pending.commit(true);
  part = load_statistics(step);
}

Calibration CalibrationWork::load_statistics(const std::string& step) const {
  return read_statistics_folder(folder_ / step);
}

void CalibrationWork::save_boundary(std::int64_t layer, const std::vector<Tensor>& hidden) const {
  if (folder_.empty()) return;
  std::vector<TensorToWrite> tensors;
  for (std::size_t i = 0; i < hidden.size(); ++i) tensors.push_back(tensor_to_write(std::to_string(i), hidden[i]));
  PendingFolder pending(boundary(folder_, layer));
  write_safetensors(pending.path(), tensors, kOneFile);
  pending.commit(true);
  remove_boundaries(folder_, boundary(folder_, layer));
}

std::vector<Tensor> CalibrationWork::load_boundary(std::int64_t layer, const std::vector<Shape>& shapes) const {
  const fs::path path = boundary(folder_, layer) / "model.safetensors";
  const std::map<std::string, Tensor> tensors = map_safetensors(path);
  std::vector<Tensor> hidden;
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    const auto it = tensors.find(std::to_string(i));
    require(it != tensors.end() && it->second.dtype() == DType::kF32 && it->second.shape() == shapes[i], path.string(),
            "tensor '{}': expected F32 {}", i, to_string(shapes[i]));
    hidden.push_back(it->second.clone());
  }
  return hidden;
}

}  // namespace halftone
