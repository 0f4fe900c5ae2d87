#pragma once
// Where a study runs, and with what.

#include <cstdint>
#include <string>

#include "base/json.h"

namespace halftone {

// {"processor", "cores", "memory_bytes", "system"}.
Json describe_machine();
// "halftone 0.1.0".
std::string program_version();
// SHA-256 of the running executable's file.
std::string program_hash();
// "2026-01-31T12:00:00Z".
std::string utc_now();
// What the process holds in memory now.
std::int64_t resident_bytes();

}  // namespace halftone
