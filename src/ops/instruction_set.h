#pragma once

#include <string>

namespace halftone {

// The instruction set that the kernels of this process run on, as Highway names it: "AVX2", "AVX3", "AVX3_DL", ...
std::string instruction_set();

}  // namespace halftone
