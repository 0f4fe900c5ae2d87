#pragma once
// The report of a study: a pure function of its file.

#include <filesystem>
#include <string>
#include <vector>

#include "study/summary.h"

namespace halftone {

// The one table that says most: accuracy by task, divergence, speed, size. Reads well in a terminal, too.
std::string comparison_table(const StudySummary& study);

// report.md. Pictures are named by the files that write_report() makes.
std::string render_markdown(const StudySummary& study, const std::vector<std::pair<std::string, std::string>>& charts);

// Writes report.md and charts/*.svg, charts/*.png into `folder`, which is made when it is missing. Returns the files.
// Throws Error when the study has no configuration yet.
std::vector<std::filesystem::path> write_report(const StudySummary& study, const std::filesystem::path& folder);

}  // namespace halftone
