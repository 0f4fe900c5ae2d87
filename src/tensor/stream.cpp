#include "tensor/stream.h"

namespace halftone {

Stream& default_stream() {
  static ThreadPool pool;
  static Stream stream{&pool, Device::kCpu};
  return stream;
}

}  // namespace halftone
