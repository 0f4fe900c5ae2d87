#pragma once
// How long work tells that it lives. The library calls; the front end draws (a bar on a terminal, a line now and then
// elsewhere).

#include <cstdint>
#include <functional>
#include <string_view>

namespace halftone {

// done of total units of `what` are finished. Called from the thread that runs the work; must be quick.
using Progress = std::function<void(std::string_view what, std::int64_t done, std::int64_t total)>;

// As the total: there is nothing to count, `done` is a share of the whole (shown in percent).
inline constexpr std::int64_t kProgressWhole = 1'000'000;

}  // namespace halftone
