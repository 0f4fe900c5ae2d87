// smart_resize and patches against transformers, to the last bit.
#include "vision/qwen2_vl_processor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

#include "base/error.h"
#include "vision_golden.h"

namespace halftone {
namespace {

// A folder with a processor's file, removed at the end.
class ProcessorFolder {
 public:
  explicit ProcessorFolder(const std::string& content, const char* name = "preprocessor_config.json")
      : path_(std::filesystem::temp_directory_path() / ("halftone_vision_" + std::to_string(getpid()))) {
    std::filesystem::create_directories(path_);
    std::ofstream(path_ / name) << content;
  }
  ~ProcessorFolder() { std::filesystem::remove_all(path_); }
  ProcessorFolder(const ProcessorFolder&) = delete;
  ProcessorFolder& operator=(const ProcessorFolder&) = delete;
  Qwen2VlProcessor load() const { return Qwen2VlProcessor::load(path_); }

 private:
  std::filesystem::path path_;
};

std::string error_of(const std::string& content) {
  try {
    ProcessorFolder(content).load();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

void expect_golden(const PatchedPicture& patched, const Json& golden) {
  EXPECT_EQ(patched.grid_t, golden["grid"][0]);
  EXPECT_EQ(patched.grid_h, golden["grid"][1]);
  EXPECT_EQ(patched.grid_w, golden["grid"][2]);
  EXPECT_EQ(patched.columns, golden["columns"]);
  EXPECT_EQ(hash_of(patched.patches), golden["sha256"].get<std::string>());
}

TEST(SmartResize, EqualsTransformers) {
  for (const Json& row : vision_golden()["smart_resize"]) {
    const auto v = row.get<std::vector<std::int64_t>>();
    const PictureSize size = smart_resize({v[0], v[1]}, v[2], {.min_pixels = v[3], .max_pixels = v[4]});
    EXPECT_EQ(size, (PictureSize{v[5], v[6]})) << row.dump();
  }
}

TEST(SmartResize, RefusesExtremeShapes) {
  EXPECT_NO_THROW(smart_resize({1, 200}, 28, {}));
  EXPECT_THROW(smart_resize({1, 201}, 28, {}), Error);
  EXPECT_THROW(smart_resize({0, 5}, 28, {}), Error);
  EXPECT_THROW(smart_resize({10, 10}, 0, {}), Error);
  EXPECT_THROW(smart_resize({10, 10}, 28, {.min_pixels = 0, .max_pixels = 10}), Error);
  // 10 rounds to 0 blocks of 28 and a budget of 1 pixel does not ask for more.
  EXPECT_EQ(smart_resize({10, 10}, 28, {.min_pixels = 1, .max_pixels = 10}), (PictureSize{28, 28}));
}

TEST(Patches, EqualTransformersForEveryOption) {
  ThreadPool pool(2);
  for (const Json& golden : vision_golden()["patches"]) {
    const Qwen2VlProcessor processor = ProcessorFolder(golden["config"].dump()).load();
    const PatchedPicture patched = process_picture(noise_picture(golden["width"], golden["height"]), processor, pool);
    SCOPED_TRACE(golden.dump());
    expect_golden(patched, golden);
  }
}

TEST(Patches, EqualTransformersForEveryKindOfFile) {
  ThreadPool pool(2);
  const Qwen2VlProcessor processor = ProcessorFolder("{}").load();
  for (const Json& golden : vision_golden()["decode"]) {
    SCOPED_TRACE(golden.dump());
    expect_golden(process_picture(load_picture(kGoldenFolder / golden["file"].get<std::string>()), processor, pool),
                  golden["patches"]);
  }
}

TEST(Patches, EqualTransformersOnTheSuite) {
  ThreadPool pool(2);
  const auto processor = Qwen2VlProcessor::load(std::filesystem::path(HALFTONE_SOURCE_DIR) / "demo/model");
  for (const auto& [name, hash] : vision_golden()["suite_patches"].items()) {
    const PatchedPicture patched = process_picture(load_picture(kSuiteFolder / name), processor, pool);
    EXPECT_EQ(hash_of(patched.patches).substr(0, 16), hash.get<std::string>()) << name;
  }
}

TEST(Patches, WithoutResizingTheSizeMustFit) {
  ThreadPool pool(1);
  const Qwen2VlProcessor processor = ProcessorFolder(R"({"do_resize": false})").load();
  EXPECT_THROW(process_picture(noise_picture(57, 56), processor, pool), Error);
  EXPECT_EQ(process_picture(noise_picture(84, 56), processor, pool).tokens(processor.merge_size), 6);
}

TEST(Processor, ReadsEitherSpellingOfTheBudget) {
  const PixelBudget budget{.min_pixels = 4000, .max_pixels = 90000};
  EXPECT_EQ(ProcessorFolder(R"({"min_pixels": 4000, "max_pixels": 90000})").load().budget, budget);
  EXPECT_EQ(ProcessorFolder(R"({"size": {"shortest_edge": 4000, "longest_edge": 90000}})").load().budget, budget);
  EXPECT_EQ(ProcessorFolder(R"({"size": {"min_pixels": 4000, "max_pixels": 90000}})").load().budget, budget);
  EXPECT_EQ(
      ProcessorFolder(R"({"min_pixels": 4000, "size": {"shortest_edge": 1, "longest_edge": 90000}})").load().budget,
      budget);
  EXPECT_EQ(ProcessorFolder("{}").load().budget, PixelBudget{});
  const ProcessorFolder nested(R"({"image_processor": {"min_pixels": 4000, "max_pixels": 90000}})",
                               "processor_config.json");
  EXPECT_EQ(nested.load().budget, budget);
}

TEST(Processor, ErrorsNameFileAndField) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {R"({"patch_size": 0})", "field 'patch_size': expected an integer from 1 to 256, found 0"},
      {R"({"patch_size": -14})", "field 'patch_size'"},
      {R"({"patch_size": 1000000})", "field 'patch_size'"},
      {R"({"patch_size": 18446744073709551615})", "field 'patch_size'"},
      {R"({"patch_size": 14.5})", "field 'patch_size'"},
      {R"({"patch_size": "14"})", "field 'patch_size'"},
      {R"({"merge_size": 0})", "field 'merge_size'"},
      {R"({"temporal_patch_size": 0})", "field 'temporal_patch_size'"},
      {R"({"min_pixels": 0})", "field 'min_pixels'"},
      {R"({"max_pixels": -1})", "field 'max_pixels'"},
      {R"({"min_pixels": 10, "max_pixels": 5})", "field 'max_pixels': expected at least min_pixels = 10, found 5"},
      {R"({"size": {"shortest_edge": 0}})", "field 'size.shortest_edge'"},
      {R"({"size": 224})", "field 'size': expected an object, found 224"},
      {R"({"image_mean": [0.5, 0.5]})", "field 'image_mean': expected 3 numbers"},
      {R"({"image_std": [0.5, 0, 0.5]})", "field 'image_std': expected 3 positive numbers"},
      {R"({"image_std": "0.5"})", "field 'image_std'"},
      {R"({"rescale_factor": 0})", "field 'rescale_factor'"},
      {R"({"do_resize": 1})", "field 'do_resize'"},
      {R"({"resample": 2})", "field 'resample': expected 3 (bicubic), found 2"},
      {"[1]", "expected an object, found a list"},
      {"{", "preprocessor_config.json"},
  };
  for (const auto& [content, expected] : cases) {
    const std::string error = error_of(content);
    EXPECT_THAT(error, testing::HasSubstr(expected)) << content;
    EXPECT_THAT(error, testing::HasSubstr("preprocessor_config.json")) << content;
  }
  EXPECT_THROW(Qwen2VlProcessor::load("/nonexistent"), Error);
}

}  // namespace
}  // namespace halftone
