#pragma once
// The sections of report.md, each a pure function of the summary; empty when the study has no figures for it.

#include <string>

#include "study/summary.h"

namespace halftone {

std::string comparison_legend(const StudySummary& study);
std::string accuracy_section(const StudySummary& study);
std::string parts_section(const StudySummary& study);
std::string divergence_section(const StudySummary& study);
std::string speed_section(const StudySummary& study);
std::string memory_section(const StudySummary& study);
std::string kv_ablation_section(const StudySummary& study);
std::string conditions_section(const StudySummary& study);

}  // namespace halftone
