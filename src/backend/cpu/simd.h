#pragma once
// Which instruction sets the kernels are compiled for. Every file with code for several of them includes this before
// Highway: AVX2 and AVX-512 (BW) on x86, NEON on Arm, and a portable one that runs anywhere.

#if defined(__x86_64__)
#define HWY_DISABLED_TARGETS 0x7cff
#else
#define HWY_DISABLED_TARGETS 0xf000000
#endif

// Behind the parameters of a lambda that must become part of its caller's loop.
#define HALFTONE_INLINE_LAMBDA __attribute__((always_inline))
