// The program: declares the subcommands, runs the chosen one, and turns its outcome into an exit code.

#include <fmt/ranges.h>

#include <csignal>
#include <exception>
#include <iostream>
#include <span>
#include <vector>

#include "base/log.h"
#include "base/usage_error.h"
#include "cli/command.h"
#include "cli/progress_bar.h"

namespace halftone::cli {
namespace {

void write_warning(std::string_view message) {
  finish_progress();
  std::cerr << "warning: " << message << '\n';
}

// CLI11 only says that a subcommand is missing where a word is none.
void check_command_names(const CLI::App* app, std::span<char* const> words) {
  for (const std::string_view word : words) {
    if (word.starts_with("-") || app->get_require_subcommand_min() == 0) return;
    std::vector<std::string> names;
    const CLI::App* found = nullptr;
    for (const CLI::App* command : app->get_subcommands({})) {
      names.push_back(command->get_name());
      if (word == names.back()) found = command;
    }
    require_usage(found != nullptr, app->get_name(), "expected a command ({}), found '{}'", fmt::join(names, ", "),
                  word);
    app = found;
  }
}

int run(int argc, char** argv) {
  CLI::App app("Quantizes vision-language models, runs them, measures them, and tells which configuration to deploy.");
  app.name("halftone");
  app.set_version_flag("--version", std::string("halftone ") + HALFTONE_VERSION);
  app.require_subcommand(1);
  app.get_formatter()->column_width(34);
  const Command commands[] = {declare_info(app),  declare_quantize(app), declare_chat(app),   declare_eval(app),
                              declare_bench(app), declare_study(app),    declare_report(app), declare_synth(app)};
  check_command_names(&app, {argv + 1, argv + argc});
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) return app.exit(e);  // --help, --version
    throw UsageError(e.what());
  }
  const SignalWatch signals;
  const Environment environment{signals.stop(), make_progress_bar()};
  for (const Command& command : commands) {
    if (command.app->parsed()) return command.run(environment);
  }
  return kWrongUsage;
}

int report_error(std::string_view message, ExitCode code) {
  finish_progress();
  std::cerr << "error: " << message << '\n';
  if (code == kWrongUsage) std::cerr << "halftone --help and halftone COMMAND --help tell what there is\n";
  return code;
}

// Runs the program and turns what it throws into an exit code and a line on stderr.
int run_and_report(int argc, char** argv) {
  try {
    const int code = run(argc, argv);
    std::cout.flush();
    return std::cout.good() ? code : report_error("cannot write to stdout", kFailed);
  } catch (const Interrupted&) {
    finish_progress();
    std::cerr << "interrupted; nothing was written\n";
    return kInterrupted;
  } catch (const UsageError& e) {
    return report_error(e.what(), kWrongUsage);
  } catch (const std::bad_alloc&) {
    return report_error("out of memory", kFailed);
  } catch (const std::exception& e) {
    return report_error(e.what(), kFailed);
  }
}

}  // namespace

Progress Environment::stopping_progress() const {
  return [*this](std::string_view what, std::int64_t done, std::int64_t total) {
    if (stop.stop_requested()) throw Interrupted{};
    progress(what, done, total);
  };
}

void print_json(const Json& json) { std::cout << json.dump(2) << std::endl; }

}  // namespace halftone::cli

int main(int argc, char** argv) {
  std::signal(SIGXFSZ, SIG_IGN);  // a write beyond the limit then fails, with a message
  halftone::set_warning_sink(halftone::cli::write_warning);
  return halftone::cli::run_and_report(argc, argv);
}
