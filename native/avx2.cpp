// The kernels for AVX2, compiled with -mavx2.
#include "isa.h"
#if defined(QNN_X86)
#include "lanes_avx2.h"
// The lanes come first: the kernels are written over them.
#include "kernels.h"

void qnn_run_avx2(const QnnRun& run, int16_t* arena, int16_t* scratch) {
    run_samples(run, arena, scratch);
}
#endif
