#pragma once
// Where the time of one request goes.

#include <string_view>
#include <vector>

namespace halftone {

// Seconds that the request waited for each. On a GPU the pictures after the first are decoded and resized while the vision
// tower runs the one before, and count as far as they take longer than it.
struct StageTimes {
  double picture_decode = 0, resize = 0, vision = 0, prefill = 0, first_token = 0;
  std::vector<double> tokens;  // of each, the second token on

  // Time to first token: the sum of the stages.
  double ttft() const { return picture_decode + resize + vision + prefill + first_token; }
};

// A stage before the first token: its name in results, and in words.
struct Stage {
  std::string_view name, title;
  double StageTimes::*seconds;
};

// In the order in which they happen.
inline constexpr Stage kStages[] = {{"picture_decode", "picture decoding", &StageTimes::picture_decode},
                                    {"resize", "resizing", &StageTimes::resize},
                                    {"vision", "vision tower", &StageTimes::vision},
                                    {"prefill", "prefill", &StageTimes::prefill},
                                    {"first_token", "first token", &StageTimes::first_token}};

}  // namespace halftone
