#pragma once
// What a task asks: its questions with their pictures and what a scorer needs to judge the answers.

#include <filesystem>
#include <string>
#include <vector>

#include "base/json.h"

namespace halftone {

struct Sample {
  std::string id;  // "task/id": stable, it names the sample in a study
  std::vector<std::filesystem::path> pictures;
  std::string question;  // as the file has it; a prompt preset may add to it
  Json truth;            // what the scorer needs; each reader in readers.h says what it puts here
};

struct TaskData {
  std::string name;             // "vqav2"
  std::vector<Sample> samples;  // in the order of the file
  std::string data_hash;        // SHA-256 over the names and contents of all files read, and the names of the pictures
  std::vector<std::string> notes;  // row counts that differ from the published ones, parts that are missing
};

// Throws Error when two samples have one id.
void require_unique_ids(const TaskData& data);

// At most `limit` samples (0: all), drawn by picture from `seed`, so that all questions on one picture stay together
// and MME keeps its pairs; the last picture may exceed the limit. In the order of the file.
TaskData take_samples(const TaskData& data, std::int64_t limit, std::uint64_t seed);

// SHA-256 over the contents of all pictures, each once, in the order of their first use. Reads them all.
std::string hash_pictures(const TaskData& data);

}  // namespace halftone
