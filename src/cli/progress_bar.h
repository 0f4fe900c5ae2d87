#pragma once
// Progress on stderr: a bar with rate and time left on a terminal, a line now and then elsewhere.

#include "base/progress.h"

namespace halftone::cli {

// A drawer that may be called as often as one likes: it redraws at most ten times a second on a terminal, and writes a
// line every ten seconds elsewhere.
Progress make_progress_bar();
// Ends the bar's line, so that other output starts on a fresh one.
void finish_progress();

// Whether stderr is a terminal. Nothing is printed in colour, so that NO_COLOR has nothing to switch off.
bool stderr_is_terminal();

}  // namespace halftone::cli
