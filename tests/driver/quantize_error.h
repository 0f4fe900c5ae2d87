#pragma once

#include "driver/quantize_folder.h"

namespace halftone::testing {

// The error's text, "no error" without one.
inline std::string error_of(const QuantizeJob& job) {
  try {
    quantize_folder(job, nullptr, default_stream());
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

}  // namespace halftone::testing
