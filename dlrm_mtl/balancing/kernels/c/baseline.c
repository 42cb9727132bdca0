/* For every processor of the architecture. */

#define LANES 4
#define TARGET
#define FUNCTIONS baseline_functions
#include "vectors.h"
