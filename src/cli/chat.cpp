// halftone chat: one answer, or a conversation on a terminal, streamed.

#include <fmt/format.h>
#include <unistd.h>

#include <iostream>

#include "cli/command.h"
#include "cli/engine_options.h"
#include "cli/progress_bar.h"

namespace halftone::cli {
namespace {

struct ChatOptions {
  EngineFlags engine;
  std::vector<std::string> pictures;
  std::string prompt, system;
  SamplingOptions sampling;
  bool json = false;
};

void print_answer(const Generation& generation) {
  const StageTimes& t = generation.times;
  Json json;
  json["text"] = generation.text;
  json["tokens"] = generation.tokens;
  json["prompt_tokens"] = generation.prompt_tokens;
  json["visual_tokens"] = generation.visual_tokens;
  json["stopped"] = generation.stopped;
  for (const Stage& stage : kStages) json["seconds"][std::string(stage.name)] = t.*stage.seconds;
  json["seconds"]["ttft"] = t.ttft();
  json["seconds"]["tokens"] = t.tokens;
  print_json(json);
}

Generation answer(Session& session, const Prompt& prompt, const ChatOptions& options, const Environment& environment) {
  const TextSink stream = [&](std::string_view text) {
    if (!options.json) std::cout << text << std::flush;
    return !environment.stop.stop_requested();
  };
  Generation generation = session.generate(prompt, options.sampling, stream);
  if (options.json) {
    print_answer(generation);
  } else {
    std::cout << std::endl;
  }
  return generation;
}

int run_chat(const ChatOptions& options, const Environment& environment) {
  const auto session =
      Session::create(Engine::load(options.engine.model, options.engine.options()), options.engine.threads);
  Prompt prompt;
  if (!options.system.empty()) {
    prompt.messages.push_back({"system", {{ContentPart::Kind::kText, options.system}}});
  }
  for (const std::string& path : options.pictures) prompt.pictures.push_back(read_picture_file(path));
  int pictures = static_cast<int>(prompt.pictures.size());
  if (!options.prompt.empty()) {
    prompt.messages.push_back(user_message(options.prompt, pictures));
    answer(*session, prompt, options, environment);
    return environment.stop.stop_requested() ? kInterrupted : kDone;
  }
  // a conversation: one line a turn, until the end of the input
  std::string line;
  const bool ask = ::isatty(STDIN_FILENO) == 1;
  while (true) {
    if (ask) std::cerr << "> " << std::flush;
    if (!read_line(line, environment.stop)) break;
    if (line.empty()) continue;
    prompt.messages.push_back(user_message(line, pictures));
    pictures = 0;  // they belong to the first turn
    const Generation generation = answer(*session, prompt, options, environment);
    prompt.messages.push_back({"assistant", {{ContentPart::Kind::kText, generation.text}}});
  }
  return environment.stop.stop_requested() ? kInterrupted : kDone;
}

// 0 would leave no token to choose.
std::string check_probability(const std::string& text) {
  double value = 0;
  const bool good = CLI::detail::lexical_cast(text, value) && value > 0 && value <= 1;
  return good ? "" : fmt::format("expected a number above 0 and at most 1, found '{}'", text);
}

}  // namespace

Command declare_chat(CLI::App& parent) {
  auto options = std::make_shared<ChatOptions>();
  CLI::App* app = parent.add_subcommand("chat", "Answer a question about pictures, or hold a conversation; streamed");
  options->engine.declare(*app);
  app->add_option("-i,--image", options->pictures, "Picture file; may be given several times")
      ->check(CLI::ExistingFile);
  app->add_option("-p,--prompt", options->prompt, "Question; without one, a conversation is read line by line");
  app->add_option("--system", options->system, "System message (default: the chat template's)");
  app->add_option("-n,--max-tokens", options->sampling.max_new_tokens, "Longest answer in tokens")
      ->check(CLI::Range(1, 1'000'000))
      ->capture_default_str();
  app->add_option("--temperature", options->sampling.temperature, "0 chooses the likeliest token")
      ->check(CLI::Range(0.0, 100.0))
      ->capture_default_str();
  app->add_option("--top-p", options->sampling.top_p, "Smallest set of tokens with this probability")
      ->check(CLI::Validator(check_probability, "(0 to 1]"))
      ->capture_default_str();
  app->add_option("--top-k", options->sampling.top_k, "Only the k likeliest tokens; 0 for all")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app->add_option("--seed", options->sampling.seed, "Seed of the sampling")->capture_default_str();
  app->add_flag("--json", options->json, "One JSON object an answer, with tokens and times");
  return {app, [options](const Environment& environment) { return run_chat(*options, environment); }};
}

}  // namespace halftone::cli
