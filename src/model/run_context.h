#pragma once

#include "model/observer.h"
#include "model/workspace.h"
#include "ops/norm.h"
#include "tensor/stream.h"

namespace halftone {

// Who runs: threads, buffers, and perhaps somebody who watches.
struct RunContext {
  Stream& stream;
  Workspace& workspace;
  ModelObserver* observer = nullptr;

  void tell_output(std::string_view module, const Tensor& y) const {
    if (observer != nullptr) observer->on_output(module, y);
  }
};

}  // namespace halftone
