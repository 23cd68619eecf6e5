// Error messages and signatures of exported functions.
#pragma once

#include "arrays.h"

namespace gdcore::bindings {

/// Gives every function and class of the module and its submodules a signature that `inspect` understands, and routes
/// errors about arguments through gdcore.internal.arguments. Called after all bindings, which need not declare
/// anything.
void explain_calls(py::module_& m);

}  // namespace gdcore::bindings
