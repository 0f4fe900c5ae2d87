#include "data/sample.h"

#include <map>
#include <set>

#include "base/hash.h"
#include "base/random.h"

namespace halftone {

void require_unique_ids(const TaskData& data) {
  std::set<std::string_view> ids;
  for (const Sample& sample : data.samples) {
    require(ids.insert(sample.id).second, data.name, "expected each id once, found '{}' twice", sample.id);
  }
}

TaskData take_samples(const TaskData& data, std::int64_t limit, std::uint64_t seed) {
  if (limit <= 0 || limit >= static_cast<std::int64_t>(data.samples.size())) return data;
  std::map<std::filesystem::path, std::vector<std::size_t>> by_picture;
  std::vector<const std::vector<std::size_t>*> groups;
  for (std::size_t i = 0; i < data.samples.size(); ++i) {
    const Sample& sample = data.samples[i];
    const auto key = sample.pictures.empty() ? std::filesystem::path(sample.id) : sample.pictures.front();
    auto& group = by_picture[key];
    if (group.empty()) groups.push_back(&group);
    group.push_back(i);
  }
  std::set<std::size_t> taken;
  for (const std::int64_t g : Random(seed).permutation(static_cast<std::int64_t>(groups.size()))) {
    if (static_cast<std::int64_t>(taken.size()) >= limit) break;
    taken.insert(groups[static_cast<std::size_t>(g)]->begin(), groups[static_cast<std::size_t>(g)]->end());
  }
  TaskData subset{data.name, {}, {}, data.notes};
  Sha256 hash;
  hash.update(data.data_hash);
  for (const std::size_t i : taken) {
    subset.samples.push_back(data.samples[i]);
    hash.update("\n").update(data.samples[i].id);
  }
  subset.data_hash = hash.hex();
  subset.notes.push_back(fmt::format("{}: {} of {} samples, drawn by picture from seed {}", data.name, taken.size(),
                                     data.samples.size(), seed));
  return subset;
}

std::string hash_pictures(const TaskData& data) {
  Sha256 hash;
  std::set<std::filesystem::path> seen;
  for (const Sample& sample : data.samples) {
    for (const auto& picture : sample.pictures) {
      if (seen.insert(picture).second) hash.update(sha256_file(picture)).update("\n");
    }
  }
  return hash.hex();
}

}  // namespace halftone
