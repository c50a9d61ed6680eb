#include "core/statistic.h"
