#include "backend/cuda/device_uploader.h"

#include <algorithm>
#include <cstring>

#include "backend/cuda/pinned_memory.h"

namespace halftone::cuda {
namespace {

constexpr std::string_view kWhere = "cuda upload";

}  // namespace

// Two pieces: one is read while the other one is copied.
class DeviceUploader::Lane {
 public:
  explicit Lane(std::size_t bytes) : pieces_{Piece(bytes), Piece(bytes)} {}

  // Memory that no copy reads any more.
  char* begin() {
    turn_ = 1 - turn_;
    pieces_[turn_].copied.wait();
    return pieces_[turn_].memory.data<char>();
  }
  // What was read into it is on its way to the device.
  void end(cudaStream_t stream) { pieces_[turn_].copied.record(stream); }

 private:
  struct Piece {
    explicit Piece(std::size_t bytes) : memory(bytes) {}
    PinnedMemory memory;
    DeviceEvent copied;
  };
  Piece pieces_[2];
  int turn_ = 0;
};

DeviceUploader::DeviceUploader(const DeviceStream& stream, int threads, std::size_t piece_bytes)
    : stream_(stream), piece_(piece_bytes), pool_(threads), lanes_(static_cast<std::size_t>(pool_.size())) {}

DeviceUploader::~DeviceUploader() {
  cudaStreamSynchronize(stream_.launch().stream);
  cudaFree(scratch_);
}

void DeviceUploader::read(const Rows& rows, std::size_t begin, std::size_t end, char* out) {
  while (begin < end) {
    const std::size_t row = begin / rows.pitch, col = begin % rows.pitch;
    const std::size_t count = std::min(rows.pitch - col, end - begin);
    const std::size_t held = col < rows.width ? std::min(rows.width - col, count) : 0;
    if (held > 0) std::memcpy(out, rows.source + row * rows.width + col, held);
    std::memset(out + held, 0, count - held);
    out += count;
    begin += count;
  }
}

void DeviceUploader::copy_pieces(const Rows& rows, Lane& lane, std::atomic<std::size_t>& next,
                                 const Inspect& inspect) const {
  const cudaStream_t stream = stream_.launch().stream;
  for (std::size_t begin = piece_ * next++; begin < rows.bytes; begin = piece_ * next++) {
    const std::size_t count = std::min(piece_, rows.bytes - begin);
    char* piece = lane.begin();
    read(rows, begin, begin + count, piece);
    if (inspect) inspect({reinterpret_cast<const std::uint8_t*>(piece), count});
    check(cudaMemcpyAsync(rows.target + begin, piece, count, cudaMemcpyHostToDevice, stream), kWhere);
    lane.end(stream);
  }
}

void DeviceUploader::copy_rows(void* target, std::size_t pitch, const void* source, std::size_t width,
                               std::int64_t count, const Inspect& inspect) {
  Rows rows{static_cast<char*>(target), static_cast<const char*>(source), pitch, width,
            pitch * static_cast<std::size_t>(count)};
  if (rows.bytes == 0) return;
  bytes_ += static_cast<std::int64_t>(width) * count;
  if (pitch == width) rows.pitch = rows.width = rows.bytes;
  const std::size_t pieces = (rows.bytes + piece_ - 1) / piece_;
  std::atomic<std::size_t> next{0};
  pool_.parallel_for(static_cast<std::int64_t>(std::min(pieces, lanes_.size())), [&](std::int64_t i) {
    std::unique_ptr<Lane>& lane = lanes_[static_cast<std::size_t>(i)];
    if (!lane) lane = std::make_unique<Lane>(piece_);
    copy_pieces(rows, *lane, next, inspect);
  });
}

const void* DeviceUploader::upload(const Tensor& tensor, DeviceArena& arena) {
  if (!tensor.defined()) return nullptr;
  const auto bytes = static_cast<std::size_t>(tensor.nbytes());
  void* target = arena.allocate(bytes);
  copy(target, tensor.raw(), bytes);
  return target;
}

const float* DeviceUploader::upload_floats(const Tensor& tensor, DeviceArena& arena) {
  require(!tensor.defined() || tensor.dtype() == DType::kF32, arena.name(), "expected F32, got {}",
          dtype_name(tensor.dtype()));
  return static_cast<const float*>(upload(tensor, arena));
}

void* DeviceUploader::scratch(std::size_t bytes) {
  if (bytes <= scratch_bytes_) return scratch_;
  stream_.synchronize();
  check(cudaFree(std::exchange(scratch_, nullptr)), kWhere);
  scratch_bytes_ = 0;
  check(cudaMalloc(&scratch_, bytes), kWhere);
  scratch_bytes_ = bytes;
  return scratch_;
}

}  // namespace halftone::cuda
