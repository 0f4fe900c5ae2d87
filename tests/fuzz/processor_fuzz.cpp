// Any bytes are a preprocessor_config.json that gives every picture a size of whole patches, or an Error. Seeds:
// tests/fuzz/seeds/processor.
#include <cstdlib>

#include "base/error.h"
#include "scratch_folder.h"
#include "vision/qwen2_vl_processor.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace halftone;
  static const ScratchFolder folder;
  folder.write("preprocessor_config.json", {reinterpret_cast<const char*>(data), size});
  try {
    const Qwen2VlProcessor processor = Qwen2VlProcessor::load(folder.path());
    const std::int64_t factor = processor.patch_size * processor.merge_size;
    const PictureSize resized = smart_resize({480, 640}, factor, processor.budget);
    if (resized.height < 1 || resized.width < 1 || resized.height % factor || resized.width % factor) std::abort();
  } catch (const Error&) {
  }
  return 0;
}
