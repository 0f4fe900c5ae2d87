#include "study/store.h"

namespace halftone {
namespace {

std::string short_text(const Json* value) {
  if (!value) return "nothing";
  std::string text = value->is_string() ? value->get<std::string>() : value->dump();
  constexpr std::size_t kLongest = 80;
  if (text.size() > kLongest) text = text.substr(0, kLongest) + "...";
  return text.empty() ? "\"\"" : text;
}

const Json* member(const Json& object, const std::string& key) {
  const auto it = object.find(key);
  return it == object.end() ? nullptr : &*it;
}

void compare(const Json* found, const Json* asked, const std::string& path, std::vector<std::string>& out) {
  if (found && asked && found->is_object() && asked->is_object()) {
    Json keys = *found;
    keys.update(*asked);
    for (const auto& [key, unused] : keys.items()) {
      compare(member(*found, key), member(*asked, key), path.empty() ? key : path + "." + key, out);
    }
  } else if (!found || !asked || *found != *asked) {
    out.push_back(fmt::format("{}: the file has {}, asked for is {}", path, short_text(found), short_text(asked)));
  }
}

}  // namespace

std::vector<std::string> differences(const Json& found, const Json& asked, const std::string& path) {
  std::vector<std::string> out;
  compare(&found, &asked, path, out);
  return out;
}

}  // namespace halftone
