#pragma once
// Writes files of tensors whose layout is known before the values: each tensor goes to its place as soon as there is
// one, in any order. What a file looks like is the formats' business (safetensors_writer.h, gguf_writer.h).

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/progress.h"
#include "tensor/tensor.h"

namespace halftone {

// A tensor of the files to come.
struct TensorSlot {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;

  std::int64_t nbytes() const { return count_elements(shape) * static_cast<std::int64_t>(dtype_size(dtype)); }
};

// One file: what it begins with, and where the tensors lie. What lies between them is zero.
struct FileLayout {
  struct Place {
    TensorSlot slot;
    std::int64_t offset = 0;  // from the beginning of the file
  };
  std::string name;
  std::string header;
  std::vector<Place> places;
  std::int64_t size = 0;
};

// One thread of its own writes. Tensors wait in memory for it, kMaxQueued bytes of them (or one that is larger);
// write() waits for room. Not for several threads at once. Errors, also those of the other thread, are thrown by the
// next call. The folder should be a PendingFolder's: files are written under their final names.
class TensorWriter {
 public:
  static constexpr std::int64_t kMaxQueued = 64 << 20;

  TensorWriter(const std::filesystem::path& folder, const std::vector<FileLayout>& files, Progress progress = {});
  ~TensorWriter();
  TensorWriter(const TensorWriter&) = delete;
  TensorWriter& operator=(const TensorWriter&) = delete;

  // Names of all tensors, in the order of the files.
  const std::vector<std::string>& names() const;
  // The tensor must have a slot's name, type and shape, and none may come twice.
  void write(std::string_view name, const Tensor& tensor);
  // The same for a tensor that waits elsewhere (in another file's memory map): it is loaded and written, by the writing
  // thread, when nothing else waits. load() must return the slot's type and shape.
  void write_later(std::string_view name, std::function<Tensor()> load);
  // Tells progress how many bytes are written.
  void tell() const;
  // Waits until all is on the disk, telling meanwhile. Throws Error when a tensor never came.
  void finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// All at once, in the order of the files, one or two tensors in memory at a time.
void write_tensors(const std::filesystem::path& folder, const std::vector<FileLayout>& files,
                   const std::function<Tensor(const std::string& name)>& load, const Progress& progress = {});

}  // namespace halftone
