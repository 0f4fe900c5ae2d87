// LLaVA instruction data.  Source: haotian-liu/LLaVA docs/Finetune_Custom_Data.md (file layout).

#include "data/calibration_sources.h"

namespace halftone {

namespace {

constexpr std::string_view kMark = "<image>";

// Text around "<image>" marks as parts; a line break that sets a mark apart belongs to the mark.
void add_parts(ChatMessage& message, std::string_view text) {
  const auto add_text = [&](std::string_view part) {
    if (!part.empty()) message.parts.push_back({ContentPart::Kind::kText, std::string(part)});
  };
  for (std::size_t mark = text.find(kMark); mark != std::string_view::npos; mark = text.find(kMark)) {
    std::string_view before = text.substr(0, mark);
    text.remove_prefix(mark + kMark.size());
    if (text.starts_with('\n')) {
      text.remove_prefix(1);
    } else if (text.empty() && before.ends_with('\n')) {
      before.remove_suffix(1);
    }
    add_text(before);
    message.parts.push_back({ContentPart::Kind::kPicture, ""});
  }
  add_text(text);
}

std::vector<std::string> picture_names(const Json& row, const std::string& source) {
  if (!row.contains("image") || row["image"].is_null()) return {};
  if (row["image"].is_string()) return {row["image"].get<std::string>()};
  std::vector<std::string> names;
  for (const Json& name : array_field(row, "image", source)) {
    require(name.is_string(), source, "field 'image': expected names of pictures, found {}", name.dump().substr(0, 80));
    names.push_back(name.get<std::string>());
  }
  return names;
}

std::string role_of(const std::string& from, const std::string& source) {
  if (from == "human" || from == "user") return "user";
  if (from == "gpt" || from == "assistant") return "assistant";
  require(from == "system", source, "field 'from': expected human, gpt or system, found '{}'", from);
  return from;
}

std::vector<ChatMessage> messages_of(const Json& row, const std::string& source) {
  std::vector<ChatMessage> messages;
  const Json& turns = array_field(row, "conversations", source);
  require(!turns.empty(), source, "field 'conversations': expected turns, found none");
  for (std::size_t t = 0; t < turns.size(); ++t) {
    const std::string place = fmt::format("{}.conversations[{}]", source, t);
    ChatMessage message{role_of(text_field(turns[t], "from", place), place), {}};
    add_parts(message, text_field(turns[t], "value", place));
    messages.push_back(std::move(message));
  }
  return messages;
}

}  // namespace

std::vector<CalibrationSample> llava_samples(const Json& root, const std::filesystem::path& path) {
  const std::string_view subfolders[] = {"images", "train2014", "train2017", "coco/train2017"};
  PictureFolder pictures(path.parent_path(), subfolders);
  std::vector<CalibrationSample> samples;
  for (std::size_t i = 0; i < root.size(); ++i) {
    const std::string source = fmt::format("{}: [{}]", path.string(), i);
    CalibrationSample sample{id_field(root[i], "id", source), messages_of(root[i], source), {}, {}};
    for (const std::string& name : picture_names(root[i], source)) {
      sample.pictures.push_back(pictures.find(name, source, "image"));
    }
    std::size_t marks = 0;
    for (const ChatMessage& message : sample.messages) {
      for (const ContentPart& part : message.parts) marks += part.kind == ContentPart::Kind::kPicture ? 1 : 0;
    }
    require(marks == sample.pictures.size(), source,
            "expected one <image> for each picture of the field 'image', found {} for {}", marks,
            sample.pictures.size());
    samples.push_back(std::move(sample));
  }
  return samples;
}

}  // namespace halftone
