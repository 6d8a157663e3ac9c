// One function an instruction set, each compiled with its own flags.
#pragma once

#include "core.h"

// `arena` and `scratch` have slack behind them for reads of whole registers. What is read there, or
// behind the end of an activation, is multiplied by zero or not stored.
void qnn_run_portable(const QnnRun& run, int16_t* arena, int16_t* scratch);
#if defined(__x86_64__) || defined(_M_X64)
#define QNN_X86 1
void qnn_run_avx2(const QnnRun& run, int16_t* arena, int16_t* scratch);
#endif
