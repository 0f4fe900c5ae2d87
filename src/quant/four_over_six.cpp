#include "quant/four_over_six.h"

#include "formats/e2m1.h"

namespace halftone::four_over_six {

double squared_error(const float* x, std::int64_t n, float scale) {
  double sum = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    const double error = x[i] - e2m1::decode(e2m1::encode(x[i] / scale)) * scale;
    sum += error * error;
  }
  return sum;
}

bool four_is_nearer(const float* x, std::int64_t n, float scale_of_six, float scale_of_four) {
  return squared_error(x, n, scale_of_four) < squared_error(x, n, scale_of_six);
}

}  // namespace halftone::four_over_six
