// Every layer of the demo model against transformers in f32, from the picture files on. 1e-4 of each tensor's largest
// magnitude is the project's bound.

#include "runtime/engine.h"
#include "tests/model/golden.h"

namespace halftone {
namespace {

using testing::golden_folder;

const std::filesystem::path kDemo = std::filesystem::path(HALFTONE_SOURCE_DIR) / "demo";

Prompt prompt_of(const Json& golden) {
  Prompt prompt;
  for (const Json& turn : golden["turns"]) {
    ChatMessage message = user_message(turn["text"], static_cast<int>(turn["pictures"].size()));
    message.role = turn["role"];
    prompt.messages.push_back(message);
    for (const Json& name : turn["pictures"]) {
      prompt.pictures.push_back(read_picture_file(kDemo / "suite/val2014" / name.get<std::string>()));
    }
  }
  return prompt;
}

Tensor patches_of(const Prompt& prompt) {
  const Qwen2VlProcessor processor = Qwen2VlProcessor::load(kDemo / "model");
  std::vector<float> patches;
  std::int64_t columns = 0;
  for (const auto& file : prompt.pictures) {
    const Picture picture = decode_picture(std::as_bytes(std::span(file->bytes)), file->source);
    const PatchedPicture patched = process_picture(picture, processor, *default_stream().pool);
    patches.insert(patches.end(), patched.patches.begin(), patched.patches.end());
    columns = patched.columns;
  }
  return patches.empty() ? Tensor()
                         : Tensor::from(patches, {static_cast<std::int64_t>(patches.size()) / columns, columns});
}

TEST(DemoLayers, MatchTransformers) {
  const Json goldens = read_json(golden_folder() / "engine_demo.json");
  const std::shared_ptr<const Engine> engine = Engine::load(kDemo / "model");
  const Model model = Model::load(Checkpoint::open(kDemo / "model"), {}, default_stream());
  for (const Json& golden : goldens["cases"]) {
    SCOPED_TRACE(golden["name"].get<std::string>());
    const Prompt prompt = prompt_of(golden);
    EXPECT_EQ(engine->tokenize(prompt), golden["tokens"].get<std::vector<TokenId>>());
    testing::check_case(model, golden, patches_of(prompt), 1e-4);
  }
}

}  // namespace
}  // namespace halftone
