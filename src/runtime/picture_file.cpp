#include "base/file.h"
#include "base/hash.h"
#include "runtime/engine.h"

namespace halftone {

std::shared_ptr<const PictureFile> read_picture_file(const std::filesystem::path& path) {
  auto file = std::make_shared<PictureFile>();
  file->source = path.string();
  file->bytes = read_file(path);
  file->hash = sha256_hex(file->bytes);
  return file;
}

}  // namespace halftone
