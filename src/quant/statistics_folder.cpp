#include "quant/statistics_folder.h"

#include "base/file.h"
#include "base/json.h"
#include "hf/safetensors.h"
#include "hf/safetensors_writer.h"

namespace halftone {
namespace {

constexpr const char* kJson = "statistics.json";
constexpr const char* kTensors = "model.safetensors";

template <typename T>
Tensor to_tensor(std::span<const T> values) {
  Tensor tensor(DTypeOf<T>::value, {std::ssize(values)});
  std::copy(values.begin(), values.end(), tensor.data<T>());
  return tensor;
}

template <typename T>
Tensor to_tensor(const std::vector<T>& values) {
  return to_tensor(std::span<const T>(values));
}

using Tensors = std::vector<TensorToWrite>;

void add(Tensors& tensors, std::string name, const Tensor& tensor) {
  tensors.push_back(tensor_to_write(std::move(name), tensor));
}

void add_channels(Tensors& tensors, const std::string& prefix, const ChannelStatistics& channels) {
  add(tensors, prefix + "absmax", to_tensor(channels.absmax));
  add(tensors, prefix + "abs_sum", to_tensor(channels.abs_sum));
}

void add_input(Tensors& tensors, const std::string& prefix, const InputStatistics& input) {
  add_channels(tensors, prefix, input);
  for (std::size_t i = 0; i < input.by_class.size(); ++i) {
    add_channels(tensors, fmt::format("{}{}.", prefix, kTokenClassNames[i]), input.by_class[i]);
  }
  add(tensors, prefix + "histogram", to_tensor(input.histogram.counts));
  add(tensors, prefix + "width", Tensor::from({input.histogram.width}, {1}));
  add(tensors, prefix + "sample_mean_sum", to_tensor(input.sample_mean_sum));
  if (!input.rows.defined()) return;
  add(tensors, prefix + "rows", input.rows);
  add(tensors, prefix + "row_weights", to_tensor(input.row_weights));
}

class Reader {
 public:
  explicit Reader(const std::filesystem::path& folder)
      : source_((folder / kTensors).string()), tensors_(map_safetensors(folder / kTensors)) {}

  bool contains(const std::string& name) const { return tensors_.contains(name); }
  Tensor get(const std::string& name) const {
    const auto it = tensors_.find(name);
    require(it != tensors_.end(), source_, "tensor '{}': missing", name);
    return it->second;
  }
  template <typename T>
  std::vector<T> values(const std::string& name, std::size_t count = 0) const {
    const Tensor tensor = get(name);
    const bool fits = tensor.dtype() == DTypeOf<T>::value && (count == 0 || tensor.shape() == Shape{to_signed(count)});
    require(fits, source_, "tensor '{}': expected {} [{}], found {} {}", name, dtype_name(DTypeOf<T>::value), count,
            dtype_name(tensor.dtype()), to_string(tensor.shape()));
    return {tensor.data<T>(), tensor.data<T>() + tensor.numel()};
  }

 private:
  static std::int64_t to_signed(std::size_t n) { return static_cast<std::int64_t>(n); }
  std::string source_;
  std::map<std::string, Tensor> tensors_;
};

void read_channels(const Reader& reader, const std::string& prefix, std::size_t inputs, ChannelStatistics& channels) {
  channels.absmax = reader.values<float>(prefix + "absmax", inputs);
  channels.abs_sum = reader.values<double>(prefix + "abs_sum", inputs);
}

std::shared_ptr<const InputStatistics> read_input(const Reader& reader, const std::string& prefix, const Json& row,
                                                  std::string_view source) {
  auto input = std::make_shared<InputStatistics>();
  const auto inputs = static_cast<std::size_t>(reader.get(prefix + "absmax").numel());
  read_channels(reader, prefix, inputs, *input);
  for (std::size_t i = 0; i < input->by_class.size(); ++i) {
    const std::string name(kTokenClassNames[i]);
    read_channels(reader, prefix + name + ".", inputs, input->by_class[i]);
    input->by_class[i].tokens = get_field<std::int64_t>(row, name + "_tokens", source);
    input->tokens += input->by_class[i].tokens;
  }
  input->histogram.counts = reader.values<std::int64_t>(prefix + "histogram");
  input->histogram.width = reader.values<float>(prefix + "width", 1)[0];
  input->sample_mean_sum = reader.values<float>(prefix + "sample_mean_sum", inputs);
  input->samples = get_field<std::int64_t>(row, "samples", source);
  if (!reader.contains(prefix + "rows")) return input;
  input->rows = reader.get(prefix + "rows");
  input->row_weights = reader.values<float>(prefix + "row_weights", static_cast<std::size_t>(input->rows.dim(0)));
  return input;
}

}  // namespace

void write_statistics_folder(const std::filesystem::path& folder, const Calibration& calibration) {
  OrderedJson json{{"inputs", OrderedJson::array()}, {"kv_layers", calibration.kv.size()}};
  std::map<const InputStatistics*, std::size_t> known;
  Tensors tensors;
  for (const auto& [reader, input] : calibration.inputs) {
    const auto [it, fresh] = known.emplace(input.get(), known.size());
    if (fresh) {
      json["inputs"].push_back({{"readers", OrderedJson::array()},
                                {"samples", input->samples},
                                {"text_tokens", input->of(TokenClass::kText).tokens},
                                {"picture_tokens", input->of(TokenClass::kPicture).tokens}});
      add_input(tensors, fmt::format("{}.", it->second), *input);
    }
    json["inputs"][it->second]["readers"].push_back(reader);
  }
  for (std::size_t i = 0; i < calibration.kv.size(); ++i) {
    add(tensors, fmt::format("kv.{}.k", i), to_tensor(calibration.kv[i].k));
    add(tensors, fmt::format("kv.{}.k_debiased", i), to_tensor(calibration.kv[i].k_debiased));
    add(tensors, fmt::format("kv.{}.v", i), to_tensor(calibration.kv[i].v));
  }
  write_safetensors(folder, tensors, kOneFile);
  write_file_atomically(folder / kJson, json.dump(2) + "\n");
}

Calibration read_statistics_folder(const std::filesystem::path& folder) {
  const std::string source = (folder / kJson).string();
  const Json json = read_json(folder / kJson);
  const Reader reader(folder);
  Calibration calibration;
  const Json inputs = get_field<Json>(json, "inputs", source);
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const auto input = read_input(reader, fmt::format("{}.", i), inputs[i], source);
    for (const auto& name : get_field<std::vector<std::string>>(inputs[i], "readers", source)) {
      calibration.inputs[name] = input;
    }
  }
  const auto layers = get_field<std::int64_t>(json, "kv_layers", source);
  for (std::int64_t i = 0; i < layers; ++i) {
    calibration.kv.push_back({reader.values<float>(fmt::format("kv.{}.k", i)),
                              reader.values<float>(fmt::format("kv.{}.k_debiased", i)),
                              reader.values<float>(fmt::format("kv.{}.v", i))});
  }
  return calibration;
}

}  // namespace halftone
