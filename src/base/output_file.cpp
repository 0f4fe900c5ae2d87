#include "base/output_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>

#include "base/error.h"

namespace halftone {
namespace {

// Files of this process that are being written: they share the window.
std::atomic<std::int64_t> open_files{0};
constexpr std::int64_t kLeastWindow = 1 << 20;

// A system call again until no signal interrupts it.
template <typename Call>
int retried(Call call) {
  int result = 0;
  do {
    result = call();
  } while (result != 0 && errno == EINTR);
  return result;
}

}  // namespace

OutputFile::OutputFile(std::filesystem::path path, std::int64_t size) : path_(std::move(path)) {
  fd_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd_ < 0) refuse("create", size, errno);
  ++open_files;
  if (size == 0) return;
  // not posix_fallocate: where the file system cannot reserve, it would write every block instead
  if (retried([&] { return ::fallocate(fd_, 0, 0, size); }) == 0) return;
  int error = errno;
  if (error == EOPNOTSUPP || error == ENOSYS) {
    if (retried([&] { return ::ftruncate(fd_, size); }) == 0) return;
    error = errno;
  }
  close();
  refuse("reserve", size, error);
}

OutputFile::~OutputFile() {
  if (fd_ >= 0) close();
}

int OutputFile::close() {
  --open_files;
  const int fd = fd_;
  fd_ = -1;
  return ::close(fd);
}

void OutputFile::refuse(const char* what, std::int64_t bytes, int error) const {
  fail("write file", "{}: cannot {} {} bytes: {}", path_.string(), what, bytes, std::strerror(error));
}

void OutputFile::write_at(std::int64_t offset, std::span<const std::byte> bytes) {
  const std::int64_t window = std::max(kLeastWindow, kDirtyWindow / open_files);
  while (!bytes.empty()) {
    const std::size_t piece = std::min(bytes.size(), static_cast<std::size_t>(window));
    const ::ssize_t written = ::pwrite(fd_, bytes.data(), piece, offset);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) refuse("write", static_cast<std::int64_t>(bytes.size()), written < 0 ? errno : EIO);
    offset += written;
    bytes = bytes.subspan(static_cast<std::size_t>(written));
    since_writeback_ += written;
    if (since_writeback_ >= window) start_writeback();
  }
}

// Waits for what was started last time, then starts what has come since. File systems that cannot (tmpfs) have nothing
// to write back; real errors come back from fdatasync.
void OutputFile::start_writeback() {
  since_writeback_ = 0;
  ::sync_file_range(fd_, 0, 0, SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE);
}

void OutputFile::finish() {
  if (retried([&] { return ::fdatasync(fd_); }) != 0) refuse("write", since_writeback_, errno);
  if (close() != 0) refuse("close", since_writeback_, errno);
}

}  // namespace halftone
