// Any bytes are a chat_template.json or a chat_template.jinja that renders a conversation, or an Error. Seeds:
// tests/fuzz/seeds/chat_template.
#include <cstdlib>

#include "base/error.h"
#include "scratch_folder.h"
#include "text/chat_template.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace halftone;
  static const ScratchFolder json, jinja;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  json.write("chat_template.json", text);
  jinja.write("chat_template.jinja", text);
  for (const ScratchFolder* folder : {&json, &jinja}) {
    try {
      const std::string prompt = ChatTemplate::load(folder->path()).render({user_message("What is this?", 1)});
      if (prompt.find("What is this?") == std::string::npos) std::abort();
    } catch (const Error&) {
    }
  }
  return 0;
}
