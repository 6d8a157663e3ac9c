// The kernels for NEON, which every 64-bit ARM processor has.
#include "isa.h"
#if defined(QNN_ARM)
#include "lanes_neon.h"
// The lanes come first: the kernels are written over them.
#include "kernels.h"

void qnn_run_neon(const QnnRun& run, int16_t* arena, int16_t* scratch) {
    run_samples(run, arena, scratch);
}
#endif
