#pragma once
#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/random.h"
#include "model/model.h"
#include "quant/calibration.h"
#include "quant/linear_groups.h"

namespace halftone {

// Which rows of the next inputs are kept: reservoir sampling over all rows of all samples, the same for all layers.
class RowSampler {
 public:
  RowSampler(std::int64_t slots, std::uint64_t seed) : slots_(slots), random_(seed) {}

  // The next inputs have `rows` rows, or a multiple of it (patches before they are merged).
  void begin(std::int64_t rows);
  // Copies the chosen rows of x into kept, which is made at first use: [slots, width].
  void keep(const Tensor& x, Tensor& kept) const;
  // Slots that are filled.
  std::int64_t filled() const { return std::min(slots_, seen_); }

 private:
  struct Choice {
    std::int64_t row, slot;
  };
  std::int64_t slots_, seen_ = 0, rows_ = 1;
  Random random_;
  std::vector<Choice> choices_;
};

// Collects the statistics of one calibration run. Call begin_tokens() before each pass through the decoder,
// begin_pictures() before each one through the vision tower.
class CalibrationObserver final : public ModelObserver {
 public:
  CalibrationObserver(const Model& model, const CalibrateOptions& options, Stream& stream);

  void begin_tokens(std::int64_t tokens) { begin(token_rows_, tokens); }
  void begin_pictures(std::int64_t visual_tokens) { begin(picture_rows_, visual_tokens); }

  void on_linear_input(std::string_view module, const Tensor& x) override;
  void on_key_value(std::int64_t layer, const Tensor& k, const Tensor& v, const Tensor& cos,
                    const Tensor& sin) override;

  // Moves the statistics out.
  void finish(Calibration& calibration);

 private:
  struct Group {
    LinearGroup linears;
    std::shared_ptr<InputStatistics> statistics;
    bool vision = false;
  };

  void begin(RowSampler& rows, std::int64_t count) {
    rows.begin(count);
    rows_ = &rows;
  }

  Stream& stream_;
  std::vector<Group> groups_;
  std::map<std::string, std::size_t, std::less<>> first_reader_;  // group by the module that is told first
  std::vector<KvStatistics> kv_;
  std::vector<Tensor> key_bias_;  // by layer
  RowSampler token_rows_, picture_rows_;
  RowSampler* rows_ = &token_rows_;
};

}  // namespace halftone
