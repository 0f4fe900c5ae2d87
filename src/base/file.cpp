#include "base/file.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <fstream>

#include "base/descriptor.h"
#include "base/error.h"
#include "base/folder_lock.h"
#include "base/output_file.h"

namespace halftone {
namespace fs = std::filesystem;
namespace {

std::string reason() { return std::strerror(errno); }

// Files, and folders: what was renamed in them.
void sync_to_disk(const fs::path& path) {
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  require(file.get() >= 0, "write folder", "{}: cannot open: {}", path.string(), reason());
  // some file systems cannot synchronize folders
  require(::fsync(file.get()) == 0 || errno == EINVAL, "write folder", "{}: cannot write: {}", path.string(), reason());
}

fs::path parent_of(const fs::path& path) { return path.has_parent_path() ? path.parent_path() : fs::path("."); }

// Both names at once: at no moment is there none.
bool exchange(const fs::path& a, const fs::path& b) {
  return ::renameat2(AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_EXCHANGE) == 0;
}

bool process_lives(std::string_view number) {
  pid_t id = 0;
  const auto parsed = std::from_chars(number.data(), number.data() + number.size(), id);
  return parsed.ec == std::errc() && id > 0 && (::kill(id, 0) == 0 || errno != ESRCH);
}

// Removes "final.partial-PROCESS" of processes that are gone; the lock covers those of other machines and containers.
void remove_leftovers(const fs::path& final_path) {
  const std::string prefix = final_path.filename().string() + ".partial-";
  std::error_code error;
  for (fs::directory_iterator entry(parent_of(final_path), error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (!name.starts_with(prefix) || process_lives(std::string_view(name).substr(prefix.size()))) continue;
    std::error_code ignored;
    if (const FolderLock lock = lock_folder(entry->path()); lock.held) fs::remove_all(entry->path(), ignored);
  }
}

// A process of this number may live on another machine or in another container, and write there.
void remove_namesake(const fs::path& temporary) {
  std::error_code error;
  if (!fs::exists(temporary, error)) return;
  const FolderLock lock = lock_folder(temporary);
  require(lock.state != FolderLock::State::kElsewhere, "write folder", "{}: another process writes it now",
          temporary.string());
  fs::remove_all(temporary, error);
}

}  // namespace

MappedFile::MappedFile(const fs::path& path) : path_(path) {
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));  // a pipe must not make it wait
  require(file.get() >= 0, "map file", "{}: cannot open: {}", path.string(), reason());
  struct stat info = {};
  require(::fstat(file.get(), &info) == 0 && S_ISREG(info.st_mode), "map file", "{}: expected a regular file",
          path.string());
  const auto size = static_cast<std::size_t>(info.st_size);
  if (size == 0) return;  // an empty map is not allowed; an empty span is
  void* address = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.get(), 0);
  require(address != MAP_FAILED, "map file", "{}: cannot map {} bytes: {}", path.string(), size, reason());
  owner_ = std::shared_ptr<const void>(address, [size](const void* p) { ::munmap(const_cast<void*>(p), size); });
  bytes_ = {static_cast<const std::byte*>(address), size};
}

void MappedFile::drop_pages(std::span<const std::byte> part) {
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto address = reinterpret_cast<std::uintptr_t>(part.data());
  const std::uintptr_t begin = (address + page - 1) / page * page, end = (address + part.size()) / page * page;
  // a hint: the map is read-only, so dropping loses nothing, and failing to drop costs memory alone
  if (begin < end) ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

void require_file(const fs::path& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (fs::is_regular_file(status)) return;
  require(fs::status_known(status), "read file", "{}: {}", path.string(), error.message());
  require(fs::exists(status), "read file", "{}: no such file", path.string());
  fail("read file", "{}: expected a file, found {}", path.string(),
       fs::is_directory(status) ? "a folder" : "something else");
}

std::string read_file(const fs::path& path, std::uint64_t max_bytes) {
  require_file(path);
  std::error_code error;
  const auto size = fs::file_size(path, error);
  require(!error, "read file", "{}: {}", path.string(), error.message());
  require(size <= max_bytes, "read file", "{}: expected at most {} bytes, found {}", path.string(), max_bytes, size);
  std::ifstream in(path, std::ios::binary);
  std::string content(size, '\0');
  in.read(content.data(), static_cast<std::streamsize>(size));
  require(in.good() && in.gcount() == static_cast<std::streamsize>(size), "read file", "{}: cannot read {} bytes",
          path.string(), size);
  return content;
}

void write_file_atomically(const fs::path& path, std::string_view content) {
  const fs::path temporary = path.string() + ".tmp";
  std::error_code error;
  try {
    OutputFile out(temporary, static_cast<std::int64_t>(content.size()));
    out.write_at(0, std::as_bytes(std::span(content)));
    out.finish();
  } catch (const Error&) {
    fs::remove(temporary, error);
    throw;
  }
  fs::rename(temporary, path, error);
  if (error) {
    std::error_code ignored;
    fs::remove(temporary, ignored);
    fail("write file", "{}: cannot rename into place: {}", path.string(), error.message());
  }
  sync_to_disk(parent_of(path));
}

PendingFolder::PendingFolder(fs::path final_path) : final_(std::move(final_path)) {
  if (final_.filename().empty()) final_ = final_.parent_path();  // "folder/"
  temporary_ = final_.string() + ".partial-" + std::to_string(::getpid());
  std::error_code error;
  remove_leftovers(final_);
  remove_namesake(temporary_);
  for (fs::path parent = final_.parent_path(); !parent.empty() && !fs::exists(parent, error);
       parent = parent.parent_path()) {
    made_parents_.push_back(parent);
  }
  if (!error) fs::create_directories(temporary_, error);
  require(!error, "write folder", "{}: cannot create: {}", temporary_.string(), error.message());
  lock_ = lock_folder(temporary_).held;
}

PendingFolder::~PendingFolder() {
  std::error_code ignored;
  fs::remove_all(temporary_, ignored);
  if (committed_) return;
  for (const fs::path& parent : made_parents_) fs::remove(parent, ignored);  // only when it is empty
}

void PendingFolder::commit(bool replace) {
  std::error_code error;
  for (const auto& entry : fs::recursive_directory_iterator(temporary_)) {
    if (entry.is_regular_file()) sync_to_disk(entry.path());
  }
  sync_to_disk(temporary_);
  const bool exists = fs::exists(final_);
  require(!exists || replace, "write folder", "{}: exists already", final_.string());
  if (exists && exchange(temporary_, final_)) {
    fs::remove_all(temporary_, error);  // the old folder now
  } else {
    move_into_place();
  }
  sync_to_disk(parent_of(final_));
}

// For file systems that cannot exchange two names: the old folder moves aside first, and back if that was for nothing.
void PendingFolder::move_into_place() {
  const fs::path old = final_.string() + ".old-" + std::to_string(::getpid());
  std::error_code error;
  const bool exists = fs::exists(final_);
  if (exists) {
    fs::rename(final_, old, error);
    require(!error, "write folder", "{}: cannot move the old folder away: {}", final_.string(), error.message());
  }
  fs::rename(temporary_, final_, error);
  if (error && exists) {
    std::error_code ignored;
    fs::rename(old, final_, ignored);
  }
  require(!error, "write folder", "{}: cannot rename into place: {}", final_.string(), error.message());
  if (exists) fs::remove_all(old, error);
  committed_ = true;
}

}  // namespace halftone
