#include "quant/calibration_work.h"

#include "base/file.h"
#include "base/hash.h"
#include "base/log.h"
#include "hf/safetensors.h"
#include "hf/safetensors_writer.h"
#include "quant/statistics_folder.h"

namespace halftone {
namespace fs = std::filesystem;
namespace {

constexpr std::int64_t kOneFile = std::int64_t{1} << 60;

// Everything that the statistics depend on. Pictures count by content: the data's hash knows their names alone.
std::string identity_of(const Checkpoint& checkpoint, const CalibrationData& data, const CalibrateOptions& options) {
  Json pictures = Json::array();
  for (const CalibrationSample& sample : data.samples) {
    for (const fs::path& picture : sample.pictures) pictures.push_back(sha256_file(picture));
  }
  const Json json{{"program", options.program},
                  {"weights", checkpoint.content_hash()},
                  {"config", sha256_hex(checkpoint.config().dump())},
                  {"tokenizer", sha256_file(checkpoint.folder() / "tokenizer.json")},
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

fs::path boundary(const fs::path& folder, std::int64_t layer) { return folder / fmt::format("boundary-{:03}", layer); }

}  // namespace

CalibrationWork::CalibrationWork(fs::path folder, const Checkpoint& checkpoint, const CalibrationData& data,
                                 const CalibrateOptions& options)
    : folder_(std::move(folder)) {
  if (folder_.empty()) return;
  const std::string identity = identity_of(checkpoint, data, options);
  const fs::path mark = folder_ / "identity";
  if (fs::exists(mark) && read_file(mark) == identity) return;
  require(!fs::exists(folder_) || fs::exists(mark) || fs::is_empty(folder_), folder_.string(),
          "expected a folder that a calibration made, or none; found something else");
  if (fs::exists(mark)) {
    log_warning("{}: made from another checkpoint, other data or options, or by another program; starting anew",
                folder_.string());
  }
  std::error_code error;
  fs::remove_all(folder_, error);
  if (!error) fs::create_directories(folder_, error);
  require(!error, "calibration", "{}: cannot create: {}", folder_.string(), error.message());
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
  std::error_code ignored;
  fs::remove_all(boundary(folder_, layer - 1), ignored);
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
