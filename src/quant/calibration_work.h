#pragma once
// The folder in which a calibration keeps what is finished, so that it survives SIGKILL:
//   identity            what it is made from; with another one it starts anew
//   embedding, layer-NNN, head    statistics of one step (statistics_folder.h)
//   boundary-NNN        hidden states of all samples before decoder layer NNN; the last two at most
// Each appears under its name when it is complete. One process at a time works in it.

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "quant/calibration.h"

namespace halftone {

class CalibrationWork {
 public:
  // folder "": nothing is kept, and nothing is found. Throws Error when another process works in the folder, and for one
  // that holds anything else.
  CalibrationWork(std::filesystem::path folder, const Checkpoint& checkpoint, const CalibrationData& data,
                  const CalibrateOptions& options);

  // How many decoder layers are finished; nothing when not even the pictures are.
  std::optional<std::int64_t> finished_layers(std::int64_t layers) const;
  // Keeps the statistics, and replaces them by those in the file.
  void save_statistics(const std::string& step, Calibration& part) const;
  Calibration load_statistics(const std::string& step) const;
  // hidden: [tokens, hidden] of each sample.
  void save_boundary(std::int64_t layer, const std::vector<Tensor>& hidden) const;
  std::vector<Tensor> load_boundary(std::int64_t layer, const std::vector<Shape>& shapes) const;

 private:
  std::filesystem::path folder_;
  std::shared_ptr<const void> lock_;
};

}  // namespace halftone
