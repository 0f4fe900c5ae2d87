// Runs single linear layers of a checkpoint on given inputs, for the oracles under tools/oracle:
//   run_linears CHECKPOINT INPUTS.safetensors OUT      INPUTS: for each module's name its inputs, F32 [tokens, inputs]
// OUT: a folder, whose model.safetensors has the outputs, F32 [tokens, outputs], under the same names.

#include <cstdio>

#include "base/file.h"
#include "hf/safetensors.h"
#include "hf/safetensors_writer.h"
#include "model/linear_product.h"

namespace halftone {
namespace {

Tensor run_linear(const Checkpoint& checkpoint, const std::string& module, const Tensor& x) {
  Stream& stream = default_stream();
  LinearParts parts = load_linear(checkpoint, module);
  if (parts.bias.defined()) parts.bias = to_f32(parts.bias);
  const LinearProduct product({&parts, 1}, stream);
  Workspace workspace;
  Tensor y(DType::kF32, {x.dim(0), product.outputs()});
  product.forward(x, y, {stream, workspace});
  return y;
}

void run_linears(const std::filesystem::path& folder, const std::filesystem::path& inputs,
                 const std::filesystem::path& out) {
  const Checkpoint checkpoint = Checkpoint::open(folder);
  const MappedFile file(inputs);
  const SafetensorsHeader header = parse_safetensors_header(file.bytes(), inputs.string());
  std::vector<TensorToWrite> outputs;
  for (const auto& [name, entry] : header.tensors) {
    const Tensor x =
        Tensor::borrow(entry.dtype, entry.shape, file.bytes().data() + header.data_begin + entry.begin, file.owner());
    outputs.push_back(tensor_to_write(name, run_linear(checkpoint, name, x)));
  }
  std::filesystem::create_directories(out);
  write_safetensors(out, outputs, kOneFile);
}

}  // namespace
}  // namespace halftone

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: run_linears CHECKPOINT INPUTS.safetensors OUT\n");
    return 2;
  }
  try {
    halftone::run_linears(argv[1], argv[2], argv[3]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
  }
}
