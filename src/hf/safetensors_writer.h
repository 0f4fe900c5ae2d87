#pragma once
// Writes safetensors files, split into shards as transformers splits them.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "base/progress.h"
#include "hf/tensor_writer.h"

namespace halftone {

inline constexpr std::int64_t kDefaultShardBytes = 5'000'000'000;  // transformers' save_pretrained
inline constexpr std::int64_t kOneFile = std::int64_t{1} << 60;    // more than any checkpoint has

// model.safetensors, or, when the tensors exceed max_shard_bytes, model-00001-of-0000N.safetensors and so on with
// model.safetensors.index.json. Tensors are put into shards in the order given; within one they are sorted by element
// size (so that all are aligned), then name. A tensor larger than the limit gets a shard of its own. The metadata is
// {"format": "pt"}, which transformers demands.
std::vector<FileLayout> lay_out_safetensors(const std::vector<TensorSlot>& slots,
                                            std::int64_t max_shard_bytes = kDefaultShardBytes);

// A tensor that is to be written. load() is called once, when its turn comes; it must return this dtype and shape.
struct TensorToWrite {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;
  std::function<Tensor()> load;
};

// A tensor that is in memory already.
TensorToWrite tensor_to_write(std::string name, const Tensor& tensor);

// All at once, in the order of the files, one or two tensors in memory at a time. Progress counts bytes. Throws Error.
void write_safetensors(const std::filesystem::path& folder, const std::vector<TensorToWrite>& tensors,
                       std::int64_t max_shard_bytes = kDefaultShardBytes, const Progress& progress = {});

}  // namespace halftone
