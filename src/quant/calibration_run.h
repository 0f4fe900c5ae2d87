#pragma once
// The order of calibration: samples, pictures, decoder layers, head.

#include <memory>
#include <string>
#include <vector>

#include "quant/calibration_observer.h"
#include "quant/calibration_samples.h"
#include "quant/calibration_work.h"

namespace halftone {

class CalibrationRun {
 public:
  CalibrationRun(const Checkpoint& checkpoint, const CalibrationData& data, const CalibrateOptions& options,
                 Stream& stream, const Progress& progress);

  Calibration run();

 private:
  // One sample between layers.
  struct Sample {
    std::vector<TokenId> tokens;
    std::vector<PictureGrid> grids;
    std::vector<TokenClass> classes;  // [tokens]
    Positions positions;
    SampleRows token_rows, picture_rows;
    Tensor hidden;  // [tokens, hidden]
  };
  // Pictures of some samples on their way through the vision tower.
  struct Pictures {
    std::vector<std::size_t> samples;
    std::vector<Tensor> x;  // [patches, width], then [visual tokens, hidden]
    std::int64_t bytes = 0;
  };

  void prepare(bool embed);
  Sample describe(PreparedSample prepared);
  void run_tower(Pictures& pictures);
  void embed_sample(Sample& sample, const Tensor& pictures);
  void run_layer(std::int64_t layer);
  void run_head();
  void save_boundary(std::int64_t layer) const;
  void keep(const std::string& step, InputTable inputs, std::vector<KvStatistics> kv);
  void add(Calibration part);
  void restore(std::int64_t layers);
  RunContext context() { return {stream_, workspace_, &observer_}; }
  void tell(std::string_view what, std::int64_t done, std::int64_t total) const;

  const Checkpoint& checkpoint_;
  const CalibrationData& data_;
  const CalibrateOptions& options_;
  Stream& stream_;
  const Progress& progress_;
  Model model_;
  CalibrationObserver observer_;
  CalibrationWork work_;
  RowSampler token_sampler_, picture_sampler_;
  Workspace workspace_;
  std::vector<Sample> samples_;
  Calibration result_;
};

}  // namespace halftone
