#pragma once
// Prompts about the demo's pictures: with one, with two, in turns, without any.

#include <filesystem>
#include <string>
#include <vector>

#include "runtime/engine.h"

namespace halftone::testing {

inline std::filesystem::path demo_folder() { return std::filesystem::path(HALFTONE_SOURCE_DIR) / "demo"; }

inline Prompt ask(const std::string& text, std::vector<std::shared_ptr<const PictureFile>> pictures) {
  Prompt prompt;
  prompt.messages = {user_message(text, static_cast<int>(pictures.size()))};
  prompt.pictures = std::move(pictures);
  return prompt;
}

inline std::vector<Prompt> some_prompts() {
  const auto picture = [](const char* name) { return read_picture_file(demo_folder() / "suite/val2014" / name); };
  const auto first = picture("COCO_val2014_000000001123.jpg"), second = picture("COCO_val2014_000000004325.jpg");
  Prompt turns = ask("What color is it?", {first});
  turns.messages.push_back({"assistant", {{ContentPart::Kind::kText, "pink"}}});
  turns.messages.push_back(user_message("And in this one?", 1));
  turns.pictures.push_back(second);
  return {ask("Is there a dog in the image?", {first}),
          ask("What number is written in the picture?\nAnswer the question using a single word or phrase.", {first}),
          ask("Is there a dog in the image?", {second}),
          ask("Describe the two pictures.", {first, second}),
          turns,
          ask("How many legs does a spider have?", {})};
}

}  // namespace halftone::testing
