#pragma once

#include <cstdint>

#include "backend/cuda/launch.h"

namespace halftone::cuda {

// Reads `bytes` (a multiple of 16) once and writes one word that depends on all of them: how fast memory can be read.
void start_read_all(const void* memory, std::int64_t bytes, std::uint32_t* word, const Launch& launch);

}  // namespace halftone::cuda
