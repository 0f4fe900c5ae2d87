#pragma once
// Shell patterns over names, as Python's fnmatch.fnmatchcase reads them: * any run of characters (dots too), ? one
// character, [abc] [a-z] [!abc] one of a set; anything else is itself, a '[' without its ']' too.

#include <string_view>

namespace halftone {

// Whether the whole of `text` matches. Time is bounded by the product of the lengths.
bool glob_match(std::string_view pattern, std::string_view text);

}  // namespace halftone
