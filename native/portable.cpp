// The kernels for any processor.
#include "lanes_portable.h"
// The lanes come first: the kernels are written over them.
#include "isa.h"
#include "kernels.h"

void qnn_run_portable(const QnnRun& run, int16_t* arena, int16_t* scratch) {
    run_samples(run, arena, scratch);
}
