// Combining what parts of a command changed.
// Thread-safety: pure functions.
#pragma once

#include "master/state/state_machine.h"

namespace cairn::master {

void AppendEffects(Effects from, Effects* to);
// Keeps the first of equal items in each list.
void RemoveDuplicates(Effects* effects);

}  // namespace cairn::master
