#pragma once
// The end of a step of decoding, by raw pointers: ops/sequence_end.h on a device.

#include <cstdint>

#include "backend/cuda/launch.h"
#include "ops/sequence_end.h"

namespace halftone::cuda {

struct EndStepArguments {
  const std::int32_t* tokens;       // [rows]: what was chosen
  const std::int32_t* stop_tokens;  // [stop_count]
  TokenLimit* limits;               // [rows]: of the token in `tokens`; the next one's afterwards
  // [rows]: keys that the next step's query sees, and its position. A sequence that has ended has no keys, and stays so.
  std::int32_t *lengths, *positions;
  std::int32_t* ended;  // [rows]: 1 where the token ends its sequence, else 0; stays where that had ended before
  int rows, stop_count;
};
// Makes the rows those of the next step.
void start_end_step(const EndStepArguments& arguments, const Launch& launch);

}  // namespace halftone::cuda
