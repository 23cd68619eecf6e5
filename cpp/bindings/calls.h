// What a call of an exported function says when its arguments do not fit.
#pragma once

#include "arrays.h"

namespace gdcore::bindings {

/// Gives every function and class of the module and its submodules a signature that `inspect` understands, and lets
/// gdcore._arguments put together what is said of arguments that do not fit. Called when everything is bound: nothing
/// has to be declared for it.
void explain_calls(py::module_& m);

}  // namespace gdcore::bindings
