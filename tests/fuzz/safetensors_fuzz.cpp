// Any bytes are a safetensors file whose tensors cover its data, or an Error. Seeds: tests/fuzz/seeds/safetensors.
#include <cstdlib>

#include "base/error.h"
#include "hf/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace halftone;
  const std::span<const std::byte> file(reinterpret_cast<const std::byte*>(data), size);
  try {
    const SafetensorsHeader header = parse_safetensors_header(file, "fuzz");
    std::uint64_t covered = 0;
    for (const auto& [name, entry] : header.tensors) {
      if (header.data_begin + entry.end > size || entry.begin > entry.end) std::abort();
      covered += entry.nbytes();
    }
    if (header.data_begin + covered != size) std::abort();
  } catch (const Error&) {
  }
  return 0;
}
