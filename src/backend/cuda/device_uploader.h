#pragma once
// Weights on their way from host memory to the device: threads copy pieces of them into pinned memory (which reads the pages
// of a mapped file in parallel), and each piece goes to the device while the next one is read.

#include <atomic>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "backend/cuda/device_arena.h"
#include "backend/cuda/launch.h"
#include "base/thread_pool.h"
#include "tensor/tensor.h"

namespace halftone::cuda {

class DeviceUploader {
 public:
  static constexpr std::size_t kPieceBytes = std::size_t{1} << 20;

  // Everything goes over `stream`, which must outlive this. threads = 0: all cores. A thread takes two pieces of pinned
  // memory when it first has something to copy; they are given back with the uploader.
  explicit DeviceUploader(const DeviceStream& stream, int threads = 0, std::size_t piece_bytes = kPieceBytes);
  // Waits for the copies.
  ~DeviceUploader();
  DeviceUploader(const DeviceUploader&) = delete;
  DeviceUploader& operator=(const DeviceUploader&) = delete;

  // Looks at a piece on its way, on any thread; what it throws is thrown by the copy.
  using Inspect = std::function<void(std::span<const std::uint8_t>)>;
  // The source has been read when they return; the target holds it for what is put on the stream afterwards.
  void copy(void* target, const void* source, std::size_t bytes, const Inspect& inspect = {}) {
    copy_rows(target, bytes, source, bytes, 1, inspect);
  }
  // Rows of `width` bytes, one after another, to rows that begin `pitch` bytes apart and end in zeros.
  void copy_rows(void* target, std::size_t pitch, const void* source, std::size_t width, std::int64_t rows,
                 const Inspect& inspect = {});

  // A tensor's elements as they are; null for an undefined tensor. The second throws Error unless they are f32.
  const void* upload(const Tensor& tensor, DeviceArena& arena);
  const float* upload_floats(const Tensor& tensor, DeviceArena& arena);

  // Memory of the device for what is brought into another order there. What is put on the stream after the next call may
  // write it.
  void* scratch(std::size_t bytes);

  const DeviceStream& stream() const { return stream_; }
  // Copied so far, without what fills rows.
  std::int64_t bytes() const { return bytes_; }

 private:
  // The pinned memory of one thread.
  class Lane;
  struct Rows {
    char* target;
    const char* source;
    std::size_t pitch, width;
    std::size_t bytes;  // of the target
  };

  void copy_pieces(const Rows& rows, Lane& lane, std::atomic<std::size_t>& next, const Inspect& inspect) const;
  // Bytes [begin, end) of the target.
  static void read(const Rows& rows, std::size_t begin, std::size_t end, char* out);

  const DeviceStream& stream_;
  std::size_t piece_;
  ThreadPool pool_;
  std::vector<std::unique_ptr<Lane>> lanes_;
  void* scratch_ = nullptr;
  std::size_t scratch_bytes_ = 0;
  std::int64_t bytes_ = 0;
};

}  // namespace halftone::cuda
