// Any bytes are a GGUF file whose tensors lie in it, or an Error. Seeds: tests/fuzz/seeds/gguf.
#include <cstdlib>

#include "base/error.h"
#include "hf/gguf.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace halftone;
  const std::span<const std::byte> file(reinterpret_cast<const std::byte*>(data), size);
  try {
    const GgufHeader header = parse_gguf_header(file, "fuzz");
    for (const auto& [name, tensor] : header.tensors) {
      if (tensor.begin > size || tensor.nbytes > size - tensor.begin) std::abort();
    }
  } catch (const Error&) {
  }
  return 0;
}
