#include "core/codec.h"
