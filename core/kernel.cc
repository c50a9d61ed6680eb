#include "core/kernel.h"
