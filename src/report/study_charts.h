#pragma once
// The charts of a study's report.

#include <string>
#include <vector>

#include "report/chart.h"
#include "study/summary.h"

namespace halftone {

struct NamedChart {
  std::string name;     // of the files: "speed"
  std::string caption;  // what it shows, in a sentence
  ChartFiles files;
};

// speed, memory, accuracy, mme, tradeoff, fp8_kv: those that the study has figures for.
std::vector<NamedChart> draw_study_charts(const StudySummary& study);

}  // namespace halftone
