#include "cli/progress_bar.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <memory>
#include <mutex>
#include <string>

#include "base/timer.h"

namespace halftone::cli {
namespace {

constexpr int kWidth = 30;  // characters of the bar itself

std::mutex mutex;
bool line_open = false;

std::string format_seconds(double seconds) {
  const auto whole = static_cast<long>(seconds + 0.5);
  if (whole >= 3600) return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
  return fmt::format("{}:{:02}", whole / 60, whole % 60);
}

// One kind of work; starts anew when the name changes or the count goes back.
class Bar {
 public:
  void show(std::string_view what, std::int64_t done, std::int64_t total) {
    const std::lock_guard lock(mutex);
    if (what != what_ || done < done_) start(what, done);
    done_ = done;
    const bool last = done >= total;
    const double interval = stderr_is_terminal() ? 0.1 : 10;
    if (!last && shown_ && since_shown_.seconds() < interval) return;
    if (!last && !shown_ && !stderr_is_terminal() && since_start_.seconds() < interval) return;
    shown_ = true;
    since_shown_ = Timer();
    const std::string text = describe(done, total);
    if (stderr_is_terminal()) {
      std::fprintf(stderr, "\r\033[K%s", text.c_str());
      line_open = !last;
      if (last) std::fputc('\n', stderr);
    } else {
      std::fprintf(stderr, "%s\n", text.c_str());
    }
    std::fflush(stderr);
  }

 private:
  void start(std::string_view what, std::int64_t done) {
    what_ = what;
    first_ = done > 0 ? done - 1 : 0;
    since_start_ = Timer();
    shown_ = false;
  }

  std::string describe(std::int64_t done, std::int64_t total) const {
    const double share = total > 0 ? static_cast<double>(done) / static_cast<double>(total) : 1;
    const double seconds = since_start_.seconds();
    const double rate = seconds > 0 ? static_cast<double>(done - first_) / seconds : 0;
    const auto filled = static_cast<std::size_t>(share * kWidth);
    const bool counts = total != kProgressWhole;
    std::string text = fmt::format("{} [{}{}] {}", what_, std::string(filled, '#'),
                                   std::string(static_cast<std::size_t>(kWidth) - filled, '.'),
                                   counts ? fmt::format("{}/{}", done, total) : fmt::format("{:.1f} %", 100 * share));
    if (rate > 0 && done < total) {
      if (counts) text += fmt::format("  {:.1f}/s", rate);
      text += fmt::format("  {} left", format_seconds(static_cast<double>(total - done) / rate));
    } else if (done >= total) {
      text += fmt::format("  {}", format_seconds(seconds));
    }
    return text;
  }

  std::string what_;
  std::int64_t done_ = 0, first_ = 0;
  bool shown_ = false;
  Timer since_start_, since_shown_;
};

}  // namespace

bool stderr_is_terminal() {
  static const bool terminal = ::isatty(STDERR_FILENO) == 1;
  return terminal;
}

Progress make_progress_bar() {
  auto bar = std::make_shared<Bar>();
  return [bar](std::string_view what, std::int64_t done, std::int64_t total) { bar->show(what, done, total); };
}

void finish_progress() {
  const std::lock_guard lock(mutex);
  if (line_open) std::fputc('\n', stderr);
  line_open = false;
}

}  // namespace halftone::cli
