// Any bytes are a config.json whose model has a table of tensors, or an Error. Seeds: tests/fuzz/seeds/model.
#include <cstdlib>

#include "base/error.h"
#include "model/registry.h"
#include "scratch_folder.h"

namespace {

// A safetensors file of no tensors: the length of the header, then the header.
constexpr std::string_view kNoTensors{"\x08\0\0\0\0\0\0\0{}      ", 16};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace halftone;
  static const ScratchFolder folder;
  folder.write("config.json", {reinterpret_cast<const char*>(data), size});
  folder.write("model.safetensors", kNoTensors);
  try {
    const Checkpoint checkpoint = Checkpoint::open(folder.path());
    const Architecture& architecture = find_architecture(checkpoint);
    if (architecture.table(architecture.read_config(checkpoint)).empty()) std::abort();
  } catch (const Error&) {
  }
  return 0;
}
