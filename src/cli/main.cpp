// The program: declares the subcommands, runs the chosen one, and turns its outcome into an exit code.

#include <chrono>
#include <csignal>
#include <cstdio>
#include <exception>
#include <iostream>
#include <thread>
#include <vector>

#include "base/log.h"
#include "cli/command.h"
#include "cli/progress_bar.h"

namespace halftone::cli {
namespace {

volatile std::sig_atomic_t signalled = 0;

// The first signal asks for an orderly end; the second one finds the default action and ends at once.
void on_signal(int signal) {
  signalled = 1;
  std::signal(signal, SIG_DFL);
}

// Turns the signal into a stop request: a signal handler may not do it itself.
void watch_for_signal(const std::stop_token& ended, std::stop_source source) {
  while (!ended.stop_requested() && signalled == 0) std::this_thread::sleep_for(std::chrono::milliseconds(20));
  if (signalled != 0) source.request_stop();
}

void write_log(LogLevel level, std::string_view message) {
  finish_progress();
  std::cerr << (level == LogLevel::kWarning ? "warning: " : "") << message << '\n';
}

int run(int argc, char** argv) {
  CLI::App app("Quantizes vision-language models, runs them, measures them, and tells which configuration to deploy.");
  app.name("halftone");
  app.set_version_flag("--version", std::string("halftone ") + HALFTONE_VERSION);
  app.require_subcommand(1);
  app.get_formatter()->column_width(34);
  std::vector<Command> commands{declare_info(app),  declare_quantize(app), declare_chat(app),   declare_eval(app),
                                declare_bench(app), declare_study(app),    declare_report(app), declare_synth(app)};
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? kDone : kWrongUsage;
  }
  Environment environment;
  const std::stop_source interrupted;
  const std::jthread watcher(watch_for_signal, interrupted);
  environment.stop = interrupted.get_token();
  environment.progress = make_progress_bar();
  for (const Command& command : commands) {
    if (command.app->parsed()) return command.run(environment);
  }
  return kWrongUsage;
}

}  // namespace

void print_json(const Json& json) { std::cout << json.dump(2) << std::endl; }

}  // namespace halftone::cli

int main(int argc, char** argv) {
  using namespace halftone;
  std::signal(SIGINT, cli::on_signal);
  std::signal(SIGTERM, cli::on_signal);
  set_log_sink(cli::write_log);
  try {
    const int code = cli::run(argc, argv);
    std::cout.flush();
    return std::cout.good() ? code : cli::kFailed;
  } catch (const std::bad_alloc&) {
    cli::finish_progress();
    std::cerr << "error: out of memory\n";
  } catch (const std::exception& e) {
    cli::finish_progress();
    std::cerr << "error: " << e.what() << '\n';
  }
  return cli::kFailed;
}
