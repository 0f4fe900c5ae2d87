#pragma once
// Calibration data: what is run through a model to see the values its quantizers will meet.

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "text/chat_template.h"

namespace halftone {

struct CalibrationSample {
  std::string id;
  std::vector<ChatMessage> messages;  // a conversation, the assistant's answers included; empty for plain text
  std::vector<std::filesystem::path> pictures;  // in the order of the messages' picture parts
  std::string text;                             // used when `messages` is empty: no template, no pictures
};

struct CalibrationOptions {
  std::int64_t count = 128;  // samples drawn; 0: all
  std::uint64_t seed = 0;    // of the order
};

struct CalibrationData {
  std::string source;  // "LLaVA conversations", "COCO captions", "pictures", "text"
  std::vector<CalibrationSample> samples;
  // SHA-256 over the names and contents of the files read, the names of pictures, and the drawn ids.
  std::string data_hash;
  std::vector<std::string> notes;
};

// Recognizes what `path` is:
//   a JSON array of LLaVA conversations {"id", "image", "conversations": [{"from": "human"|"gpt", "value"}]}, its
//   pictures
//     beside it ("<image>" marks a picture's place in a text);
//   a COCO captions file {"images": [...], "annotations": [...]}, its pictures in train2014 or val2014 beside or around
//   it:
//     each picture is asked for a caption and answered with its first one;
//   a folder that holds calibration.json, or captions_*.json or annotations/captions_*.json: the same;
//   a folder with .jpg, .jpeg, .png or .webp files (at any depth): each picture is asked for a description;
//   any other file: UTF-8 text. Conversations in ChatML become samples as they are, other text is cut at line ends into
//     pieces of about 2,048 bytes.
// Samples come in an order drawn from the seed. Fewer than `count` are a warning. Throws Error naming file and field.
CalibrationData read_calibration(const std::filesystem::path& path, const CalibrationOptions& options = {});

}  // namespace halftone
