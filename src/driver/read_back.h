#pragma once
// Whether a written folder holds what was to be written, without keeping that in memory: checksums of each module are
// taken before it is handed to the writer, and compared with those of the module as a loader reads it.

#include <map>
#include <string>

#include "base/progress.h"
#include "hf/checkpoint.h"
#include "tensor/stream.h"

namespace halftone {

class WrittenValues {
 public:
  void add_module(const std::string& module, const LinearParts& parts);
  void add_tensor(const std::string& name, const Tensor& value);

  // Reads the folder and compares: modules and tensors with what was added, KV scales with `kv`, all other tensors with
  // the source. Throws Error naming the tensor and what of it differs. Progress counts tensors.
  void check(const std::filesystem::path& folder, const Checkpoint& source, const KvQuantization& kv, Stream& stream,
             const Progress& progress) const;

 private:
  using Digest = std::map<std::string, std::uint64_t, std::less<>>;  // by the part's name
  struct Checksums {
    std::uint64_t stored = 0, widened = 0;  // as the source has it, and as F32
  };
  static Digest digest_of(const LinearParts& parts);
  void check_module(const Checkpoint& written, const std::string& module) const;
  void check_tensor(const Checkpoint& written, const Checkpoint& source, const std::string& name) const;

  std::map<std::string, Digest> modules_;
  std::map<std::string, Checksums> tensors_;
};

}  // namespace halftone
