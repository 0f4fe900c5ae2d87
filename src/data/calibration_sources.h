#pragma once
// The kinds of calibration data, one file each. All samples, in the order of the file. See calibration.h for the
// formats.

#include <vector>

#include "data/calibration.h"
#include "data/source.h"

namespace halftone {

std::vector<CalibrationSample> llava_samples(const Json& root, const std::filesystem::path& path);
std::vector<CalibrationSample> caption_samples(const Json& root, const std::filesystem::path& path);
std::vector<CalibrationSample> picture_samples(const std::filesystem::path& folder, DataSource& files);
std::vector<CalibrationSample> text_samples(const std::string& text);

}  // namespace halftone
