// Memory of a call, and the choice of the instruction set.
#include "core.h"

#include <cstdlib>

#include "isa.h"

namespace {

constexpr int64_t SLACK = 64;  // values behind a buffer that a whole register may read

struct Isa {
    int32_t lanes;
    void (*run)(const QnnRun& run, int16_t* arena, int16_t* scratch);
};

#if defined(QNN_EMULATED)
#define QNN_HAS(feature) true
#elif defined(__GNUC__) || defined(__clang__)
#define QNN_HAS(feature) (__builtin_cpu_init(), __builtin_cpu_supports(feature) != 0)
#else
#define QNN_HAS(feature) false
#endif

Isa choose(int32_t isa) {
    switch (isa) {
        case QNN_PORTABLE:
            return {8, qnn_run_portable};
#if defined(QNN_ARM)
        case QNN_NEON:
            return {8, qnn_run_neon};
#endif
#if defined(QNN_X86)
        case QNN_AVX2:
            if (QNN_HAS("avx2")) return {8, qnn_run_avx2};
            break;
        case QNN_AVX512:
            if (QNN_HAS("avx512bw") && QNN_HAS("avx512vl") && QNN_HAS("avx512vnni"))
                return {16, qnn_run_avx512};
            break;
#endif
    }
    return {0, nullptr};
}

}  // namespace

QNN_EXPORT int32_t qnn_interface() { return QNN_INTERFACE; }

QNN_EXPORT int32_t qnn_lanes(int32_t isa) { return choose(isa).lanes; }

QNN_EXPORT int32_t qnn_run(const QnnRun* run, int32_t isa) {
    const Isa chosen = choose(isa);
    if (chosen.run == nullptr) return 2;
    const int64_t values = run->arena + run->scratch + 2 * SLACK;
    auto* arena = static_cast<int16_t*>(std::malloc(static_cast<size_t>(values) * sizeof(int16_t)));
    if (arena == nullptr) return 1;
    chosen.run(*run, arena, arena + run->arena + SLACK);
    std::free(arena);
    return 0;
}
