#if defined(__x86_64__)
#define LANES 16
#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma")))
#define FUNCTIONS avx512_functions
#include "vectors.h"
#endif
