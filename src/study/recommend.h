#pragma once
// What to deploy, by fixed rules over the figures of a study.

#include <optional>
#include <string>
#include <vector>

#include "study/summary.h"

namespace halftone {

struct Recommendation {
  std::string title;          // "Best balance"
  std::string rule;           // the rule in words, with its limits
  std::string configuration;  // empty: none meets the rule
  std::string reason;         // the numbers that decided
};

// Where a study lacks a figure that a rule looks at (no speed measured, no divergence), the rule does without it: the
// reason names only the figures that there are. Empty while the baseline is not there.
std::vector<Recommendation> recommend(const StudySummary& study);

}  // namespace halftone
