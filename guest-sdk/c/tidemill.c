// The implementation of tidemill.h as a file of its own: for languages that are not C.

#define TIDEMILL_IMPLEMENTATION
#include "tidemill.h"
