// One function an instruction set, each compiled with its own flags. QNN_EMULATED builds all of them
// over a library of emulated intrinsics, for tests on a processor without them.
#pragma once

#include "core.h"

#if defined(__x86_64__) || defined(_M_X64) || defined(QNN_EMULATED)
#define QNN_X86 1
#endif
#if defined(__aarch64__) || defined(_M_ARM64) || defined(QNN_EMULATED)
#define QNN_ARM 1
#endif

// `arena` and `scratch` have slack behind them for reads of whole registers. What is read there, or
// behind the end of an activation, is multiplied by zero or not stored.
void qnn_run_portable(const QnnRun& run, int16_t* arena, int16_t* scratch);
#if defined(QNN_ARM)
void qnn_run_neon(const QnnRun& run, int16_t* arena, int16_t* scratch);
#endif
#if defined(QNN_X86)
void qnn_run_avx2(const QnnRun& run, int16_t* arena, int16_t* scratch);
void qnn_run_avx512(const QnnRun& run, int16_t* arena, int16_t* scratch);
#endif
