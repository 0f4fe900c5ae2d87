// GGUF files as they should be, and files that lie.
#include "hf/gguf.h"

#include <gmock/gmock.h>
#include <unistd.h>

#include <filesystem>

#include "base/file.h"
#include "hf/gguf_folder.h"
#include "hf/gguf_names.h"
#include "hf/gguf_writer.h"
#include "tests/hf/golden_tensors.h"

namespace halftone {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing_support::GoldenTensors;

// Pieces of a header, so that each may be wrong.
class Bytes {
 public:
  template <typename T>
  Bytes& add(T value) {
    text_.append(reinterpret_cast<const char*>(&value), sizeof value);
    return *this;
  }
  Bytes& text(std::string_view value) {
    add(std::uint64_t{value.size()});
    text_ += value;
    return *this;
  }
  Bytes& raw(std::string_view value) {
    text_ += value;
    return *this;
  }
  Bytes& pad(std::size_t multiple) {
    text_.resize((text_.size() + multiple - 1) / multiple * multiple);
    return *this;
  }
  const std::string& str() const { return text_; }

 private:
  std::string text_;
};

Bytes header(std::uint64_t tensors, std::uint64_t values) {
  return Bytes().raw("GGUF").add(std::uint32_t{3}).add(tensors).add(values);
}

// One tensor "x" of 64 F32 at offset 0.
Bytes one_tensor(std::uint64_t length = 64, std::uint32_t type = 0, std::uint64_t offset = 0) {
  return header(1, 0).text("x").add(std::uint32_t{1}).add(length).add(type).add(offset);
}

std::string error_of(const Bytes& bytes) {
  try {
    parse_gguf_header(std::as_bytes(std::span(bytes.str())), "f.gguf");
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

TEST(Gguf, ReadsWhatItWrites) {
  const fs::path path = fs::path(testing::TempDir()) / fmt::format("halftone_{}.gguf", ::getpid());
  GgufValues values;
  values.add("general.architecture", "qwen2vl");
  values.add("n", std::uint32_t{7});
  values.add("eps", 0.5f);
  values.add("yes", true);
  values.add("list", std::vector<std::int32_t>{1, 2, 3});
  values.add("words", std::vector<std::string>{"a", "", "bc"});
  const Tensor x = Tensor::from({1, 2, 3, 4, 5, 6}, {2, 3}), blocks = Tensor::zeros(DType::kU8, {2, 34});
  const FileLayout layout =
      lay_out_gguf(path.filename().string(), values, {{"x", GgmlType::kF32, {2, 3}}, {"q", GgmlType::kQ8_0, {2, 32}}});
  write_tensors(path.parent_path(), {layout},
                [&](const std::string& name) { return as_bytes(name == "x" ? x : blocks); });
  const MappedFile file(path);
  const GgufHeader read = parse_gguf_header(file.bytes(), "f");
  EXPECT_EQ(std::get<std::string>(read.values.at("general.architecture")), "qwen2vl");
  EXPECT_EQ(std::get<std::uint64_t>(read.values.at("n")), 7u);
  EXPECT_EQ(std::get<double>(read.values.at("eps")), 0.5);
  EXPECT_EQ(std::get<bool>(read.values.at("yes")), true);
  EXPECT_EQ(read.tensors.at("x").shape, (Shape{2, 3}));
  EXPECT_EQ(read.tensors.at("q").nbytes, 68u);
  EXPECT_EQ(read.tensors.at("q").begin % kGgufAlignment, 0u);
  EXPECT_EQ(std::memcmp(file.bytes().data() + read.tensors.at("x").begin, x.raw(), 24), 0);
  fs::remove(path);
}

TEST(Gguf, LyingHeaders) {
  constexpr std::uint64_t kHuge = std::uint64_t{1} << 60;
  EXPECT_THAT(error_of(Bytes().raw("GGML")), HasSubstr("expected a GGUF file"));
  EXPECT_THAT(error_of(Bytes().raw("GG")), HasSubstr("expected a GGUF file"));
  EXPECT_THAT(error_of(Bytes().raw("GGUF").add(std::uint32_t{1})), HasSubstr("expected GGUF version 2 or 3, found 1"));
  EXPECT_THAT(error_of(Bytes().raw("GGUF").add(std::uint32_t{3})), HasSubstr("found the end of the file"));
  EXPECT_THAT(error_of(header(kHuge, 0)), HasSubstr("found a count of 1152921504606846976"));
  EXPECT_THAT(error_of(header(0, kHuge)), HasSubstr("found a count of 1152921504606846976"));
  EXPECT_THAT(error_of(header(0, 1).add(kHuge).pad(64)), HasSubstr("found a length of 1152921504606846976"));
  EXPECT_THAT(error_of(header(0, 1).text(std::string_view("a\0b", 3)).pad(64)),
              HasSubstr("the name of a value: expected text, found a control character at byte 33"));
  EXPECT_THAT(error_of(header(0, 1).text("k").add(std::uint32_t{13}).pad(64)),
              HasSubstr("value 'k': expected a type from 0 to 12"));
  EXPECT_THAT(error_of(header(0, 1).text("k").add(std::uint32_t{8}).add(kHuge)),
              HasSubstr("k: expected at most 0 bytes"));
  const auto array = [](std::uint32_t type, std::uint64_t count) {
    return header(0, 1).text("k").add(std::uint32_t{9}).add(type).add(count).pad(8);
  };
  EXPECT_THAT(error_of(array(8, kHuge)), HasSubstr("value 'k': expected at most"));
  EXPECT_THAT(error_of(array(4, kHuge)), HasSubstr("value 'k': expected at most"));
  EXPECT_THAT(error_of(array(9, 1)), HasSubstr("expected an array of scalars or strings"));
  EXPECT_THAT(
      error_of(header(0, 2).text("k").add(std::uint32_t{0}).raw("a").text("k").add(std::uint32_t{0}).raw("a").pad(64)),
      HasSubstr("value 'k': expected once, found twice"));
  EXPECT_THAT(error_of(header(0, 1).text("general.alignment").add(std::uint32_t{4}).add(std::uint32_t{33})),
              HasSubstr("expected a power of two"));
}

TEST(Gguf, LyingTensors) {
  constexpr std::uint64_t kHuge = std::uint64_t{1} << 60;
  EXPECT_EQ(error_of(one_tensor().pad(32).raw(std::string(256, 'x'))), "no error");
  EXPECT_THAT(error_of(one_tensor().pad(32).raw(std::string(255, 'x'))),
              HasSubstr("tensor 'x': expected 256 bytes at offset 0 of 255 bytes of data"));
  EXPECT_THAT(error_of(one_tensor(kHuge).pad(64)), HasSubstr("tensor 'x': expected a shape that fits into the file"));
  EXPECT_THAT(error_of(one_tensor(0).pad(64)),
              HasSubstr("expected a shape that fits into the file, found a length of 0"));
  EXPECT_THAT(error_of(one_tensor(64, 99).pad(64)), HasSubstr("found type number 99"));
  EXPECT_THAT(error_of(one_tensor(33, 8).pad(64)), HasSubstr("expected rows in whole blocks of 32 for Q8_0"));
  EXPECT_THAT(error_of(one_tensor(64, 0, kHuge).pad(512)), HasSubstr("tensor 'x': expected 256 bytes at offset"));
  EXPECT_THAT(error_of(one_tensor(64, 0, 1).pad(512)),
              HasSubstr("expected an offset that is a multiple of 32, found 1"));
  EXPECT_THAT(error_of(header(1, 0).text("x").add(std::uint32_t{5}).pad(128)),
              HasSubstr("expected 1 to 4 dimensions, found 5"));
  const Bytes two = header(2, 0)
                        .text("x")
                        .add(std::uint32_t{1})
                        .add(std::uint64_t{16})
                        .add(std::uint32_t{0})
                        .add(std::uint64_t{0})
                        .text("y")
                        .add(std::uint32_t{1})
                        .add(std::uint64_t{16})
                        .add(std::uint32_t{0})
                        .add(std::uint64_t{32});
  EXPECT_THAT(
      error_of(Bytes(two).pad(32).raw(std::string(256, 'x'))),
      HasSubstr("tensor 'x' of F32 [16]: expected its 64 bytes to end where tensor 'y' begins, at offset 64, found "
                "offset 32"));
  EXPECT_THAT(error_of(one_tensor(32, 0, 32).pad(32).raw(std::string(256, 'x'))),
              HasSubstr("tensor 'x': expected the first one at offset 0, found 32"));
}

TEST(Gguf, NamesGoBothWays) {
  for (const char* module : {"model.embed_tokens", "model.norm", "lm_head", "model.layers.17.self_attn.o_proj",
                             "model.layers.3.mlp.down_proj", "visual.blocks.31.attn.proj", "visual.blocks.0.mlp.fc2",
                             "visual.merger.mlp.2", "visual.merger.ln_q"}) {
    const auto name = gguf_module(module);
    ASSERT_TRUE(name) << module;
    EXPECT_EQ(module_of_gguf(*name), module);
  }
  EXPECT_EQ(gguf_module("model.language_model.layers.4.mlp.up_proj"), "blk.4.ffn_up");
  EXPECT_EQ(gguf_module("model.visual.merger.mlp.0"), "mm.0");
  EXPECT_EQ(gguf_module("visual.blocks.0.attn.qkv"), std::nullopt);
  EXPECT_EQ(module_of_gguf("blk..ffn_up"), std::nullopt);
  EXPECT_EQ(module_of_gguf("blk.12345678.ffn_up"), std::nullopt);
}

TEST(Gguf, BlocksDecodeAsGgufPyDecodesThem) {
  const GoldenTensors golden("gguf.safetensors");
  for (const GgmlType type : {GgmlType::kQ8_0, GgmlType::kQ4_0, GgmlType::kQ4_K, GgmlType::kQ6_K}) {
    const std::string name(ggml_type_info(type).name);
    const Tensor values = dequantize(unpack_ggml(type, golden[name], 512, name)), want = golden[name + ".values"];
    for (std::int64_t i = 0; i < values.numel(); ++i) {
      ASSERT_EQ(values.data<float>()[i], want.data<float>()[i]) << name << " at " << i;
    }
  }
}

class GgufFolderTest : public testing::Test {
 protected:
  GgufFolderTest() : root_(fs::path(testing::TempDir()) / fmt::format("halftone_gguf_{}", ::getpid())) {
    fs::create_directories(root_);
  }
  ~GgufFolderTest() override { fs::remove_all(root_); }

  void add(const std::string& name, GgmlType type, const Shape& shape) {
    const GgmlTypeInfo& info = ggml_type_info(type);
    Tensor bytes(DType::kU8, {count_elements(shape) / info.weights * info.bytes});
    for (std::int64_t i = 0; i < bytes.numel(); ++i)
      bytes.bits<std::uint8_t>()[i] = static_cast<std::uint8_t>(i + 3 * count_);
    ++count_;
    slots_.push_back({name, type, shape});
    values_[name] = bytes;
  }
  GgufFolder open() {
    write_tensors(root_, {lay_out_gguf("model.gguf", GgufValues(), slots_)},
                  [&](const std::string& name) { return values_.at(name); });
    return map_gguf_folder(root_);
  }
  std::string error() {
    try {
      open();
    } catch (const Error& e) {
      return e.what();
    }
    return "no error";
  }

  fs::path root_;
  std::vector<GgufSlot> slots_;
  std::map<std::string, Tensor> values_;
  int count_ = 0;
};

TEST_F(GgufFolderTest, JoinsWhatTheTowerStoresInParts) {
  for (const char* letter : {"q", "k", "v"})
    add(fmt::format("v.blk.0.attn_{}.weight", letter), GgmlType::kBF16, {16, 16});
  for (const char* letter : {"v", "q", "k"}) add(fmt::format("v.blk.1.attn_{}.bias", letter), GgmlType::kF32, {3});
  add("v.patch_embd.weight", GgmlType::kF16, {2, 3, 4, 4});
  add("v.patch_embd.weight.1", GgmlType::kF16, {2, 3, 4, 4});
  const GgufFolder folder = open();
  const GgufEntry& joined = folder.tensors.at("visual.blocks.0.attn.qkv.weight");
  EXPECT_EQ(joined.shape, (Shape{48, 16}));
  EXPECT_TRUE(joined.mapped);
  const GgufEntry& copied = folder.tensors.at("visual.blocks.1.attn.qkv.bias");
  EXPECT_EQ(copied.shape, (Shape{9}));
  EXPECT_FALSE(copied.mapped);
  EXPECT_EQ(static_cast<int>(copied.data[0]), 3 * 4);   // the fifth tensor written is the query's
  EXPECT_EQ(static_cast<int>(copied.data[24]), 3 * 3);  // the fourth the value's
  const GgufEntry& patches = folder.tensors.at("visual.patch_embed.proj.weight");
  EXPECT_EQ(patches.shape, (Shape{2, 3, 2, 4, 4}));
  EXPECT_EQ(static_cast<int>(patches.data[32]), 3 * 7);  // the second half follows the first plane
}

TEST_F(GgufFolderTest, DamagedFolders) {
  add("blk.0.attn_rotation.weight", GgmlType::kF32, {4});
  EXPECT_THAT(error(), HasSubstr("tensor 'blk.0.attn_rotation.weight': expected a tensor of Qwen2-VL"));
  slots_.clear();
  add("blk.0.ffn_up.weight", GgmlType::kQ5_0, {4, 32});
  EXPECT_THAT(
      error(),
      HasSubstr("ffn_up.weight': expected F32, F16, BF16, or a matrix of Q8_0, Q4_0, Q4_K or Q6_K, found Q5_0"));
  slots_.clear();
  add("v.blk.0.attn_q.weight", GgmlType::kF32, {4, 4});
  EXPECT_THAT(error(), HasSubstr("attn.qkv.weight': expected the matrices q, k and v, found 1"));
  add("v.blk.0.attn_k.weight", GgmlType::kF32, {4, 4});
  add("v.blk.0.attn_v.weight", GgmlType::kF16, {4, 4});
  EXPECT_THAT(error(), HasSubstr("expected q, k and v of one type and shape"));
  slots_.clear();
  add("v.patch_embd.weight", GgmlType::kF32, {4, 3, 2, 2});
  EXPECT_THAT(error(), HasSubstr("v.patch_embd.weight.1': expected beside the other one, found none"));
}

TEST(Gguf, BlocksWithScalesThatAreNoNumbers) {
  Tensor blocks = Tensor::zeros(DType::kU8, {1, 34});
  blocks.bits<std::uint8_t>()[1] = 0x7c;  // F16 infinity
  EXPECT_THROW(unpack_ggml(GgmlType::kQ8_0, blocks, 32, "x"), Error);
  EXPECT_THROW(unpack_ggml(GgmlType::kQ8_0, Tensor::zeros(DType::kU8, {1, 33}), 32, "x"), Error);
  EXPECT_THROW(unpack_ggml(GgmlType::kQ5_0, Tensor::zeros(DType::kU8, {1, 22}), 32, "x"), Error);
}

}  // namespace
}  // namespace halftone
