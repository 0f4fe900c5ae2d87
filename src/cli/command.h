#pragma once
// What every subcommand is made of: one file with a struct of options, a function that declares them, and a call into
// the library. No arithmetic here.

#include <CLI/CLI.hpp>
#include <functional>
#include <stop_token>

#include "base/json.h"
#include "base/progress.h"
#include "cli/signals.h"

namespace halftone::cli {

enum ExitCode { kDone = 0, kFailed = 1, kWrongUsage = 2, kInterrupted = 130 };

// What main() hands to a command.
struct Environment {
  std::stop_token stop;  // requested on SIGINT and SIGTERM
  Progress progress;     // draws on stderr

  // The same for work that nothing else ends early: throws Interrupted once `stop` is requested.
  Progress stopping_progress() const;
};

// A declared subcommand and what runs it; the result is the process's exit code.
struct Command {
  CLI::App* app = nullptr;
  std::function<int(const Environment&)> run;
};

Command declare_bench(CLI::App& parent);
Command declare_chat(CLI::App& parent);
Command declare_eval(CLI::App& parent);
Command declare_info(CLI::App& parent);
Command declare_quantize(CLI::App& parent);
Command declare_report(CLI::App& parent);
Command declare_study(CLI::App& parent);
Command declare_synth(CLI::App& parent);

// Writes JSON to stdout, indented, with a newline.
void print_json(const Json& json);

}  // namespace halftone::cli
