#if defined(__x86_64__)
#define LANES 8
#define TARGET __attribute__((target("avx2,fma")))
#define FUNCTIONS avx2_functions
#include "vectors.h"
#endif
