#pragma once
// Barriers in shared memory between warps that produce and warps that consume, compute capability 9.0 and up.

#include <cuda_runtime.h>

#include <cstdint>

namespace halftone::cuda {

// Its phases end one after another, each when `count` arrivals have come.
class SharedBarrier {
 public:
  __device__ void start(int count) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(address()), "r"(count) : "memory");
  }
  __device__ __forceinline__ void arrive() {
    asm volatile("{.reg .b64 state; mbarrier.arrive.shared::cta.b64 state, [%0];}" ::"r"(address()) : "memory");
  }
  // Arrives, and lets the phase end when `bytes` more have been copied, too.
  __device__ __forceinline__ void arrive_and_expect(int bytes) {
    asm volatile("{.reg .b64 state; mbarrier.arrive.expect_tx.shared::cta.b64 state, [%0], %1;}" ::"r"(address()),
                 "r"(bytes)
                 : "memory");
  }
  // Starts a copy to shared memory that this barrier expects: `bytes`, a multiple of 16, between multiples of 16 bytes.
  __device__ __forceinline__ void copy(void* shared, const void* source, int bytes) {
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                     static_cast<std::uint32_t>(__cvta_generic_to_shared(shared))),
                 "l"(source), "r"(bytes), "r"(address())
                 : "memory");
  }
  // The same of a cluster's block `rank`: what lies at `shared` there becomes `values`. Of this block's barrier nothing is used
  // but its place.
  __device__ __forceinline__ void send(int rank, const void* shared, const float4& values) {
    asm volatile(
        "{.reg .u32 target, barrier;\n"
        "mapa.shared::cluster.u32 target, %0, %6;\n"
        "mapa.shared::cluster.u32 barrier, %1, %6;\n"
        "st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.f32 [target], {%2, %3, %4, %5}, [barrier];}" ::"r"(
            static_cast<std::uint32_t>(__cvta_generic_to_shared(shared))),
        "r"(address()), "f"(values.x), "f"(values.y), "f"(values.z), "f"(values.w), "r"(rank)
        : "memory");
  }
  __device__ __forceinline__ void send(int rank, const void* shared, const float2& values) {
    asm volatile(
        "{.reg .u32 target, barrier;\n"
        "mapa.shared::cluster.u32 target, %0, %4;\n"
        "mapa.shared::cluster.u32 barrier, %1, %4;\n"
        "st.async.shared::cluster.mbarrier::complete_tx::bytes.v2.f32 [target], {%2, %3}, [barrier];}" ::"r"(
            static_cast<std::uint32_t>(__cvta_generic_to_shared(shared))),
        "r"(address()), "f"(values.x), "f"(values.y), "r"(rank)
        : "memory");
  }
  // Waits for the end of phase 0, 2, ... (parity 0) or 1, 3, ... (parity 1), whichever of the last two it is.
  __device__ __forceinline__ void wait(int parity) {
    asm volatile(
        "{.reg .pred done;\n"
        "again: mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
        "@done bra.uni finished;\n"
        "bra.uni again;\n"
        "finished: }" ::"r"(address()),
        "r"(parity)
        : "memory");
  }

 private:
  __device__ __forceinline__ std::uint32_t address() const {
    return static_cast<std::uint32_t>(__cvta_generic_to_shared(&state_));
  }
  std::uint64_t state_;
};

// Barriers that were started can be used by copies.
__device__ __forceinline__ void publish_barriers() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

// All threads of a cluster come to wait_in_cluster() after all have come to arrive_in_cluster(). Barriers published before are
// there behind it; nothing else is said of what was written.
__device__ __forceinline__ void arrive_in_cluster() {
  asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
}
__device__ __forceinline__ void wait_in_cluster() {
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}

// Barriers of a whole block by number, 1 to 15, for `threads` threads that wait or arrive.
__device__ __forceinline__ void wait_at(int number, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(number), "r"(threads) : "memory");
}
// wait_at(1 + number), number below kMost, by numbers that the compiler sees: where it does not, a block takes all sixteen.
template <int kMost, int kNumber = 0>
__device__ __forceinline__ void wait_at_one_of(int number, int threads) {
  if (number == kNumber) {
    asm volatile("bar.sync %0, %1;" ::"n"(kNumber + 1), "r"(threads) : "memory");
  } else if constexpr (kNumber + 1 < kMost) {
    wait_at_one_of<kMost, kNumber + 1>(number, threads);
  }
}
__device__ __forceinline__ void arrive_at(int number, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(number), "r"(threads) : "memory");
}

}  // namespace halftone::cuda
