#include "api/engine_options.h"
#include "halftone/halftone.h"
#include "runtime/engine.h"

namespace halftone::api {

struct VisionLanguageModel::State {
  std::unique_ptr<Session> session;
};

VisionLanguageModel::VisionLanguageModel(std::unique_ptr<State> state) : state_(std::move(state)) {}
VisionLanguageModel::VisionLanguageModel(VisionLanguageModel&&) noexcept = default;
VisionLanguageModel& VisionLanguageModel::operator=(VisionLanguageModel&&) noexcept = default;
VisionLanguageModel::~VisionLanguageModel() = default;

VisionLanguageModel VisionLanguageModel::load(const std::filesystem::path& checkpoint, const LoadOptions& options) {
  auto state = std::make_unique<State>();
  state->session = Session::create(Engine::load(checkpoint, engine_options(options)), options.threads);
  return VisionLanguageModel(std::move(state));
}

Answer VisionLanguageModel::ask(const std::string& question, const std::vector<std::filesystem::path>& pictures,
                                const AskOptions& options, const OnText& on_text) {
  Prompt prompt;
  if (!options.system.empty()) {
    prompt.messages.push_back({"system", {{ContentPart::Kind::kText, options.system}}});
  }
  prompt.messages.push_back(user_message(question, static_cast<int>(pictures.size())));
  for (const auto& path : pictures) prompt.pictures.push_back(read_picture_file(path));
  SamplingOptions sampling;
  sampling.temperature = options.temperature;
  sampling.top_p = options.top_p;
  sampling.top_k = options.top_k;
  sampling.seed = options.seed;
  sampling.max_new_tokens = options.max_new_tokens;
  const Generation generation = state_->session->generate(prompt, sampling, on_text);
  return {generation.text,          generation.tokens,  generation.prompt_tokens,
          generation.visual_tokens, generation.stopped, generation.times.ttft()};
}

}  // namespace halftone::api
