#pragma once
// A quick 64-bit checksum: whether bytes that were written are those that are read. No protection against malice.

#include <cstddef>
#include <cstdint>
#include <span>

namespace halftone {

// Four lanes of 64-bit words, multiplied and rotated, so that any changed bit changes the result; some bytes a cycle.
// The value is no part of any file format.
std::uint64_t checksum(std::span<const std::byte> bytes);

}  // namespace halftone
