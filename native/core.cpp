// Memory of a call, and the choice of the instruction set.
#include "core.h"

#include <cstdlib>

#include "isa.h"

namespace {

constexpr int64_t SLACK = 64;  // values behind a buffer that a whole register may read

bool has(int32_t isa) {
#if defined(QNN_X86) && (defined(__GNUC__) || defined(__clang__))
    if (isa == QNN_AVX2) {
        __builtin_cpu_init();
        return __builtin_cpu_supports("avx2") != 0;
    }
#endif
    return isa == QNN_PORTABLE;
}

}  // namespace

QNN_EXPORT int32_t qnn_interface() { return QNN_INTERFACE; }

QNN_EXPORT int32_t qnn_best_isa() { return has(QNN_AVX2) ? QNN_AVX2 : QNN_PORTABLE; }

QNN_EXPORT int32_t qnn_run(const QnnRun* run, int32_t isa) {
    if (!has(isa)) return 2;
    const int64_t values = run->arena + run->scratch + 2 * SLACK;
    auto* arena = static_cast<int16_t*>(std::malloc(static_cast<size_t>(values) * sizeof(int16_t)));
    if (arena == nullptr) return 1;
    int16_t* scratch = arena + run->arena + SLACK;
#if defined(QNN_X86)
    if (isa == QNN_AVX2)
        qnn_run_avx2(*run, arena, scratch);
    else
#endif
        qnn_run_portable(*run, arena, scratch);
    std::free(arena);
    return 0;
}
