#pragma once
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/random.h"
#include "model/model.h"
#include "quant/calibration.h"
#include "quant/linear_groups.h"

namespace halftone {

// Collects the statistics of one calibration run. Call begin_sample() before each forward pass.
class CalibrationObserver final : public ModelObserver {
 public:
  CalibrationObserver(const Model& model, const CalibrateOptions& options, Stream& stream);

  // Draws which of the sample's tokens are kept (reservoir sampling), for all layers alike.
  void begin_sample(std::int64_t tokens);
  // The inputs that follow have another number of rows than the sample has tokens (the vision tower's patches).
  void set_keep_rows(bool keep) { keep_rows_ = keep; }

  void on_linear_input(std::string_view module, const Tensor& x) override;
  void on_key_value(std::int64_t layer, const Tensor& k, const Tensor& v, const Tensor& cos,
                    const Tensor& sin) override;

  // Moves the statistics out.
  void finish(Calibration& calibration);

 private:
  struct Kept {
    std::int64_t token, slot;
  };

  void keep_rows(const Tensor& x, InputStatistics& statistics) const;

  const CalibrateOptions options_;
  Stream& stream_;
  Random random_;
  std::vector<LinearGroup> groups_;
  std::map<std::string, std::size_t, std::less<>> first_reader_;  // group by the module that is told first
  std::vector<std::shared_ptr<InputStatistics>> statistics_;      // by group
  std::vector<KvStatistics> kv_;
  std::vector<Tensor> key_bias_;  // by layer
  std::int64_t slots_ = 0, seen_ = 0;
  std::vector<Kept> kept_;
  bool keep_rows_ = true;
};

}  // namespace halftone
