#pragma once
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "model/model.h"
#include "quant/calibration.h"
#include "quant/linear_groups.h"
#include "quant/row_sampler.h"

namespace halftone {

// One sample as all layers see it.
struct SampleView {
  std::span<const TokenClass> classes;  // by token; one for all in the vision tower
  const SampleRows* rows = nullptr;
};

// Collects statistics of inputs, keys and values while samples pass, in the order of the samples, through one layer
// after another. Call begin() before each pass.
class CalibrationObserver final : public ModelObserver {
 public:
  CalibrationObserver(const Model& model, const CalibrateOptions& options, Stream& stream);

  void begin(const SampleView& sample) { sample_ = sample; }
  void on_linear_input(std::string_view module, const Tensor& x) override;
  void on_key_value(std::int64_t layer, const Tensor& k, const Tensor& v, const Tensor& cos,
                    const Tensor& sin) override;

  // Rows that are kept of each input: as many as fit into the options' bytes, over all watched inputs.
  std::int64_t slots() const { return slots_; }
  // The same of the inputs in the vision tower, which are in memory together: perhaps fewer.
  std::int64_t picture_slots() const { return picture_slots_; }
  // Moves the statistics of the linear layers whose names start with `prefix` out, `filled` rows of each input kept.
  // Throws Error for a decoder layer that no sample reached, and for values that are not finite; layers of the vision
  // tower may be missing.
  InputTable take(std::string_view prefix, std::int64_t filled);
  KvStatistics take_kv(std::int64_t layer);

 private:
  struct Group {
    LinearGroup linears;
    std::size_t inputs = 0;
    std::shared_ptr<InputStatistics> statistics;  // made at first use
    bool vision = false;
  };

  Stream& stream_;
  std::int64_t slots_ = 0, picture_slots_ = 0;
  std::vector<Group> groups_;
  std::map<std::string, std::size_t, std::less<>> first_reader_;  // group by the module that is told first
  std::vector<KvStatistics> kv_;
  std::vector<Tensor> key_bias_;  // by layer
  SampleView sample_;
};

}  // namespace halftone
