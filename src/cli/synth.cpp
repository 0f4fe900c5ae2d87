// halftone synth: a checkpoint of a known architecture with random weights, for timing at real size.

#include "hf/synth.h"

#include <fmt/format.h>

#include <iostream>

#include "cli/command.h"
#include "tensor/stream.h"

namespace halftone::cli {
namespace {

struct SynthOptions {
  std::string like, out;
  std::uint64_t seed = 1;
};

}  // namespace

Command declare_synth(CLI::App& parent) {
  auto options = std::make_shared<SynthOptions>();
  CLI::App* app = parent.add_subcommand("synth", "Write a checkpoint of a known architecture with random weights");
  app->add_option("--like", options->like, "Architecture")->required()->check(CLI::IsMember(synth_names()));
  app->add_option("-o,--out", options->out, "Folder to write; must not exist")->required();
  app->add_option("--seed", options->seed, "Seed of the weights")->capture_default_str();
  return {app, [options](const Environment& environment) {
            synthesize(options->like, options->out, options->seed, *default_stream().pool, environment.progress);
            std::cout << options->out << std::endl;
            return static_cast<int>(kDone);
          }};
}

}  // namespace halftone::cli
