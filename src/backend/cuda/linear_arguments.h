#pragma once
// What kernels are given of a LinearWeight and a LinearCall.

#include "backend/cuda/device/linear.h"
#include "backend/cuda/linear.h"

namespace halftone::cuda {

// The weight's half.
LinearArguments weight_arguments(const LinearWeight& weight);
LinearArguments linear_arguments(const LinearWeight& weight, const LinearCall& call);

}  // namespace halftone::cuda
