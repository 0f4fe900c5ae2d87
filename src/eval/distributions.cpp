#include "eval/distributions.h"

#include <bit>
#include <cstring>
#include <fstream>

#include "base/error.h"
#include "base/hash.h"

namespace halftone {

namespace fs = std::filesystem;

static_assert(std::endian::native == std::endian::little, "records are read in place");

namespace {

constexpr std::string_view kMagic = "HTDISTR1";
constexpr std::size_t kHashBytes = 64;
constexpr std::size_t kHeaderBytes = 16 + kHashBytes;
constexpr std::size_t kRecordHead = 8 + kHashBytes;

std::uint32_t u32_at(std::span<const std::byte> bytes, std::size_t offset) {
  std::uint32_t value = 0;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

std::string_view text_at(std::span<const std::byte> bytes, std::size_t offset, std::size_t size) {
  return {reinterpret_cast<const char*>(bytes.data()) + offset, size};
}

std::string u32_bytes(std::uint32_t value) { return {reinterpret_cast<const char*>(&value), sizeof value}; }

template <typename T>
std::string_view bytes_of(std::span<const T> values) {
  return {reinterpret_cast<const char*>(values.data()), values.size_bytes()};
}

std::size_t padded(std::size_t size) { return (size + 3) / 4 * 4; }

void append_bytes(const fs::path& path, std::initializer_list<std::string_view> parts) {
  std::ofstream file(path, std::ios::binary | std::ios::app);
  for (const std::string_view part : parts) file.write(part.data(), static_cast<std::streamsize>(part.size()));
  file.close();
  require(file.good(), path.string(), "expected to append a record, found that the file cannot be written");
}

}  // namespace

DistributionReader::DistributionReader(const fs::path& path, const std::string& identity) : file_(path) {
  const auto bytes = file_.bytes();
  const std::string name = path.string();
  require(bytes.size() >= kHeaderBytes && text_at(bytes, 0, kMagic.size()) == kMagic, name,
          "expected a file of predictions that begins with {}, found something else", kMagic);
  vocabulary_ = u32_at(bytes, 8);
  require(vocabulary_ > 0, name, "field 'vocabulary': expected a positive number, found 0");
  require(text_at(bytes, 16, kHashBytes) == identity, name,
          "expected predictions of the baseline {}, found those of {}", identity, text_at(bytes, 16, kHashBytes));
  valid_bytes_ = kHeaderBytes;
  while (bytes.size() - valid_bytes_ >= kRecordHead) {
    const auto record = bytes.subspan(valid_bytes_);
    const std::size_t id_bytes = u32_at(record, 0), tokens = u32_at(record, 4);
    const std::size_t tokens_at = kRecordHead + padded(id_bytes), logits_at = tokens_at + tokens * sizeof(TokenId);
    const std::size_t rows = tokens * static_cast<std::size_t>(vocabulary_);  // below 2^64: both are below 2^32
    if (logits_at > record.size() || rows > (record.size() - logits_at) / sizeof(float)) break;
    const std::size_t end = logits_at + rows * sizeof(float);
    if (sha256_hex(text_at(record, kRecordHead, end - kRecordHead)) != text_at(record, 8, kHashBytes)) break;
    const std::span ids(reinterpret_cast<const TokenId*>(record.data() + tokens_at), tokens);
    const std::span logits(reinterpret_cast<const float*>(record.data() + logits_at), rows);
    records_.emplace(text_at(record, kRecordHead, id_bytes), RecordedAnswer{ids, logits, vocabulary_});
    valid_bytes_ += end;
  }
}

RecordedAnswer DistributionReader::find(const std::string& id) const {
  const auto it = records_.find(id);
  require(it != records_.end(), file_.path().string(), "expected the baseline's predictions for '{}', found none", id);
  return it->second;
}

std::vector<std::string> DistributionReader::ids() const {
  std::vector<std::string> ids;
  for (const auto& [id, record] : records_) ids.push_back(id);
  return ids;
}

DistributionWriter::DistributionWriter(fs::path path, const std::string& identity, std::int64_t vocabulary)
    : path_(std::move(path)), vocabulary_(vocabulary) {
  require(identity.size() == kHashBytes, "distributions", "expected an identity of 64 digits, found '{}'", identity);
  require(vocabulary > 0 && vocabulary < 1ll << 31, "distributions", "expected a vocabulary, found {} entries",
          vocabulary);
  if (!fs::exists(path_)) {
    write_file_atomically(
        path_, std::string(kMagic) + u32_bytes(static_cast<std::uint32_t>(vocabulary)) + u32_bytes(0) + identity);
    return;
  }
  std::uint64_t valid_bytes = 0;
  {
    const DistributionReader reader(path_, identity);
    require(reader.vocabulary() == vocabulary, path_.string(), "field 'vocabulary': expected {}, found {}", vocabulary,
            reader.vocabulary());
    for (const std::string& id : reader.ids()) ids_.insert(id);
    valid_bytes = reader.valid_bytes();
  }
  fs::resize_file(path_, valid_bytes);
}

bool DistributionWriter::contains(const std::string& id) const {
  const std::lock_guard lock(mutex_);
  return ids_.contains(id);
}

void DistributionWriter::append(const std::string& id, std::span<const TokenId> tokens, std::span<const float> logits) {
  require(logits.size() == tokens.size() * static_cast<std::size_t>(vocabulary_), id,
          "expected {} logits for each of {} tokens, found {}", vocabulary_, tokens.size(), logits.size());
  const std::string padding(padded(id.size()) - id.size(), '\0');
  const std::string hash = Sha256().update(id).update(padding).update(bytes_of(tokens)).update(bytes_of(logits)).hex();
  const std::lock_guard lock(mutex_);
  require(ids_.insert(id).second, path_.string(), "expected each id once, found '{}' twice", id);
  append_bytes(path_,
               {u32_bytes(static_cast<std::uint32_t>(id.size())), u32_bytes(static_cast<std::uint32_t>(tokens.size())),
                hash, id, padding, bytes_of(tokens), bytes_of(logits)});
}

}  // namespace halftone
