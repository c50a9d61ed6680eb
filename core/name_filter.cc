#include "core/name_filter.h"
