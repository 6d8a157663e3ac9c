// The kernels for AVX-512, compiled with -mavx512bw -mavx512vl -mavx512vnni.
#include "isa.h"
#if defined(QNN_X86)
#include "lanes_avx512.h"
// The lanes come first: the kernels are written over them.
#include "kernels.h"

void qnn_run_avx512(const QnnRun& run, int16_t* arena, int16_t* scratch) {
    run_samples(run, arena, scratch);
}
#endif
