// halftone synth: a checkpoint of a known architecture with random weights, for timing at real size.

#include "hf/synth.h"

#include <iostream>

#include "base/thread_pool.h"
#include "cli/command.h"

namespace halftone::cli {
namespace {

struct SynthOptions {
  std::string like, out;
  std::uint64_t seed = 1;
  int threads = 0;
  bool json = false;
  std::int64_t layers = 0;
};

}  // namespace

Command declare_synth(CLI::App& parent) {
  auto options = std::make_shared<SynthOptions>();
  CLI::App* app = parent.add_subcommand("synth", "Write a checkpoint of a known architecture with random weights");
  app->add_option("--like", options->like, "Architecture")->required()->check(CLI::IsMember(synth_names()));
  app->add_option("-o,--out", options->out, "Folder to write; must not exist")->required();
  app->add_option("--seed", options->seed, "Seed of the weights")->capture_default_str();
  app->add_option("--layers", options->layers, "Decoder layers, in place of the architecture's number")
      ->check(CLI::PositiveNumber);
  app->add_option("--threads", options->threads, "Threads (default: all cores)")->check(CLI::Range(1, 1024));
  app->add_flag("--json", options->json, "Result as JSON");
  return {app, [options](const Environment& environment) {
            ThreadPool pool(options->threads);
            synthesize(options->like, options->out, options->seed, pool, environment.stopping_progress(),
                       options->layers);
            if (options->json) {
              print_json({{"folder", options->out}, {"like", options->like}, {"seed", options->seed}});
            } else {
              std::cout << options->out << std::endl;
            }
            return static_cast<int>(kDone);
          }};
}

}  // namespace halftone::cli
